//! What the writer is asked to write, and the proof that a row is durable.

use std::sync::Arc;

use tokio::sync::mpsc::{self, WeakSender};
use tokio::sync::oneshot;
use trust::{Serial, Timestamp};

use crate::error::LedgerError;
use crate::record::{Entry, Record, escape};
use crate::row::{Change, Ended, Row};
use crate::shared::Shared;

/// Something to write.
#[derive(Debug)]
pub(crate) enum Job {
    /// A row, and who waits for it to be durable. When it cannot be stored it leaves the index again.
    Intent {
        at: Timestamp,
        row: Arc<Row>,
        done: oneshot::Sender<Result<DurableIntent, LedgerError>>,
    },
    /// A record nobody waits for. When it cannot be stored it is written with what comes next.
    Later { entry: Entry, not_after: Option<Timestamp> },
    /// Records of a compaction, which waits for all of them.
    Carried { entries: Vec<Entry>, done: oneshot::Sender<Result<(), LedgerError>> },
    /// A record that says nothing, to see whether writes succeed again. When it cannot be stored it is dropped.
    Probe { entry: Entry },
}

impl Job {
    /// Whether somebody waits for it to be durable.
    pub(crate) const fn is_awaited(&self) -> bool {
        !matches!(self, Self::Later { .. })
    }
}

pub(crate) type Queue = mpsc::Sender<Job>;

/// A row that is durable, and so the permission to sign one leaf. Only the ledger makes it, and it is used once.
///
/// Dropping it says that the leaf will not be handed out: the row is abandoned and holds no gate any more. So keep it
/// until the signed leaf is verified, then [`spend`](Self::spend) it; from then on the row counts until it expires.
#[derive(Debug)]
#[must_use = "a dropped intent is abandoned"]
pub struct DurableIntent {
    row: Arc<Row>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    shared: Arc<Shared>,
    // Weak: an intent that somebody keeps does not keep the writer from ending.
    queue: WeakSender<Job>,
}

impl DurableIntent {
    pub(crate) fn new(row: Arc<Row>, shared: Arc<Shared>, queue: WeakSender<Job>) -> Self {
        Self { row, open: Some(Open { shared, queue }) }
    }

    /// Serial number of the leaf that may be signed.
    #[must_use]
    pub fn serial(&self) -> Serial {
        self.row.serial
    }

    /// The row that is durable: the leaf must be exactly this one.
    #[must_use]
    pub fn row(&self) -> &Row {
        &self.row
    }

    /// Uses the permission: the leaf is signed, and may be handed out.
    pub fn spend(mut self) -> Arc<Row> {
        self.open = None;
        Arc::clone(&self.row)
    }

    /// Gives the permission back and says why, from a closed set: no leaf was or will be handed out.
    pub fn abandon(mut self, reason: &'static str) {
        self.give_up(reason);
    }

    /// When there is no room in the queue the record is left out: the row holds no gate now, but would again after
    /// a restart, until it expires. That errs on the safe side.
    fn give_up(&mut self, reason: &str) {
        let Some(Open { shared, queue }) = self.open.take() else { return };
        let serial = self.row.serial;
        shared.index().join(&serial, Change::ended(Ended::Abandoned));
        let entry = shared.entry(Record::Abandoned { serial, reason: escape(reason) });
        let job = Job::Later { entry, not_after: Some(self.row.not_after) };
        if queue.upgrade().is_none_or(|queue| queue.try_send(job).is_err()) {
            shared.counters.lost(1);
        }
    }
}

impl Drop for DurableIntent {
    fn drop(&mut self) {
        self.give_up("dropped");
    }
}
