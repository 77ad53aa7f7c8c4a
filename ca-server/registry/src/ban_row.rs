//! A ban as it is stored, and whom it is about.
//!
//! Bans of names, identities, keys and single leaves lie in one space. The id of a name is the name itself, as ever; those of the others have a
//! colon, which no name has. They always say whether they end, so that a release that knows bans of names alone reads none of them for one: it
//! says that it cannot read the row.

use std::fmt;

use serde::{Deserialize, Serialize};
use trust::{CertificateId, Cover, Serial, SpkiHash, Timestamp};

use crate::rows::BanRow;

const IDENTITY: &str = "identity:";
const KEY: &str = "key:";
const LEAF: &str = "leaf:";
const ISSUER: &str = "issuer:";

/// Whom a ban is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum BanSubject {
    /// The agent of this name, or for who joins with a JWT every agent of the identity with this path.
    Agent(String),
    /// A workload's identity, or all below a path; never the CA's own names and those of agents.
    Identity(Cover),
    /// Whoever has this key.
    Key(SpkiHash),
    /// One leaf, by its serial number: it was revoked, and stays so until nobody can take it for valid.
    Leaf(Serial),
    /// One issuer, whose key may be somebody else's too: it is distrusted until its certificate is over.
    Issuer(CertificateId),
}

/// A ban.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Form", into = "Form")]
pub struct Ban {
    /// Who said so, why, and when.
    pub word: BanRow,
    /// When it is over; `None` for never.
    pub until: Option<Timestamp>,
    /// The agent that reports about the leaf, of one that was revoked.
    pub agent: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    by: String,
    reason: String,
    at: i64,
    #[serde(default)]
    until: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
}

impl BanSubject {
    /// The id of its row.
    pub fn id(&self) -> String {
        match self {
            Self::Agent(name) => name.clone(),
            Self::Identity(cover) => format!("{IDENTITY}{cover}"),
            Self::Key(key) => format!("{KEY}{key}"),
            Self::Leaf(serial) => format!("{LEAF}{serial}"),
            Self::Issuer(issuer) => format!("{ISSUER}{issuer}"),
        }
    }

    /// Whom the row with this id is about; `None` for an id that no release wrote.
    pub fn of_id(id: &str) -> Option<Self> {
        if let Some(cover) = id.strip_prefix(IDENTITY) {
            return Cover::parse(cover).ok().map(Self::Identity);
        }
        if let Some(key) = id.strip_prefix(KEY) {
            return key.parse().ok().map(Self::Key);
        }
        if let Some(issuer) = id.strip_prefix(ISSUER) {
            return issuer.parse().ok().map(Self::Issuer);
        }
        if let Some(digits) = id.strip_prefix(LEAF) {
            let number = u128::from_str_radix(digits, 16).ok()?;
            return Serial::from_bytes(&number.to_be_bytes()).map(Self::Leaf);
        }
        (!id.contains(':')).then(|| Self::Agent(id.to_owned()))
    }

    /// The options of `banyan ban` that name it.
    pub fn options(&self) -> String {
        match self {
            Self::Agent(name) => format!("--agent {name}"),
            Self::Identity(cover) => format!("--identity '{cover}'"),
            Self::Key(key) => format!("--key {key}"),
            Self::Leaf(serial) => format!("--leaf {serial}"),
            Self::Issuer(issuer) => format!("--issuer {issuer}"),
        }
    }
}

impl fmt::Display for BanSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(name) => write!(f, "agent {name}"),
            Self::Identity(cover) => write!(f, "identity {cover}"),
            Self::Key(key) => write!(f, "key {key}"),
            Self::Leaf(serial) => write!(f, "leaf {serial}"),
            Self::Issuer(issuer) => write!(f, "issuer {issuer}"),
        }
    }
}

impl Ban {
    /// Until somebody lifts it.
    pub const fn for_good(word: BanRow) -> Self {
        Self { word, until: None, agent: None }
    }

    /// Whether it still stands.
    pub fn stands(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// As it is stored under this id: a ban of a name that does not end is written as ever.
    ///
    /// # Errors
    /// What JSON cannot hold.
    pub(crate) fn body(&self, id: &str) -> serde_json::Result<Vec<u8>> {
        match (BanSubject::of_id(id), self.until) {
            (Some(BanSubject::Agent(_)), None) => serde_json::to_vec(&self.word),
            _ => serde_json::to_vec(self),
        }
    }
}

impl From<Ban> for Form {
    fn from(ban: Ban) -> Self {
        let BanRow { by, reason, at } = ban.word;
        let until = ban.until.map(Timestamp::as_secs);
        Self { by, reason, at: at.as_secs(), until, agent: ban.agent }
    }
}

impl From<Form> for Ban {
    fn from(form: Form) -> Self {
        let Form { by, reason, at, until, agent } = form;
        let word = BanRow { by, reason, at: Timestamp::from_secs(at) };
        Self { word, until: until.map(Timestamp::from_secs), agent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ban(until: Option<i64>) -> Ban {
        let word = BanRow {
            by: "ann".to_owned(),
            reason: "stolen".to_owned(),
            at: Timestamp::from_secs(5),
        };
        Ban { word, until: until.map(Timestamp::from_secs), agent: None }
    }

    #[test]
    fn whom_a_ban_is_about_is_in_its_id_and_no_name_of_an_agent_is_taken_for_another() {
        let subjects = [
            BanSubject::Agent("ns/shop/sa/web".to_owned()),
            BanSubject::Identity(Cover::parse("spiffe://example.org/ns/shop/*").unwrap()),
            BanSubject::Key(SpkiHash::of(b"key")),
            BanSubject::Leaf(Serial::from_bytes(&[0x41; 16]).unwrap()),
            BanSubject::Issuer(CertificateId::of(b"issuer")),
        ];
        for subject in subjects {
            assert_eq!(BanSubject::of_id(&subject.id()), Some(subject));
        }
        for odd in ["identity:", "identity:web", "key:ab", "leaf:41", "issuer:x", "other:x"] {
            assert_eq!(BanSubject::of_id(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_former_release_reads_bans_of_names_as_ever_and_takes_no_other_for_one() {
        let key = format!("key:{}", SpkiHash::of(b"key"));
        let read_by_former = |id: &str, until| {
            serde_json::from_slice::<BanRow>(&ban(until).body(id).unwrap()).is_ok()
        };
        assert!(read_by_former("node-1", None));
        // It counts as banned there, without an end.
        assert!(!read_by_former("node-1", Some(9)));
        assert!(!read_by_former(&key, None) && !read_by_former(&key, Some(9)));
        for until in [None, Some(9)] {
            for id in ["node-1", &key] {
                let body = ban(until).body(id).unwrap();
                assert_eq!(serde_json::from_slice::<Ban>(&body).unwrap(), ban(until));
            }
        }
    }
}
