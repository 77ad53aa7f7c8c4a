//! The one function that moves the machine.

mod advice;
mod bootstrap;
mod canary;
mod decide;
mod distrust;
mod draft;
mod further;
mod guards;
mod horizon;
mod issuer;
mod passage;
mod prune;
mod recovery;
mod replica;
mod root;
mod segment;
mod settling;
mod sighting;
mod staging;
mod standby;
mod switch;
mod verbs;
mod watch;

use trust::Timestamp;

use self::decide::decide;
use crate::{Effect, Event, Policy, Refusal, State};

pub use advice::legal;

/// What an event leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transition {
    /// The state after it: one generation later, or the same state when the event changed nothing.
    pub next: State,
    /// What this event decided to do; all of it is in `next.pending` too.
    pub effects: Vec<Effect>,
}

impl Transition {
    /// Whether there is something to store. An event that was done before changes nothing.
    pub fn changes(&self, former: &State) -> bool {
        self.next.generation != former.generation
    }
}

/// Takes `event` in `state` at the time `now`.
///
/// The same event again, in a state that has it done already, changes nothing and is no refusal.
///
/// # Errors
/// A [`Refusal`] that says why the event is not legal here and what would make it so. Nothing changes then.
pub fn step(
    state: &State,
    event: &Event,
    now: Timestamp,
    policy: &Policy,
) -> Result<Transition, Box<Refusal>> {
    match decide(state, event, now, policy) {
        Ok(Some(draft)) => Ok(Transition { next: draft.state, effects: draft.effects }),
        Ok(None) => Ok(Transition { next: state.clone(), effects: Vec::new() }),
        Err(cause) => {
            let advice = advice::Place { state, now, policy }.advice(event, &cause);
            Err(Box::new(Refusal::new(state, event, cause, advice)))
        }
    }
}
