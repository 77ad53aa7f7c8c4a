//! The port through which an authority keeps what must survive a restart, and a state in memory that survives none.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use thiserror::Error;

/// Durable bytes by name, for one authority instance.
///
/// # Contract
/// - **Durability.** When `put` returns `Ok`, the bytes survive a crash of the process and of the machine.
/// - **Atomicity.** After a crash or an error, `get` finds the bytes of one whole `put`: the last one, or the one
///   before. After an error the caller cannot know which, and reads again before it decides anything.
/// - **Owner.** One process; the holder of the port sees to that, not the authority.
/// - **Size.** Values are small (below 1 MiB), names few.
#[async_trait]
pub trait AuthorityState: Send + Sync + Debug {
    /// The bytes last put under a name, or none if there never were any.
    ///
    /// # Errors
    /// When bytes may exist but cannot be read. Never answered as "none".
    async fn get(&self, name: &StateName) -> Result<Option<Vec<u8>>, StateError>;

    /// Stores bytes under a name, in place of what was there.
    ///
    /// # Errors
    /// When it is not certain that the bytes are durable: the outcome is unknown, read again.
    async fn put(&self, name: &StateName, contents: &[u8]) -> Result<(), StateError>;

    /// Whether everything that was ever put is still there.
    ///
    /// # Errors
    /// What is gone, and what to do. [`get`](Self::get) and [`put`](Self::put) fail then too: what was lost is never taken
    /// for what never was.
    async fn check(&self) -> Result<(), StateError> {
        Ok(())
    }
}

/// Why state could not be read or stored.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("cannot {operation} the authority's state `{name}`: {detail}")]
pub struct StateError {
    /// `read` or `store`.
    pub operation: &'static str,
    /// The name asked for.
    pub name: String,
    /// What the storage said, and what to do about it.
    pub detail: String,
}

/// The name of one value: `[a-z0-9-]`, so that it is safe as a file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateName(String);

/// A state name that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a state name has 1 to 64 characters of a-z, 0-9 and '-', and starts with a letter")]
pub struct InvalidStateName;

impl StateName {
    /// Longest name, in bytes.
    pub const MAX_LEN: usize = 64;

    /// Takes a name of 1 to 64 characters of `[a-z0-9-]` that starts with a letter.
    ///
    /// # Errors
    /// [`InvalidStateName`] for any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidStateName> {
        let starts_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !starts_well || text.len() > Self::MAX_LEN || !text.bytes().all(allowed) {
            return Err(InvalidStateName);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// State in memory: gone with the process. With the feature `testing` it fails when told to.
#[derive(Debug, Default)]
pub struct MemoryState {
    values: Mutex<BTreeMap<StateName, Vec<u8>>>,
    #[cfg(any(test, feature = "testing"))]
    next_put: Mutex<Option<PutFault>>,
}

/// How a put of [`MemoryState`] goes wrong.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutFault {
    /// The put fails and the old bytes stay.
    FailedNotStored,
    /// The put fails although the new bytes are there.
    FailedButStored,
}

impl MemoryState {
    /// Empty state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the next put go wrong.
    #[cfg(any(test, feature = "testing"))]
    pub fn fail_next_put(&self, fault: PutFault) {
        *self.next_put.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }
}

impl MemoryState {
    fn store(&self, name: &StateName, contents: &[u8]) {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        values.insert(name.clone(), contents.to_vec());
    }
}

#[async_trait]
impl AuthorityState for MemoryState {
    async fn get(&self, name: &StateName) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.values.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned())
    }

    async fn put(&self, name: &StateName, contents: &[u8]) -> Result<(), StateError> {
        #[cfg(any(test, feature = "testing"))]
        if let Some(fault) = self.next_put.lock().unwrap_or_else(PoisonError::into_inner).take() {
            if fault == PutFault::FailedButStored {
                self.store(name, contents);
            }
            let detail = "the fake was told to fail".to_owned();
            return Err(StateError { operation: "store", name: name.to_string(), detail });
        }
        self.store(name, contents);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_put_may_or_may_not_have_stored() {
        let state = MemoryState::new();
        let name = StateName::parse("book").expect("name");
        assert_eq!(state.get(&name).await, Ok(None));
        state.fail_next_put(PutFault::FailedNotStored);
        assert!(state.put(&name, b"one").await.is_err());
        assert_eq!(state.get(&name).await, Ok(None));
        state.fail_next_put(PutFault::FailedButStored);
        assert!(state.put(&name, b"two").await.is_err());
        assert_eq!(state.get(&name).await, Ok(Some(b"two".to_vec())));
        assert_eq!(state.put(&name, b"three").await, Ok(()));
    }

    #[test]
    fn a_state_name_is_safe_as_a_file_name() {
        for wrong in ["", "-a", "1", "a/b", "a.b", "A", &"x".repeat(65)] {
            assert_eq!(StateName::parse(wrong), Err(InvalidStateName), "{wrong:?}");
        }
    }
}
