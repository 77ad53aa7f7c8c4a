//! How the words of `trust` are written in the record; they know nothing of serde themselves.

use std::fmt::Display;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serializer, de};

/// A value as its text.
pub(crate) mod text {
    use super::*;

    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A value that may be missing, as its text.
pub(crate) mod optional_text {
    use super::*;

    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(de::Error::custom)).transpose()
    }
}

/// The name of a phase or of an event. Journals have the names of the first release, so that they can be replayed.
pub(crate) mod first_name {
    use super::*;

    /// The present name and the first one, where they differ.
    const RENAMED: [(&str, &str); 2] =
        [("bootstrapping", "founding"), ("bootstrap_requested", "founding_requested")];

    pub(crate) fn serialize<S: Serializer>(name: &str, serializer: S) -> Result<S::Ok, S::Error> {
        let renamed = RENAMED.iter().find(|(present, _)| *present == name);
        serializer.serialize_str(renamed.map_or(name, |(_, first)| first))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<String, D::Error> {
        let name = String::deserialize(deserializer)?;
        let renamed = RENAMED.iter().find(|(_, first)| *first == name);
        Ok(renamed.map_or(name, |(present, _)| (*present).to_owned()))
    }
}

/// A map whose keys are written as text; a key that comes twice is refused.
pub(crate) mod text_keys {
    use std::collections::BTreeMap;

    use serde::Serialize;

    use super::*;

    pub(crate) fn serialize<K: Display, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(map.iter().map(|(key, value)| (key.to_string(), value)))
    }

    pub(crate) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: FromStr<Err: Display> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        let written = BTreeMap::<String, V>::deserialize(deserializer)?;
        let mut map = BTreeMap::new();
        for (key, value) in written {
            let parsed = key.parse().map_err(de::Error::custom)?;
            if map.insert(parsed, value).is_some() {
                return Err(de::Error::custom(format_args!("key {key} comes twice")));
            }
        }
        Ok(map)
    }
}

/// A set whose members are written as text.
pub(crate) mod text_set {
    use std::collections::BTreeSet;

    use super::*;

    pub(crate) fn serialize<T: Display, S: Serializer>(
        set: &BTreeSet<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(set.iter().map(ToString::to_string))
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<BTreeSet<T>, D::Error>
    where
        T: FromStr<Err: Display> + Ord,
        D: Deserializer<'de>,
    {
        let written = Vec::<String>::deserialize(deserializer)?;
        written.iter().map(|text| text.parse().map_err(de::Error::custom)).collect()
    }
}

/// The name of the trust domain.
pub(crate) mod trust_domain {
    use trust::TrustDomain;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        domain: &TrustDomain,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(domain.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<TrustDomain, D::Error> {
        TrustDomain::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $module:ident, $type:path, $number:ty, $write:expr, $read:expr) => {
        $(#[$doc])*
        pub(crate) mod $module {
            use super::*;

            pub(crate) fn serialize<S: Serializer>(value: &$type, serializer: S) -> Result<S::Ok, S::Error> {
                serde::Serialize::serialize(&$write(value), serializer)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                <$number>::deserialize(deserializer).map($read)
            }
        }
    };
}

number! {
    /// A time in seconds since the Unix epoch.
    seconds, trust::Timestamp, i64, |time: &trust::Timestamp| time.as_secs(), trust::Timestamp::from_secs
}
number! {
    /// A bundle's sequence.
    sequence, trust::Sequence, u64, |sequence: &trust::Sequence| sequence.0, trust::Sequence
}
number! {
    /// The record's generation.
    generation, trust::Generation, u64, |generation: &trust::Generation| generation.0, trust::Generation
}

/// A generation that may be missing.
pub(crate) mod optional_generation {
    use trust::Generation;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        generation: &Option<Generation>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serde::Serialize::serialize(&generation.map(|generation| generation.0), serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Generation>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Generation))
    }
}

/// A time that may be missing.
pub(crate) mod optional_seconds {
    use trust::Timestamp;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serde::Serialize::serialize(&time.map(Timestamp::as_secs), serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<i64>::deserialize(deserializer)?.map(Timestamp::from_secs))
    }
}

/// Times by root, or by another key that is written as text.
pub(crate) mod bounds {
    use std::collections::BTreeMap;

    use trust::Timestamp;

    use super::*;

    pub(crate) fn serialize<K: Display, S: Serializer>(
        bounds: &BTreeMap<K, Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(bounds.iter().map(|(key, time)| (key.to_string(), time.as_secs())))
    }

    pub(crate) fn deserialize<'de, K, D>(
        deserializer: D,
    ) -> Result<BTreeMap<K, Timestamp>, D::Error>
    where
        K: FromStr<Err: Display> + Ord,
        D: Deserializer<'de>,
    {
        let written: BTreeMap<K, i64> = text_keys::deserialize(deserializer)?;
        Ok(written.into_iter().map(|(key, secs)| (key, Timestamp::from_secs(secs))).collect())
    }
}

/// Certificates by replica.
pub(crate) mod signers {
    use std::collections::BTreeMap;

    use trust::CertificateId;

    use super::*;
    use crate::ReplicaName;

    pub(crate) fn serialize<S: Serializer>(
        signers: &BTreeMap<ReplicaName, CertificateId>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(signers.iter().map(|(who, id)| (who.as_str(), id.to_string())))
    }

    pub(crate) fn deserialize<'de, D>(
        deserializer: D,
    ) -> Result<BTreeMap<ReplicaName, CertificateId>, D::Error>
    where
        D: Deserializer<'de>,
    {
        let written: BTreeMap<ReplicaName, String> = text_keys::deserialize(deserializer)?;
        let parsed =
            written.into_iter().map(|(who, id)| id.parse().map(|id: CertificateId| (who, id)));
        parsed.collect::<Result<_, _>>().map_err(de::Error::custom)
    }
}

/// Generations by segment.
pub(crate) mod seals {
    use std::collections::BTreeMap;

    use trust::Generation;

    use super::*;
    use crate::SegmentId;

    pub(crate) fn serialize<S: Serializer>(
        seals: &BTreeMap<SegmentId, Generation>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            seals.iter().map(|(segment, generation)| (segment.to_string(), generation.0)),
        )
    }

    pub(crate) fn deserialize<'de, D>(
        deserializer: D,
    ) -> Result<BTreeMap<SegmentId, Generation>, D::Error>
    where
        D: Deserializer<'de>,
    {
        let written: BTreeMap<SegmentId, u64> = text_keys::deserialize(deserializer)?;
        Ok(written
            .into_iter()
            .map(|(segment, generation)| (segment, Generation(generation)))
            .collect())
    }
}
