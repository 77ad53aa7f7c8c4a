//! The ledger as the server sees it: rows in, questions answered. Evidence about rows is in `evidence`.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{self, OwnedPermit, error::TrySendError};
use tokio::sync::oneshot;
use trust::{Serial, Timestamp};

use crate::aggregates::Aggregates;
use crate::error::{LedgerError, OpenError};
use crate::index::{Cursor, Page, RowFilter};
use crate::intent::DurableIntent;
use crate::intent::{Job, Queue};
use crate::manifest::SegmentFault;
use crate::record::{AuditRefusal, Record, escape};
use crate::recovery::{self, Recovered};
use crate::refusals::{RefusalGate, Suppressed};
use crate::row::{Ended, LiveRow, Row};
use crate::running::Running;
use crate::segment::{FileId, SegmentId};
use crate::settings::OpenOptions;
use crate::shared::Shared;
use crate::stats::LedgerStats;
use crate::writer::{OpenFile, Writer};

const AGENT_BYTES_MAX: usize = 128;
/// Rows of a group that are dropped while the index is held.
const EXPIRE_MAX: usize = 4_096;

/// The rows of all leaves that may live, those of this incarnation and of the ones before it.
///
/// Share it in an `Arc`. Dropping it writes what is queued and joins the writer's thread, which blocks for about one
/// commit; [`shutdown`](Self::shutdown) does the same without blocking the runtime.
#[derive(Debug)]
pub struct Ledger {
    pub(crate) shared: Arc<Shared>,
    pub(crate) segment: SegmentId,
    /// `None` once it was shut down. Held to clone or take the sender only.
    queue: Mutex<Option<Queue>>,
    writer: Mutex<Option<Running>>,
    refusals: RefusalGate,
    /// What was found wrong with former segments.
    faults: Vec<SegmentFault>,
    /// Held by the one compaction that runs.
    pub(crate) compacting: tokio::sync::Mutex<()>,
}

impl Ledger {
    /// Reads what earlier incarnations left, and opens a segment for this one. Blocks while it reads.
    ///
    /// # Errors
    /// [`OpenError`] when a setting is bad, when the segment was used before, and when any file is not exactly what was
    /// written, but for a write at the very end of a segment that was cut short: that one is cut off and reported.
    pub fn open(options: OpenOptions) -> Result<(Self, Recovered), OpenError> {
        options.settings.check()?;
        let segment = options.segment.clone();
        let (recovered, index, files) = recovery::recover(&options)?;
        let writes_on = options.settings.writes_on;
        let shared = Arc::new(Shared::new(options, index, files));
        let file = FileId { segment: segment.clone(), number: 1 };
        let path = file.path(&shared.dir);
        let file = OpenFile::create(&shared, file).map_err(|source| OpenError::Io {
            operation: "start",
            path: path.clone(),
            source,
        })?;
        let (queue, jobs) = mpsc::channel(shared.settings.queue_len);
        let writer = Writer::new(Arc::clone(&shared), queue.downgrade(), file);
        let writer = Running::start(writes_on, writer.run(jobs))
            .map_err(|source| OpenError::Io { operation: "start a thread for", path, source })?;
        let ledger = Self {
            shared,
            segment,
            queue: Mutex::new(Some(queue)),
            writer: Mutex::new(Some(writer)),
            refusals: RefusalGate::default(),
            compacting: tokio::sync::Mutex::new(()),
            faults: recovered.faults.clone(),
        };
        Ok((ledger, recovered))
    }

    /// The segment of this incarnation.
    #[must_use]
    pub fn segment(&self) -> &SegmentId {
        &self.segment
    }

    /// Stores the row of a leaf that is to be signed, and answers once it is durable.
    ///
    /// The row counts in every aggregate from before it is written, so that no gate opens meanwhile. It leaves them
    /// again only when it is sure that no leaf of it can be signed. Waits while the queue is full. If the caller
    /// goes away in the meantime the row is abandoned as soon as it is durable.
    ///
    /// # Errors
    /// [`LedgerError`]; no leaf may be signed then.
    pub async fn intend(&self, row: Row) -> Result<DurableIntent, LedgerError> {
        if let Some(len) = row.agent.as_ref().map(String::len).filter(|len| *len > AGENT_BYTES_MAX)
        {
            return Err(LedgerError::TooLong { field: "agent name", len, max: AGENT_BYTES_MAX });
        }
        let permit = self.reserve().await?;
        if self.shared.is_closed() {
            return Err(LedgerError::Closed);
        }
        let (at, serial, row) = (self.shared.clock.now(), row.serial, Arc::new(row));
        {
            // Counted and put in under one lock: so many at once are no more than so many.
            let mut index = self.shared.index();
            index.has_room(&row, &self.shared.settings)?;
            if !index.insert(Arc::clone(&row)) {
                return Err(LedgerError::DuplicateSerial(serial));
            }
        }
        let (done, durable) = oneshot::channel();
        permit.send(Job::Intent { at, row, done });
        // The writer answers every job that it takes; it ends without only if its thread panicked.
        durable.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Notes a refusal for the audit. Never waits: above [`refusals_per_second`](crate::Settings), or when the queue is
    /// full, the refusal is counted and a summary is written later.
    ///
    /// # Errors
    /// [`LedgerError`] when the audit cannot be written at all: the server must serve nothing then.
    pub fn refused(&self, refusal: AuditRefusal) -> Result<(), LedgerError> {
        let uptime = self.shared.clock.uptime();
        if self.refusals.is_due(uptime) {
            self.summarize()?;
        }
        if !self.refusals.admit(uptime, self.shared.settings.refusals_per_second) {
            self.shared.check_sound()?;
            self.suppress(1, self.shared.clock.now());
            return Ok(());
        }
        if !self.try_write(Record::Refused(refusal))? {
            self.suppress(1, self.shared.clock.now());
        }
        Ok(())
    }

    /// Notes for the audit that a leaf was issued for another one that its chain alone vouched for, since the server that had
    /// issued that one did not answer. Waits while the queue is full: none of these is left out.
    ///
    /// # Errors
    /// [`LedgerError`] when the audit cannot be written: the leaf may not be handed out then.
    pub async fn unmatched(
        &self,
        serial: Serial,
        shown: Serial,
        owner: &str,
    ) -> Result<(), LedgerError> {
        let permit = self.reserve().await?;
        let record = Record::Unmatched { serial, shown, owner: escape(owner) };
        permit.send(Job::Later { entry: self.shared.entry(record), not_after: None });
        Ok(())
    }

    /// Notes for the audit where the bearer is whose token a leaf was issued for. Waits while the queue is full: none of these is
    /// left out.
    ///
    /// # Errors
    /// [`LedgerError`] when the audit cannot be written: the leaf may not be handed out then.
    pub async fn bearer(&self, serial: Serial, place: &str) -> Result<(), LedgerError> {
        let permit = self.reserve().await?;
        let record = Record::Bearer { serial, place: escape(place) };
        permit.send(Job::Later { entry: self.shared.entry(record), not_after: None });
        Ok(())
    }

    /// A row, unless it was abandoned. It is there until its leaf is past its end for every clock.
    #[must_use]
    pub fn find(&self, serial: &Serial) -> Option<LiveRow> {
        self.shared.index().get(serial).filter(|live| live.ended != Some(Ended::Abandoned))
    }

    /// The counts of this moment. Costs as many steps as there are groups, not rows.
    #[must_use]
    pub fn aggregates(&self) -> Aggregates {
        self.shared.index().aggregates()
    }

    /// How many rows of an agent count.
    #[must_use]
    pub fn rows_of_agent(&self, agent: &str) -> u64 {
        self.shared.index().rows_of(agent)
    }

    /// At most `limit` rows that match, those that live longest first, from a cursor of the page before on.
    #[must_use]
    pub fn rows(&self, filter: &RowFilter, after: Option<Cursor>, limit: usize) -> Page {
        self.shared.index().page(filter, after, limit)
    }

    /// Drops rows whose leaves are past their end by more than twice the skew, by the wall clock and by uptime; answers
    /// how many: none while the two disagree. Call it now and then, such as each second; it also writes the summary of
    /// refusals that were only counted.
    ///
    /// # Errors
    /// [`LedgerError`] when that summary cannot be queued. The rows are dropped nevertheless.
    pub fn expire(&self) -> Result<u64, LedgerError> {
        let mut expired = 0;
        // In pieces, so that nobody waits long for the index; and each by a clock that is believed then.
        while let Ok(now) = self.shared.clock.agreed() {
            let piece = self.shared.index().expire(now.earlier, self.shared.skew, EXPIRE_MAX);
            expired += piece;
            if piece == 0 {
                break;
            }
        }
        if self.refusals.is_due(self.shared.clock.uptime()) {
            self.summarize()?;
        }
        Ok(expired)
    }

    /// What was found wrong with former segments at the start.
    #[must_use]
    pub fn faults(&self) -> &[SegmentFault] {
        &self.faults
    }

    /// The files as they should be: the one that is written, and the closed ones that matter still.
    #[must_use]
    pub fn files(&self) -> (PathBuf, Vec<PathBuf>) {
        let closed = self.shared.closed_files();
        let closed =
            closed.iter().filter(|used| !used.carried).map(|used| used.file.path(&self.shared.dir));
        (self.shared.written(), closed.collect())
    }

    /// Says whether somebody took the file away that is written. While it is so nothing is stated about it, so that a copy that
    /// is put in its place is read at the next start as the file of a server that was killed.
    pub fn take_away(&self, taken_away: bool) {
        self.shared.take_away(taken_away);
    }

    /// Forgets what is stated about segments that matter no more and of which there is no file. Blocks on the disk.
    ///
    /// # Errors
    /// [`LedgerError::WriteFailed`]; it is forgotten at a later start.
    pub fn forget(&self, matters: impl Fn(&SegmentId) -> bool) -> Result<(), LedgerError> {
        let faulty = |file: &FileId| self.faults.iter().any(|fault| fault.segment == file.segment);
        let forgotten = self.shared.state(|manifest| {
            manifest.emptied.retain(&matters);
            manifest.files.retain(|file, _| matters(&file.segment) || !faulty(file));
        });
        let path = || crate::manifest::Manifest::path(&self.shared.dir);
        forgotten
            .map_err(|error| LedgerError::WriteFailed { path: path(), reason: error.to_string() })
    }

    /// Takes no further row: a gate rests on the passed bound of this segment, or the server stops. Evidence about rows
    /// is still taken.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Whether rows can be taken, as far as the last write tells.
    ///
    /// # Errors
    /// Why not. Unless it is poisoned or closed the ledger still tries, and is well again after a write that succeeds:
    /// [`probe`](Self::probe) makes one where nobody asks for a row meanwhile.
    pub fn check(&self) -> Result<(), LedgerError> {
        self.shared.check_writing()?;
        if self.shared.is_closed() { Err(LedgerError::Closed) } else { Ok(()) }
    }

    /// Queues a record that says nothing, to see whether writes succeed again; [`check`](Self::check) tells. Does
    /// nothing while the queue is full: what is in it tells as much.
    ///
    /// # Errors
    /// [`LedgerError::Poisoned`] or [`LedgerError::Closed`]: there will be no write any more.
    pub fn probe(&self) -> Result<(), LedgerError> {
        let since = self.shared.clock.now();
        let entry = self.shared.entry(Record::Suppressed { refusals: 0, since });
        match self.sender()?.try_send(Job::Probe { entry }) {
            Ok(()) | Err(TrySendError::Full(_)) => Ok(()),
            Err(TrySendError::Closed(_)) => Err(LedgerError::Closed),
        }
    }

    /// Numbers for metrics.
    #[must_use]
    pub fn stats(&self) -> LedgerStats {
        let queue = self.queue();
        let queue_depth = queue.as_ref().map_or(0, |queue| queue.max_capacity() - queue.capacity());
        drop(queue);
        let files = self.shared.closed_files().len() + 1;
        let index = self.shared.index();
        LedgerStats {
            queue_depth,
            files,
            rows: index.len(),
            agents: index.agents(),
            poisoned: self.shared.check_sound().is_err(),
            ..self.shared.counters.snapshot()
        }
    }

    /// Takes no further record, writes what is queued, and waits for the writer to end.
    pub async fn shutdown(&self) {
        if let Some(writer) = self.stop() {
            writer.ended().await;
        }
    }

    /// Waits for room in the queue.
    pub(crate) async fn reserve(&self) -> Result<OwnedPermit<Job>, LedgerError> {
        self.shared.check_sound()?;
        let queue = self.queue().clone().ok_or(LedgerError::Closed)?;
        queue.reserve_owned().await.map_err(|_| LedgerError::Closed)
    }

    /// The queue, for callers that may block.
    pub(crate) fn sender(&self) -> Result<Queue, LedgerError> {
        self.shared.check_sound()?;
        self.queue().clone().ok_or(LedgerError::Closed)
    }

    fn queue(&self) -> MutexGuard<'_, Option<Queue>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a record that is about no row; `false` when there is no room.
    pub(crate) fn try_write(&self, record: Record) -> Result<bool, LedgerError> {
        let job = Job::Later { entry: self.shared.entry(record), not_after: None };
        match self.sender()?.try_send(job) {
            Ok(()) => Ok(true),
            Err(TrySendError::Full(_)) => Ok(false),
            Err(TrySendError::Closed(_)) => Err(LedgerError::Closed),
        }
    }

    fn suppress(&self, refusals: u64, since: Timestamp) {
        self.refusals.suppress(Suppressed { refusals, since });
        self.shared.counters.refusals_suppressed.fetch_add(refusals, Relaxed);
    }

    fn summarize(&self) -> Result<(), LedgerError> {
        let Some(suppressed) = self.refusals.take() else { return Ok(()) };
        let Suppressed { refusals, since } = suppressed;
        let written = self.try_write(Record::Suppressed { refusals, since });
        if !matches!(written, Ok(true)) {
            // Kept for the next time.
            self.refusals.suppress(suppressed);
        }
        written.map(|_| ())
    }

    fn stop(&self) -> Option<Running> {
        self.close();
        if self.shared.check_sound().is_ok()
            && let Err(error) = self.summarize()
        {
            tracing::warn!(%error, "the count of suppressed refusals is not in the audit");
        }
        self.queue().take();
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if let Some(writer) = self.stop() {
            writer.join();
        }
    }
}
