//! Replays a journal: every entry is judged anew by [`step`], and what comes out must be what the entry says.
//!
//! A journal that replays to the stored record is a proof that the record came about by the rules, one transition after
//! the other, each on the evidence that stands beside it.

use rotation::{Event, Phase, State, invariants, step};
use trust::TrustDomain;

use crate::{JournalEntry, Outcome};

/// What a journal came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// The state after the last entry.
    pub state: State,
    /// Entries that changed the state.
    pub transitions: u64,
    /// Entries that were refused.
    pub refusals: u64,
    /// Entries that changed nothing.
    pub unchanged: u64,
    /// Rotations that came to their end, aborted and rolled back ones included.
    pub rotations: u64,
}

/// Where a journal does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The first entries are gone.
    #[error(
        "the journal begins with entry {first}: what came before is gone, so nothing can be replayed; verify a copy that \
         has all entries"
    )]
    BeginningGone {
        /// Index of the first entry that there is.
        first: u64,
    },
    /// An entry is missing in the middle.
    #[error(
        "entry {expected} is missing, {found} comes in its place: the journal was altered or damaged"
    )]
    Gap {
        /// The index that should come.
        expected: u64,
        /// The index that comes.
        found: u64,
    },
    /// An entry cannot be read.
    #[error("entry {index} cannot be read ({reason}): it is damaged, or of a newer release")]
    Unreadable {
        /// Its index.
        index: u64,
        /// What is wrong.
        reason: String,
    },
    /// An entry says something else than the machine.
    #[error("entry {index} ({event}) does not hold: it says {said}, the machine says {judged}")]
    Differs {
        /// Its index.
        index: u64,
        /// Its event.
        event: &'static str,
        /// What the entry says.
        said: String,
        /// What the machine says.
        judged: String,
    },
}

/// Replays entries in their order, from the state before the first event.
///
/// # Errors
/// A [`ReplayError`] names the first entry that does not hold.
pub fn replay(
    trust_domain: TrustDomain,
    entries: &[(u64, Vec<u8>)],
) -> Result<Replayed, ReplayError> {
    let mut replayed = Replayed {
        state: State::uninitialised(trust_domain),
        transitions: 0,
        refusals: 0,
        unchanged: 0,
        rotations: 0,
    };
    for (expected, (index, bytes)) in (0_u64..).zip(entries) {
        match *index {
            found if found == expected => {}
            first if expected == 0 => return Err(ReplayError::BeginningGone { first }),
            found => return Err(ReplayError::Gap { expected, found }),
        }
        let entry = JournalEntry::decode(bytes).map_err(|error| ReplayError::Unreadable {
            index: *index,
            reason: error.to_string(),
        })?;
        replayed.take(*index, &entry)?;
    }
    Ok(replayed)
}

impl Replayed {
    fn take(&mut self, index: u64, entry: &JournalEntry) -> Result<(), ReplayError> {
        let differs = |said: String, judged: String| ReplayError::Differs {
            index,
            event: entry.event.name(),
            said,
            judged,
        };
        if self.is_late(entry) {
            return Ok(());
        }
        if entry.generation() != self.state.generation {
            let said = format!("generation {}", entry.generation);
            return Err(differs(said, format!("generation {}", self.state.generation)));
        }
        let judged = step(&self.state, &entry.event, entry.at(), &entry.policy);
        match (&entry.outcome, judged) {
            (Outcome::Changed { effects }, Ok(next)) if next.changes(&self.state) => {
                if next.effects != *effects {
                    return Err(differs(format!("{effects:?}"), format!("{:?}", next.effects)));
                }
                invariants::check_next(&self.state, &next.next).map_err(|violation| {
                    differs("a legal state".to_owned(), violation.to_string())
                })?;
                self.transitions += 1;
                let over = self.state.phase.rotation().is_some()
                    && matches!(next.next.phase, Phase::Steady(_));
                self.rotations += u64::from(over);
                self.state = next.next;
            }
            (Outcome::Unchanged, Ok(next)) if !next.changes(&self.state) => self.unchanged += 1,
            (Outcome::Refused(said), Err(judged)) if said.is_same(&judged) => self.refusals += 1,
            (said, judged) => return Err(differs(format!("{said:?}"), in_words(judged))),
        }
        Ok(())
    }

    /// Passes over what a server judged on a record that another had replaced by then. It moved nothing, so nothing rests on
    /// it.
    fn is_late(&mut self, entry: &JournalEntry) -> bool {
        if entry.generation() >= self.state.generation {
            return false;
        }
        match entry.outcome {
            Outcome::Changed { .. } => return false,
            Outcome::Unchanged => self.unchanged += 1,
            Outcome::Refused(_) => self.refusals += 1,
        }
        true
    }
}

fn in_words(judged: Result<rotation::Transition, Box<rotation::Refusal>>) -> String {
    match judged {
        Ok(next) => format!("generation {} with {:?}", next.next.generation, next.effects),
        Err(refusal) => refusal.to_string(),
    }
}

/// Whether an event comes by itself and often, so that whoever reads a journal seldom looks for it.
pub const fn is_routine(event: &Event) -> bool {
    matches!(
        event,
        Event::HorizonRequested { .. }
            | Event::ProbesRequested { .. }
            | Event::SegmentOpened { .. }
            | Event::SegmentSealed { .. }
            | Event::SegmentClosed { .. }
            | Event::DriverStarted
    )
}
