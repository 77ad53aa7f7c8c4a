//! Names that the machine is given and only compares: requests, authorities, replicas, segments, keys.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest name in bytes. Names are file names, log fields and parts of plugin requests elsewhere.
pub const NAME_BYTES_MAX: usize = 128;

/// A name that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a {kind} is 1 to {NAME_BYTES_MAX} characters of A-Z, a-z, 0-9, '.', '_', '-', and starts with a letter or a digit"
)]
pub struct BadName {
    kind: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a name of letters, digits, `.`, `_` and `-` that starts with a letter or a digit.
            ///
            /// # Errors
            /// [`BadName`] for any other text.
            pub fn parse(text: &str) -> Result<Self, BadName> {
                if is_name(text) { Ok(Self(text.into())) } else { Err(BadName { kind: $kind }) }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, BadName> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;

            fn try_from(text: String) -> Result<Self, BadName> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }
    };
}

name! {
    /// Id of one request, chosen by whoever makes it: the same id again is the same request, and is done once.
    RequestId, "request id"
}
name! {
    /// A configured root authority: one instance of a plugin.
    AuthorityName, "authority name"
}
impl AuthorityName {
    /// How the names of neighbors begin: CAs whose roots are trusted beside ours, and which never sign for us.
    pub const NEIGHBOR: &str = "neighbor.";

    /// The name of a neighbor of the configuration.
    ///
    /// # Errors
    /// [`BadName`] where it makes no name.
    pub fn of_neighbor(name: &str) -> Result<Self, BadName> {
        Self::parse(&format!("{}{name}", Self::NEIGHBOR))
    }

    /// Which neighbor it is, if it is one.
    pub fn neighbor(&self) -> Option<&str> {
        self.as_str().strip_prefix(Self::NEIGHBOR)
    }
}

name! {
    /// A replica of the CA; the name stays over restarts.
    ReplicaName, "replica name"
}
name! {
    /// A segment of the ledger: one incarnation of one replica. Never used twice.
    SegmentId, "segment id"
}
name! {
    /// A private key at its key backend.
    KeyName, "key name"
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    text.len() <= NAME_BYTES_MAX
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_a_file_name_and_nothing_more() {
        for good in ["a", "7", "ca-1", "ca-1.2026_11", &"x".repeat(NAME_BYTES_MAX)] {
            assert_eq!(SegmentId::parse(good).unwrap().as_str(), good);
        }
        for bad in
            ["", ".", "..", "-x", "a/b", "a b", "ä", "a\0", "a\n", &"x".repeat(NAME_BYTES_MAX + 1)]
        {
            assert!(SegmentId::parse(bad).is_err(), "{bad:?}");
        }
    }
}
