//! Names of what is stored, and bounds.

use std::fmt;
use std::sync::Arc;

/// Longest id within a space, in bytes.
pub const ID_BYTES_MAX: usize = 512;
/// Largest value, in bytes. An object of Kubernetes holds about 1 MiB, a request to etcd 1.5 MiB by default; what grows
/// beyond is many keys.
pub const VALUE_BYTES_MAX: usize = 768 * 1024;

/// Who may read a value where the engine can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sensitivity {
    /// Whoever may look at how the CA does.
    Plain,
    /// The CA alone: sealed keys, hashes of tokens. A Secret in Kubernetes.
    Secret,
}

/// A kind of keys: all rows of one table, such as `agents`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Space {
    name: &'static str,
    sensitivity: Sensitivity,
}

impl Space {
    /// A space. Its name is a part of names in every engine: 1 to 32 of `a-z`, `0-9` and `-`, with a letter or digit at
    /// both ends.
    ///
    /// # Panics
    /// When the name is another, at compile time where it is a constant.
    #[must_use]
    pub const fn new(name: &'static str, sensitivity: Sensitivity) -> Self {
        let rest = name.as_bytes();
        assert!(!rest.is_empty() && rest.len() <= 32, "a space's name has 1 to 32 characters");
        let (mut left, mut ends_in_dash, mut first) = (rest, false, true);
        while let [byte, others @ ..] = left {
            let dash = *byte == b'-';
            assert!(
                dash || byte.is_ascii_lowercase() || byte.is_ascii_digit(),
                "a space's name has a-z, 0-9 and - alone"
            );
            assert!(!(first && dash), "a space's name begins with a letter or digit");
            (ends_in_dash, first) = (dash, false);
            left = others;
        }
        assert!(!ends_in_dash, "a space's name ends with a letter or digit");
        Self { name, sensitivity }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Who may read it.
    pub const fn sensitivity(&self) -> Sensitivity {
        self.sensitivity
    }

    /// The key with this id in it.
    ///
    /// # Errors
    /// [`InvalidKey`].
    pub fn key(self, id: impl Into<String>) -> Result<Key, InvalidKey> {
        Key::new(self, id.into())
    }
}

/// Where a value is: a space, and an id in it. Ids are ordered by their bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    space: Space,
    id: String,
}

/// Why an id is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// It is empty.
    #[error("an id in {space} is empty")]
    Empty {
        /// The space.
        space: &'static str,
    },
    /// It is too long.
    #[error("an id in {space} has {bytes} bytes, at most {ID_BYTES_MAX} are allowed")]
    TooLong {
        /// The space.
        space: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// It has control characters.
    #[error("the id {id:?} in {space} has control characters")]
    Control {
        /// The space.
        space: &'static str,
        /// The id.
        id: String,
    },
}

impl Key {
    fn new(space: Space, id: String) -> Result<Self, InvalidKey> {
        match id.len() {
            0 => return Err(InvalidKey::Empty { space: space.name }),
            bytes @ 513.. => return Err(InvalidKey::TooLong { space: space.name, bytes }),
            1..=ID_BYTES_MAX => {}
        }
        if id.chars().any(char::is_control) {
            return Err(InvalidKey::Control { space: space.name, id });
        }
        Ok(Self { space, id })
    }

    /// Its space.
    pub const fn space(&self) -> Space {
        self.space
    }

    /// Its id within the space.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.space.name, self.id)
    }
}

/// Which writing of a key a value comes from. No two writings of one key have the same, also when the key was deleted
/// between them. What is in it is the engine's own affair: versions are compared for equality and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version(Arc<str>);

impl Version {
    /// What an engine calls it.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// What the engine calls it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENTS: Space = Space::new("agents", Sensitivity::Plain);

    #[test]
    fn an_id_is_bounded_and_has_no_control_characters() {
        assert_eq!(
            AGENTS.key("a/b c\u{fc}").map(|key| key.to_string()),
            Ok("agents/a/b c\u{fc}".to_owned())
        );
        assert!(AGENTS.key("x".repeat(ID_BYTES_MAX)).is_ok());
        let long = AGENTS.key("x".repeat(ID_BYTES_MAX + 1));
        assert_eq!(long, Err(InvalidKey::TooLong { space: "agents", bytes: ID_BYTES_MAX + 1 }));
        assert_eq!(AGENTS.key(""), Err(InvalidKey::Empty { space: "agents" }));
        for id in ["a\nb", "\0", "\u{7f}"] {
            assert!(matches!(AGENTS.key(id), Err(InvalidKey::Control { .. })), "{id:?}");
        }
    }

    #[test]
    fn a_space_with_another_name_is_refused() {
        for name in ["", "-a", "a-", "A", "a/b", "a_b", "abcdefghijklmnopqrstuvwxyzabcdefg"] {
            assert!(
                std::panic::catch_unwind(|| Space::new(name, Sensitivity::Plain)).is_err(),
                "{name}"
            );
        }
        assert_eq!(Space::new("issuer-requests", Sensitivity::Secret).name(), "issuer-requests");
    }
}
