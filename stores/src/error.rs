//! What can become of a call.

use crate::{Key, Version};

/// Why nothing was read. What could not be read is never reported as missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The engine did not answer, or answered with an error.
    #[error("the store did not answer: {reason}")]
    Failed {
        /// The engine, what it said, and what can be done.
        reason: String,
    },
    /// Something is there that this program did not write.
    #[error("{key} cannot be read: {reason}")]
    Unreadable {
        /// What the engine calls the place.
        key: String,
        /// What is wrong, and what can be done.
        reason: String,
    },
}

/// Why a write did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The key is not at the version that was expected. Nothing was written; read what is there.
    #[error("{key} was written by somebody else: {}", found.as_ref().map_or_else(
        || "it is not there any more".to_owned(),
        |found| format!("it is at version {found}"),
    ))]
    Conflict {
        /// The key.
        key: Key,
        /// The version that is there; `None` if nothing is.
        found: Option<Version>,
    },
    /// Nothing was written, for sure.
    #[error("{key} was not written: {reason}")]
    Failed {
        /// The key.
        key: Key,
        /// The engine, what it said, and what can be done.
        reason: String,
    },
    /// It was written or not. Only reading the key again tells.
    #[error("it is unknown whether {key} was written: {reason}")]
    Unknown {
        /// The key.
        key: Key,
        /// The engine, and what it said.
        reason: String,
    },
}

impl WriteError {
    /// That nothing was written.
    pub fn failed(key: &Key, reason: impl Into<String>) -> Self {
        Self::Failed { key: key.clone(), reason: reason.into() }
    }

    /// That it is unknown whether something was.
    pub fn unknown(key: &Key, reason: impl Into<String>) -> Self {
        Self::Unknown { key: key.clone(), reason: reason.into() }
    }

    /// That somebody else was first.
    pub fn conflict(key: &Key, found: Option<Version>) -> Self {
        Self::Conflict { key: key.clone(), found }
    }
}
