//! A script: events, and what each is expected to lead to.

use rotation::{Event, State, invariants, step};

use crate::words::*;

/// A state that is told events and says what it became.
pub(crate) struct Script {
    pub(crate) state: State,
    now: i64,
}

impl Script {
    pub(crate) fn from(state: State) -> Self {
        Self { state, now: 1_000 }
    }

    /// The event leads to the state of this line.
    pub(crate) fn then(mut self, event: Event, expected: &str) -> Self {
        let transition = step(&self.state, &event, at(self.now), &policy()).unwrap();
        assert!(transition.changes(&self.state), "{} changed nothing", event.name());
        invariants::check_next(&self.state, &transition.next).unwrap();
        let pending: Vec<_> =
            transition.next.pending.iter().map(|pending| &pending.effect).collect();
        assert!(
            transition.effects.iter().all(|effect| pending.contains(&effect)),
            "what is decided is owed"
        );
        assert_eq!(line(&transition.next), expected, "after {}", event.name());
        self.state = transition.next;
        self
    }

    /// The event was done before.
    pub(crate) fn nothing_new(self, event: Event) -> Self {
        let transition = step(&self.state, &event, at(self.now), &policy()).unwrap();
        assert_eq!(line(&transition.next), line(&self.state), "after {}", event.name());
        assert_eq!((&transition.next, transition.effects.len()), (&self.state, 0));
        self
    }

    /// The event is refused with this text.
    pub(crate) fn refuses(self, event: Event, text: &str) -> Self {
        let refusal = step(&self.state, &event, at(self.now), &policy()).unwrap_err();
        assert_eq!(refusal.to_string(), text);
        assert_eq!(
            (refusal.generation, refusal.event.as_str()),
            (self.state.generation, event.name())
        );
        self
    }

    pub(crate) fn at(self, now: i64) -> Self {
        Self { now, ..self }
    }
}
