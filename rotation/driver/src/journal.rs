//! Entries of the journal: what happened, when, under which policy, and what came of it.

use rotation::{Effect, Event, Policy, Refusal};
use serde::{Deserialize, Serialize};
use trust::{Generation, Timestamp};

/// One event and its outcome. `rotation::step` on the state of `generation` must give the same again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// When the event was taken, in seconds since the Unix epoch.
    pub at_secs: i64,
    /// Generation of the state that took it.
    pub generation: u64,
    /// The policy in force.
    pub policy: Policy,
    /// The event.
    pub event: Event,
    /// What came of it.
    pub outcome: Outcome,
    /// Who wanted it; empty when it was the server itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// Why, in that person's words; empty when nobody said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Who requested an event, for the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Word {
    /// Who wants it; empty when it is the server itself.
    pub by: String,
    /// Why; empty when nobody said.
    pub reason: String,
}

impl From<&str> for Word {
    fn from(by: &str) -> Self {
        Self { by: by.to_owned(), reason: String::new() }
    }
}

/// What came of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The next generation was stored, with these effects decided.
    Changed {
        /// What was decided.
        effects: Vec<Effect>,
    },
    /// It was done before.
    Unchanged,
    /// It was not legal.
    Refused(Refusal),
}

impl JournalEntry {
    /// When the event was taken.
    pub const fn at(&self) -> Timestamp {
        Timestamp::from_secs(self.at_secs)
    }

    /// Generation of the state that took it.
    pub const fn generation(&self) -> Generation {
        Generation(self.generation)
    }

    /// Reads an entry of the journal.
    ///
    /// # Errors
    /// When the bytes are no entry, or one of a newer release.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The bytes of this entry.
    ///
    /// # Errors
    /// Never for entries of this crate; the type of the encoder has one.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}
