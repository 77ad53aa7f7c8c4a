//! Errors of plugins, each variant by what the caller does next.

use std::time::Duration;

use thiserror::Error;
use trust::Timestamp;

use crate::call::RequestId;
use crate::checks::Unsafe;
use crate::key_id::KeyId;
use crate::state::StateError;

/// Why an authority did not answer.
///
/// The core never gives up the present for an error: the old root keeps signing whatever is returned here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PluginError {
    /// Asked too often. The caller repeats the call, with the same request id, after `retry_after`.
    #[error("the authority asks to wait {} s before the next request", retry_after.as_secs())]
    RateLimited {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Something passing: a reset connection, a lost answer. The caller repeats the call with backoff.
    #[error("{detail}; it is tried again")]
    Transient {
        /// What happened.
        detail: String,
    },
    /// The authority understood and refused. Repeating changes nothing until a human acts.
    #[error("the authority refused: {reason}")]
    Denied {
        /// The authority's reason.
        reason: String,
    },
    /// The issuer would outlive what stands above it. The caller may ask again, under another request id, for one that
    /// ends by `ends`.
    #[error("{above} ends at {ends}, before the issuer would")]
    Outlives {
        /// The certificate that ends first, and where it is.
        above: String,
        /// When it ends.
        ends: Timestamp,
    },
    /// The authority cannot be reached or is sealed. The caller repeats slowly and raises an alarm.
    #[error("the authority is down: {detail}")]
    AuthorityDown {
        /// What was tried and what came back.
        detail: String,
    },
    /// A setting is wrong in a way that only use could show. The caller pauses until the configuration changes.
    #[error("setting `{field}` is wrong: {detail}")]
    Misconfigured {
        /// The setting, as written in the configuration file.
        field: String,
        /// What is wrong, and what to write instead.
        detail: String,
    },
    /// It will never work as asked; the detail says what to do. Never repeated.
    #[error("{detail}")]
    Permanent {
        /// What failed, and what to do about it.
        detail: String,
    },
    /// The answer came, and failed our checks. The caller pauses with the reason and never uses the answer.
    #[error("the authority's answer is not safe to use: {0}")]
    Unsafe(#[from] Unsafe),
}

impl PluginError {
    /// A refusal for this reason.
    pub fn denied(reason: impl Into<String>) -> Self {
        Self::Denied { reason: reason.into() }
    }

    /// The refusal of a request whose id another request had.
    pub fn reused(id: &RequestId) -> Self {
        Self::denied(format!("request id {id} was used for something else; use a new one"))
    }

    /// Whether the same call, repeated later without anybody's help, may succeed.
    pub fn may_be_repeated(&self) -> bool {
        matches!(
            self,
            Self::RateLimited { .. } | Self::Transient { .. } | Self::AuthorityDown { .. }
        )
    }
}

/// Why a key backend did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no such key, or it was destroyed. Repeating changes nothing.
    #[error("there is no key {id} in this backend")]
    NotFound {
        /// The key asked for.
        id: KeyId,
    },
    /// The key, or this backend, cannot do what was asked (for example another algorithm than the key's).
    #[error("{detail}")]
    Unsupported {
        /// What was asked, and what would work.
        detail: String,
    },
    /// The backend understood and refused. Repeating changes nothing until a human acts.
    #[error("the key backend refused: {reason}")]
    Denied {
        /// The backend's reason.
        reason: String,
    },
    /// Something passing. The caller repeats the call with backoff.
    #[error("{detail}; it is tried again")]
    Transient {
        /// What happened.
        detail: String,
    },
    /// More calls are waiting than the backend takes. Nothing was done; the caller repeats the call, with the same
    /// request id, after `retry_after`.
    #[error("the key backend is busy and asks to wait {} ms before the next call", retry_after.as_millis())]
    Busy {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The backend cannot be reached or is locked. The caller repeats slowly and raises an alarm.
    #[error("the key backend is down: {detail}")]
    BackendDown {
        /// What was tried and what came back.
        detail: String,
    },
    /// It will never work as asked; the detail says what to do. Never repeated.
    #[error("{detail}")]
    Permanent {
        /// What failed, and what to do about it.
        detail: String,
    },
}

impl From<StateError> for PluginError {
    fn from(error: StateError) -> Self {
        Self::Transient { detail: error.to_string() }
    }
}

impl From<KeyError> for PluginError {
    fn from(error: KeyError) -> Self {
        let detail = error.to_string();
        match error {
            KeyError::Denied { reason } => Self::Denied { reason },
            KeyError::Transient { detail } => Self::Transient { detail },
            KeyError::Busy { retry_after } => Self::RateLimited { retry_after },
            KeyError::BackendDown { .. } => Self::AuthorityDown { detail },
            KeyError::NotFound { .. }
            | KeyError::Unsupported { .. }
            | KeyError::Permanent { .. } => Self::Permanent { detail },
        }
    }
}
