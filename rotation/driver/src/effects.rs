//! The port to the world: whoever performs what the machine decided.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use rotation::{Event, PendingEffect, State};

/// Performs effects.
///
/// Every effect is performed at least once, and again after a crash, a restart, a failure or a lost answer: doing it
/// again must come to the same. [`idempotence_key`](rotation::Effect::idempotence_key) is the key to make a root or a
/// private key under, so that asking again makes no second one. Effects run beside each other and in no order;
/// what must come first, the machine waits for.
#[async_trait]
pub trait Effects: Send + Sync + Debug {
    /// Performs an effect and answers with the event that its documentation names.
    ///
    /// `state` is the stored state when the attempt began; it is that of `pending.generation` or a later one. The
    /// call may be dropped at any await, when the process stops or the effect is no longer wanted, and after a
    /// minute, which counts as [`EffectError::Unavailable`]. It must not block the thread.
    ///
    /// # Errors
    /// Every error is tried again, after a pause that grows; none changes the state.
    async fn perform(&self, state: &State, pending: &PendingEffect) -> Result<Event, EffectError>;
}

/// Why an effect is not done yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EffectError {
    /// It goes on elsewhere: an authority that is offline, or waits for a person. No fault.
    #[error("not done yet: {reason}")]
    NotYet {
        /// What it waits for.
        reason: String,
        /// When to ask again.
        retry_after: Duration,
    },
    /// It did not work this time. Asked again after 0.2 s, then twice as long each time, at most 30 s.
    #[error("unavailable: {reason}")]
    Unavailable {
        /// What did not work.
        reason: String,
    },
    /// It will not work until somebody changes something: a refusal of the authority, an answer that did not pass the
    /// checks. Asked again after 5 s, then twice as long each time, at most 5 min.
    #[error("refused: {reason}")]
    Refused {
        /// What was refused, and what to change.
        reason: String,
    },
}

/// An effect that did not work at the first attempt and is not done yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What is to be done.
    pub pending: PendingEffect,
    /// How many attempts failed.
    pub attempts: u32,
    /// Why the last one did.
    pub last: EffectError,
}

impl EffectError {
    /// How long to wait after the `attempts`th failed attempt.
    pub(crate) fn pause(&self, attempts: u32) -> Duration {
        let doubled = |first: Duration, longest: Duration| {
            first
                .saturating_mul(1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX))
                .min(longest)
        };
        match self {
            Self::NotYet { retry_after, .. } => {
                (*retry_after).clamp(Duration::from_millis(200), Duration::from_secs(3_600))
            }
            Self::Unavailable { .. } => {
                doubled(Duration::from_millis(200), Duration::from_secs(30))
            }
            Self::Refused { .. } => doubled(Duration::from_secs(5), Duration::from_secs(300)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        let unavailable = EffectError::Unavailable { reason: String::new() };
        let refused = EffectError::Refused { reason: String::new() };
        assert_eq!(
            [1, 2, 3, 40].map(|n| unavailable.pause(n).as_millis()),
            [200, 400, 800, 30_000]
        );
        assert_eq!([1, 2, 40].map(|n| refused.pause(n).as_secs()), [5, 10, 300]);
        let forever = EffectError::NotYet { reason: String::new(), retry_after: Duration::MAX };
        assert_eq!(forever.pause(1), Duration::from_secs(3_600));
    }
}
