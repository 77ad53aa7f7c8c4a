//! How the rest of the process talks to the driver.

use std::sync::Arc;

use rotation::invariants::Violation;
use rotation::record::RecordError;
use rotation::{Event, Refusal, ReplicaName, State};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{RecordStore, StoreError, Trouble, Word};

/// How many events may wait. A full queue makes submitters wait; it drops nothing.
pub const QUEUE_EVENTS_MAX: usize = 64;

/// Why a submitted event did not lead to a stored state.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubmitError {
    /// The machine refused it: the state did not move, and the text says what would be legal.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// It is not stored, for sure. The former state stays; submit again.
    #[error("nothing changed: {0}")]
    NotStored(StoreError),
    /// It may be stored or not: the store does not answer. The last known state is served on; submit the same event
    /// again, which does nothing twice.
    #[error("it is unknown whether the change was stored: {0}")]
    Unknown(StoreError),
    /// What is stored cannot be read. The last known state is served on.
    #[error("nothing changed: {0}")]
    Unreadable(Arc<RecordError>),
    /// Other writers were first again and again. Nothing changed; submit again.
    #[error("nothing changed: other replicas wrote the record at the same time; try again")]
    Contended,
    /// A server that is registered could not read the record any more.
    #[error(
        "nothing changed: the record would come to format {format}, and server {replica} reads it up to {reads}: start \
         {replica} with this release or a newer one, or `banyan replica remove {replica} --reason TEXT` if it is gone for good"
    )]
    TooNew {
        /// What the record would come to.
        format: u32,
        /// Who could not read it.
        replica: ReplicaName,
        /// What it reads.
        reads: u32,
    },
    /// The machine would have broken a rule of its own: a fault in this program. Nothing changed.
    #[error(
        "nothing changed, because the machine broke a rule of its own, which is a fault to report: {0}"
    )]
    Violation(Violation),
    /// The driver has stopped. The event may have been the last one that it took.
    #[error("the driver has stopped; the process is shutting down")]
    Stopped,
}

/// A handle to the driver. Clones are the same driver; it stops when the last one is gone.
#[derive(Debug, Clone)]
pub struct DriverHandle {
    pub(crate) events: mpsc::Sender<Submission>,
    pub(crate) state: watch::Receiver<Arc<State>>,
    pub(crate) troubles: watch::Receiver<Arc<[Trouble]>>,
    pub(crate) store: Arc<dyn RecordStore>,
}

/// An event on its way to the driver.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) event: Event,
    /// Whose request it is, for the journal.
    pub(crate) word: Word,
    pub(crate) answer: oneshot::Sender<Result<Arc<State>, SubmitError>>,
}

impl DriverHandle {
    /// Gives an event to the machine and waits until its outcome is durable: the cost is one write of the store.
    ///
    /// Dropping the call after it was queued does not take the event back.
    ///
    /// # Errors
    /// A [`SubmitError`] that is true of what is stored.
    pub async fn submit(&self, event: Event) -> Result<Arc<State>, SubmitError> {
        self.submit_by(event, "").await
    }

    /// As [`submit`](Self::submit), and the journal says who wanted it; empty when it was this process.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_by(&self, event: Event, by: &str) -> Result<Arc<State>, SubmitError> {
        self.submit_as(event, by.into()).await
    }

    /// As [`submit`](Self::submit), and the journal says who wanted it and why. What an operator did outside of the record
    /// ([`Event::OperatorActed`]) is written each time, and an error says that it is not.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_as(&self, event: Event, word: Word) -> Result<Arc<State>, SubmitError> {
        let (answer, outcome) = oneshot::channel();
        let submission = Submission { event, word, answer };
        self.events.send(submission).await.map_err(|_| SubmitError::Stopped)?;
        outcome.await.map_err(|_| SubmitError::Stopped)?
    }

    /// Reads up to `limit` entries of the journal from index `from` on, oldest first, as
    /// [`JournalEntry`](crate::JournalEntry) reads them.
    ///
    /// # Errors
    /// [`StoreError::Failed`]; nothing changed.
    pub async fn journal(
        &self,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.store.journal(from, limit).await
    }

    /// The last state that is known to be stored.
    pub fn state(&self) -> Arc<State> {
        self.state.borrow().clone()
    }

    /// Tells of every later state; a slow watcher sees the latest only.
    pub fn changes(&self) -> watch::Receiver<Arc<State>> {
        self.state.clone()
    }

    /// Effects that failed and are tried again, for `status`. Empty when all is well.
    pub fn troubles(&self) -> watch::Receiver<Arc<[Trouble]>> {
        self.troubles.clone()
    }
}
