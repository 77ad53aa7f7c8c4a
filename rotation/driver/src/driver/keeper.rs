//! The keeper of the record: it believes its memory only as long as every write had a known outcome.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rotation::record::{self, RecordError};
use rotation::{Event, PendingEffect, Policy, State, Transition, invariants, step};
use tokio::sync::watch;
use trust::{Clock, Generation, Timestamp, TrustDomain};

use super::start_error::StartError;
use crate::{
    Duty, Former, JournalEntry, Outcome, RecordStore, StoreError, SubmitError, Word, Write,
};

/// How long to wait before the record is read again after its content became unknown.
pub(super) const UNKNOWN_RELOAD_PAUSE: Duration = Duration::from_millis(500);

/// How many events that changed nothing are remembered, so that each is journaled once.
const NOTED_MAX: usize = 16;

/// How often an event is judged anew because another writer was first: of servers that start at once each writes several
/// times, and a slow one loses many races to them.
const CONFLICTS_MAX: usize = 64;

/// Holds the state, and what is known about the store.
#[derive(Debug)]
pub(super) struct Keeper {
    trust_domain: TrustDomain,
    store: Arc<dyn RecordStore>,
    clock: Arc<dyn Clock>,
    policy: Policy,
    /// The last state that was known to be stored.
    published: watch::Sender<Arc<State>>,
    /// Whether something else may be stored by now.
    unknown: bool,
    /// Who else reads the record.
    duty: Option<watch::Receiver<Duty>>,
    /// The last events that changed nothing and were journaled, for this generation: whoever repeats himself is not
    /// written down again.
    noted: (Generation, VecDeque<(Event, Word)>),
}

/// What a write came to, once nothing about it is unknown.
enum Landed {
    /// It is stored.
    Stored(Arc<State>),
    /// Something else is stored; the event has to be judged anew.
    Overtaken,
}

impl Keeper {
    pub(super) async fn load(
        trust_domain: TrustDomain,
        store: Arc<dyn RecordStore>,
        clock: Arc<dyn Clock>,
        policy: Policy,
    ) -> Result<Self, StartError> {
        let state = read(store.as_ref(), &trust_domain).await?;
        let phase = state.phase.name();
        tracing::info!(
            generation = state.generation.0,
            phase,
            pending = state.pending.len(),
            "record loaded"
        );
        Ok(Self {
            trust_domain,
            store,
            clock,
            policy,
            published: watch::Sender::new(Arc::new(state)),
            unknown: false,
            duty: None,
            noted: (Generation(0), VecDeque::new()),
        })
    }

    /// From now on the record stays such that every registered server can read it.
    pub(super) fn share_with(&mut self, duty: watch::Receiver<Duty>) {
        self.duty = Some(duty);
    }

    /// That no server which reads the record as it is could not read it any more.
    fn stays_readable(&self, former: &State, next: &State) -> Result<(), SubmitError> {
        let oldest = self.duty.as_ref().and_then(|duty| duty.borrow().former.clone());
        let (had, format) = (record::format_of(former), record::format_of(next));
        match oldest {
            Some(Former { replica, reads }) if format > reads && format > had => {
                Err(SubmitError::TooNew { format, replica, reads })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.published.subscribe()
    }

    pub(super) const fn is_unknown(&self) -> bool {
        self.unknown
    }

    pub(super) fn owes(&self, pending: &PendingEffect) -> bool {
        self.published.borrow().pending.contains(pending)
    }

    /// Judges an event, and stores what comes of it.
    pub(super) async fn take(
        &mut self,
        event: &Event,
        word: &Word,
    ) -> Result<Arc<State>, SubmitError> {
        for _ in 0..CONFLICTS_MAX {
            let state = self.known().await?;
            let at = self.clock.now();
            let said = Said { event, word, at };
            let transition = match step(&state, event, at, &self.policy) {
                Ok(transition) if transition.changes(&state) => transition,
                Ok(_) => {
                    if is_all_journal(event) {
                        let entry = self.entry(&state, said, Outcome::Unchanged);
                        return self.append(&entry).await.map(|()| state);
                    }
                    if is_news(event) && self.is_new(&state, event, word) {
                        self.note(self.entry(&state, said, Outcome::Unchanged)).await;
                    }
                    return Ok(state);
                }
                Err(refusal) => {
                    match word.by.is_empty() {
                        // Of servers that ask for the same at once one is first; what is wrong is told by whoever asked.
                        true => tracing::info!(%refusal, "event refused"),
                        false => tracing::warn!(%refusal, by = word.by, "event refused"),
                    }
                    if self.is_new(&state, event, word) {
                        let outcome = Outcome::Refused((*refusal).clone());
                        self.note(self.entry(&state, said, outcome)).await;
                    }
                    return Err(SubmitError::Refused(refusal));
                }
            };
            invariants::check_next(&state, &transition.next).map_err(|violation| {
                tracing::error!(%violation, event = event.name(), "an event would have broken a rule");
                SubmitError::Violation(violation)
            })?;
            match self.write(&state, said, transition).await? {
                Landed::Stored(next) => return Ok(next),
                Landed::Overtaken => {}
            }
        }
        Err(SubmitError::Contended)
    }

    /// Whether this event was not journaled yet while the record was as it is: bounded, the oldest is forgotten.
    fn is_new(&mut self, state: &State, event: &Event, word: &Word) -> bool {
        let (generation, noted) = &mut self.noted;
        if *generation != state.generation {
            *generation = state.generation;
            noted.clear();
        }
        if noted.iter().any(|(known, whose)| known == event && whose == word) {
            return false;
        }
        if noted.len() >= NOTED_MAX {
            noted.pop_front();
        }
        noted.push_back((event.clone(), word.clone()));
        true
    }

    /// Reads the record again, if its content is unknown; an error leaves it unknown.
    pub(super) async fn try_reload(&mut self) {
        if let Err(error) = self.known().await {
            tracing::warn!(%error, "the record cannot be read again yet");
        }
    }

    /// Reads what another server may have written.
    pub(super) async fn look(&mut self) {
        self.unknown = true;
        self.try_reload().await;
    }

    /// The state that is stored now, as far as this process can know.
    async fn known(&mut self) -> Result<Arc<State>, SubmitError> {
        if self.unknown {
            let state =
                read(self.store.as_ref(), &self.trust_domain).await.map_err(
                    |error| match error {
                        StartError::Store(error) => SubmitError::NotStored(error),
                        StartError::Record(error) => SubmitError::Unreadable(Arc::new(error)),
                        StartError::Write(error) => error,
                    },
                )?;
            self.adopt(state);
        }
        Ok(self.published.borrow().clone())
    }

    fn adopt(&mut self, state: State) -> Arc<State> {
        self.unknown = false;
        let state = Arc::new(state);
        self.published.send_if_modified(|former| {
            let changed = **former != *state;
            *former = Arc::clone(&state);
            changed
        });
        state
    }

    async fn write(
        &mut self,
        former: &State,
        said: Said<'_>,
        transition: Transition,
    ) -> Result<Landed, SubmitError> {
        let Transition { next, effects } = transition;
        self.stays_readable(former, &next)?;
        let unwritable = |error| SubmitError::Unreadable(Arc::new(error));
        let record = record::encode(&next).map_err(unwritable)?;
        let entry = self.entry(former, said, Outcome::Changed { effects });
        let journal = entry.encode().map_err(|error| unwritable(RecordError::Unwritable(error)))?;
        let write = Write {
            expected: (former.generation != Generation(0)).then_some(former.generation),
            generation: next.generation,
            record: record.clone(),
            journal,
        };
        match self.store.compare_and_swap(write).await {
            Ok(()) => {
                log_change(said.event, &next);
                Ok(Landed::Stored(self.adopt(next)))
            }
            Err(StoreError::Conflict { .. }) => {
                self.unknown = true;
                Ok(Landed::Overtaken)
            }
            Err(error) => self.settle(former, &next, error).await,
        }
    }

    /// After a write that failed: memory counts for nothing, what is stored decides.
    async fn settle(
        &mut self,
        former: &State,
        attempted: &State,
        error: StoreError,
    ) -> Result<Landed, SubmitError> {
        tracing::error!(%error, generation = attempted.generation.0, "writing the record failed; reading it again");
        self.unknown = true;
        let Ok(stored) = self.known().await else {
            return Err(match error {
                StoreError::Unknown { .. } => SubmitError::Unknown(error),
                sure => SubmitError::NotStored(sure),
            });
        };
        if *stored == *attempted {
            Ok(Landed::Stored(stored))
        } else if *stored == *former {
            Err(SubmitError::NotStored(error))
        } else {
            Ok(Landed::Overtaken)
        }
    }

    /// Journals an event that changed nothing. The answer is true without it, so a failure is only reported.
    async fn note(&self, entry: JournalEntry) {
        if let Err(error) = self.append(&entry).await {
            let event = entry.event.name();
            tracing::error!(%error, event, "an event that changed nothing is missing in the journal");
        }
    }

    /// Journals an event that leaves the record alone.
    async fn append(&self, entry: &JournalEntry) -> Result<(), SubmitError> {
        let unwritable = |error| SubmitError::Unreadable(Arc::new(RecordError::Unwritable(error)));
        let bytes = entry.encode().map_err(unwritable)?;
        self.store.append(bytes).await.map_err(|error| match error {
            StoreError::Unknown { .. } => SubmitError::Unknown(error),
            sure => SubmitError::NotStored(sure),
        })
    }

    fn entry(&self, state: &State, said: Said<'_>, outcome: Outcome) -> JournalEntry {
        JournalEntry {
            at_secs: said.at.as_secs(),
            generation: state.generation.0,
            policy: self.policy,
            event: said.event.clone(),
            outcome,
            by: said.word.by.clone(),
            reason: said.word.reason.clone(),
        }
    }
}

/// An event, in whose name it was given, and when it was taken.
#[derive(Clone, Copy)]
struct Said<'a> {
    event: &'a Event,
    word: &'a Word,
    at: Timestamp,
}

/// Reads the record. A missing one is the state before the first event; an unreadable one is an error.
async fn read(store: &dyn RecordStore, trust_domain: &TrustDomain) -> Result<State, StartError> {
    let Some(stored) = store.load().await? else {
        return Ok(State::uninitialised(trust_domain.clone()));
    };
    let state = record::decode(&stored.record)?;
    if state.trust_domain != *trust_domain {
        let (found, configured) = (state.trust_domain, trust_domain.clone());
        return Err(RecordError::OtherTrustDomain { found, configured }.into());
    }
    if state.generation != stored.generation {
        let (inside, outside) = (state.generation, stored.generation);
        return Err(RecordError::OtherGeneration { inside, outside }.into());
    }
    Ok(state)
}

/// Evidence comes all the time, and a start that found nothing to count anew says nothing: both are of interest only
/// when they move something.
const fn is_news(event: &Event) -> bool {
    !matches!(event, Event::EvidenceReported { .. } | Event::DriverStarted)
}

/// What moves nothing and is there for the journal alone. Each counts: the same word twice is two words, and one that is
/// not written was not given.
const fn is_all_journal(event: &Event) -> bool {
    matches!(event, Event::ClockAccepted { .. } | Event::OperatorActed { .. })
}

/// Horizon steps come all day and say nothing to an operator.
fn log_change(event: &Event, next: &State) {
    let (generation, event_name, phase) = (next.generation.0, event.name(), next.phase.name());
    if matches!(event, Event::HorizonRequested { .. } | Event::ProbesRequested { .. }) {
        tracing::debug!(generation, event = event_name, phase, "state stored");
    } else {
        tracing::info!(generation, event = event_name, phase, "state stored");
    }
}
