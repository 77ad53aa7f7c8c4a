//! Numbers for metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How the ledger does, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerStats {
    /// Records that wait to be written.
    pub queue_depth: usize,
    /// How long the last commit took: write and sync.
    pub last_commit: Duration,
    /// Records in the last commit.
    pub last_batch: u64,
    /// Commits since the start.
    pub commits: u64,
    /// Records written since the start.
    pub records: u64,
    /// Bytes written since the start.
    pub bytes: u64,
    /// Files that are written no more and not yet compacted, and the one that is written.
    pub files: usize,
    /// Rows in memory, ended ones included.
    pub rows: usize,
    /// Agents with rows that count.
    pub agents: usize,
    /// Refusals that were counted and not written one by one.
    pub refusals_suppressed: u64,
    /// Records nobody waits for that could not be kept, while the disk was full or the queue had no room.
    pub records_lost: u64,
    /// Writes that failed and were taken back.
    pub writes_failed: u64,
    /// Whether the ledger takes no row any more after a failed write.
    pub poisoned: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) last_commit_micros: AtomicU64,
    pub(crate) last_batch: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) refusals_suppressed: AtomicU64,
    pub(crate) records_lost: AtomicU64,
    pub(crate) writes_failed: AtomicU64,
}

impl Counters {
    pub(crate) fn committed(&self, records: u64, bytes: u64, took: Duration) {
        self.last_commit_micros.store(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
        self.last_batch.store(records, Relaxed);
        self.commits.fetch_add(1, Relaxed);
        self.records.fetch_add(records, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn lost(&self, records: u64) {
        self.records_lost.fetch_add(records, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> LedgerStats {
        LedgerStats {
            last_commit: Duration::from_micros(self.last_commit_micros.load(Relaxed)),
            last_batch: self.last_batch.load(Relaxed),
            commits: self.commits.load(Relaxed),
            records: self.records.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            refusals_suppressed: self.refusals_suppressed.load(Relaxed),
            records_lost: self.records_lost.load(Relaxed),
            writes_failed: self.writes_failed.load(Relaxed),
            ..LedgerStats::default()
        }
    }
}
