//! Why an event was refused, and what would make it legal. A refusal changes nothing.

use serde::{Deserialize, Serialize};
use trust::Generation;

use crate::codec;
use crate::{Cause, Event, State};

/// An event that is not legal in the present state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{event} refused while {phase} at generation {generation}: {cause}; {}", self.legal())]
pub struct Refusal {
    /// Phase of the state that refused.
    pub phase: String,
    /// Generation of the state that refused.
    #[serde(with = "codec::generation")]
    pub generation: Generation,
    /// Name of the event.
    pub event: String,
    /// Why.
    pub cause: Cause,
}

impl Refusal {
    pub(crate) fn new(state: &State, event: &Event, cause: Cause) -> Self {
        Self {
            phase: state.phase.name().to_owned(),
            generation: state.generation,
            event: event.name().to_owned(),
            cause,
        }
    }

    /// What would make the event legal, or what to do instead.
    pub fn legal(&self) -> String {
        self.cause.legal()
    }
}
