//! Settings and what opening needs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use host::Disk;
use trust::Clock;

use crate::error::OpenError;
use crate::segment::SegmentId;

/// What a ledger is opened with.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The ledger's directory. One process owns it (`host::DirLock`).
    pub dir: PathBuf,
    /// The segment of this incarnation: an id that was never used.
    pub segment: SegmentId,
    /// Where files are.
    pub disk: Arc<dyn Disk>,
    /// The clock that records are stamped with.
    pub clock: Arc<dyn Clock>,
    /// How far any clock may be off. A row lives until its end of validity and twice this. Usual: 60 s.
    pub skew: Duration,
    /// The rest.
    pub settings: Settings,
}

/// Sizes and times of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Records that may wait to be written; who brings one more waits for room. Default 4,096, 1 to 1,048,576.
    pub queue_len: usize,
    /// While rows come several at a time, commits start at least this far apart; a row that comes alone is
    /// written at once. Default 2 ms: with a fast disk, rows do not gather by themselves, and each would pay a sync and
    /// two switches between threads of its own (docs/performance.md). At most 100 ms; zero for none.
    pub commit_window: Duration,
    /// A file that has grown to this size is closed. Default 64 MiB, 1 KiB to 1 GiB (files are read whole).
    pub file_bytes_max: u64,
    /// A closed file is compacted when at most this part of its records is about live rows. Default 25 %, 0 to 90.
    pub compact_below_percent: u8,
    /// How long a compacted file is kept in the archive. Default 7 days.
    pub retention: Duration,
    /// Refusals written one by one in a second; further ones are only counted. Default 100, at least 1.
    pub refusals_per_second: u32,
    /// Live rows that one identity may have. Default 10,000, at least 1.
    pub rows_per_identity: u64,
    /// Live rows that one agent may have, of all its identities. Default 20,000, at least 1.
    pub rows_per_agent: u64,
    /// What the writer runs on. Default a thread.
    pub writes_on: WritesOn,
}

/// What the writer runs on. It blocks while it writes and syncs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WritesOn {
    /// A thread of its own.
    #[default]
    Thread,
    /// A task of the runtime in which the ledger is opened: for a simulation, whose disk never blocks and whose scheduler
    /// decides what comes first.
    Task,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            queue_len: 4_096,
            commit_window: Duration::from_millis(2),
            file_bytes_max: 64 << 20,
            compact_below_percent: 25,
            retention: Duration::from_secs(7 * 86_400),
            refusals_per_second: 100,
            rows_per_identity: 10_000,
            rows_per_agent: 20_000,
            writes_on: WritesOn::Thread,
        }
    }
}

impl Settings {
    /// # Errors
    /// The first setting that is out of its bounds.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let bad = |name, value: String, bounds| Err(OpenError::BadSetting { name, value, bounds });
        if !(1..=1 << 20).contains(&self.queue_len) {
            return bad("queue_len", self.queue_len.to_string(), "1 to 1,048,576");
        }
        if self.commit_window > Duration::from_millis(100) {
            return bad("commit_window", format!("{:?}", self.commit_window), "at most 100 ms");
        }
        if !(1 << 10..=1 << 30).contains(&self.file_bytes_max) {
            return bad("file_bytes_max", self.file_bytes_max.to_string(), "1 KiB to 1 GiB");
        }
        if self.compact_below_percent > 90 {
            return bad(
                "compact_below_percent",
                self.compact_below_percent.to_string(),
                "at most 90",
            );
        }
        if self.refusals_per_second == 0 {
            return bad("refusals_per_second", "0".to_owned(), "at least 1");
        }
        let rows = [
            ("rows_per_identity", self.rows_per_identity),
            ("rows_per_agent", self.rows_per_agent),
        ];
        if let Some((name, _)) = rows.into_iter().find(|(_, rows)| *rows == 0) {
            return bad(name, "0".to_owned(), "at least 1");
        }
        Ok(())
    }
}
