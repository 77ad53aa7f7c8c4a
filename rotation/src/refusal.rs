//! Why an event was refused, and what would make it legal. A refusal changes nothing.

use std::mem;

use serde::{Deserialize, Serialize};
use trust::Generation;

use crate::codec;
use crate::{Advice, Cause, Event, State};

/// An event that is not legal in the present state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{event} refused while {phase} at generation {generation}: {cause}; {}", self.legal())]
pub struct Refusal {
    /// Phase of the state that refused.
    #[serde(with = "codec::first_name")]
    pub phase: String,
    /// Generation of the state that refused.
    #[serde(with = "codec::generation")]
    pub generation: Generation,
    /// Name of the event.
    #[serde(with = "codec::first_name")]
    pub event: String,
    /// Why.
    pub cause: Cause,
    /// What can be done instead, legal in the state that refused. Entries of former releases have none.
    #[serde(default, skip_serializing_if = "Advice::is_empty")]
    pub advice: Advice,
}

impl Refusal {
    pub(crate) fn new(state: &State, event: &Event, cause: Cause, advice: Advice) -> Self {
        Self {
            phase: state.phase.name().to_owned(),
            generation: state.generation,
            event: event.name().to_owned(),
            cause,
            advice,
        }
    }

    /// What was refused and why, for whoever asked for it, without what to do instead.
    pub fn what(&self) -> String {
        format!("refused while {}: {}", self.phase, self.cause)
    }

    /// What would make the event legal, or what to do instead.
    pub fn legal(&self) -> String {
        self.cause.legal(&self.advice)
    }

    /// Whether the same was refused for the same reason; what is said about it may differ between releases.
    pub fn is_same(&self, other: &Self) -> bool {
        let Self { phase, generation, event, cause, advice: _ } = self;
        let reason = mem::discriminant(cause) == mem::discriminant(&other.cause);
        reason && (phase, generation, event) == (&other.phase, &other.generation, &other.event)
    }
}
