//! Emptying files whose rows have mostly expired.
//!
//! A file's rows that still matter are written again to the current file, durable, with all that is known of them;
//! then the file moves to the archive; and when it was there for the retention it is deleted. A crash between any
//! two steps leaves a directory that recovers to the same index, since reading a row twice is reading it once.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::oneshot;
use trust::Serial;

use crate::error::{Damage, LedgerError};
use crate::files::{self, FileUse};
use crate::frame::{self, Source};
use crate::intent::Job;
use crate::ledger::Ledger;
use crate::manifest::Manifest;
use crate::record::{Entry, Record};
use crate::row::{Forgotten, LiveRow};
use crate::segment::FileId;

/// Rows carried in one write at most.
const CARRY_MAX: usize = 512;

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Files moved to the archive.
    pub archived: u64,
    /// Rows written again.
    pub carried: u64,
    /// Files deleted from the archive.
    pub deleted: u64,
}

impl Ledger {
    /// Compacts every closed file that is mostly about expired rows, and deletes what the archive need not keep.
    ///
    /// Does nothing while the wall clock is not believed. Blocks on the disk and on the writer: call it from a thread that may block, such as each hour. Issuance goes on
    /// meanwhile.
    ///
    /// # Errors
    /// [`LedgerError`] at the first step that fails; the next call takes up there. No row is lost by a failure.
    pub fn compact(&self) -> Result<Compaction, LedgerError> {
        futures::executor::block_on(self.compact_without_threads())
    }

    /// As [`compact`](Self::compact), where the disk never blocks.
    ///
    /// # Errors
    /// As [`compact`](Self::compact).
    pub async fn compact_without_threads(&self) -> Result<Compaction, LedgerError> {
        let _one_at_a_time = self.compacting.lock().await;
        self.shared.check_sound()?;
        let mut done = Compaction::default();
        while let Some(used) = self.next_to_compact()? {
            if !used.carried {
                done.carried += self.carry(&used).await?;
                self.state_carried(&used)?;
            }
            self.archive(&used.file)?;
            done.archived += 1;
        }
        done.deleted = self.delete_old()?;
        Ok(done)
    }

    fn next_to_compact(&self) -> Result<Option<FileUse>, LedgerError> {
        let (now, skew) = (self.shared.clock.agreed()?.earlier, self.shared.skew);
        let percent = u64::from(self.shared.settings.compact_below_percent);
        let is_due = |used: &&FileUse| {
            let live = used.live_at_most(now, skew);
            used.carried || live.saturating_mul(100) <= used.records.saturating_mul(percent)
        };
        Ok(self.shared.closed_files().iter().find(is_due).cloned())
    }

    /// Writes again every row that the file says anything about. Its own row may be in another file: what is said here
    /// must not be lost with this one.
    async fn carry(&self, used: &FileUse) -> Result<u64, LedgerError> {
        let serials: Vec<Serial> = self.serials_in(used)?.into_iter().collect();
        let mut carried = 0;
        for chunk in serials.chunks(CARRY_MAX) {
            let rows: Vec<LiveRow> = {
                let index = self.shared.index();
                chunk.iter().filter_map(|serial| index.get(serial)).collect()
            };
            if rows.is_empty() {
                continue;
            }
            carried += rows.len() as u64;
            let entries = rows.into_iter().flat_map(|live| self.carried(live)).collect();
            let (done, durable) = oneshot::channel();
            let job = Job::Carried { entries, done };
            self.sender()?.send(job).await.map_err(|_| LedgerError::Closed)?;
            durable.await.unwrap_or(Err(LedgerError::Closed))?;
        }
        Ok(carried)
    }

    /// A row with all that is known of it. An operator's word about it is a record of its own.
    fn carried(&self, live: LiveRow) -> impl Iterator<Item = Entry> {
        let (serial, forgotten) = (live.row.serial, live.forgotten);
        let word =
            (forgotten != Forgotten::default()).then_some(Record::Turned { serial, forgotten });
        [Record::Carried(live)].into_iter().chain(word).map(|record| self.shared.entry(record))
    }

    /// From now on the file may be gone.
    fn state_carried(&self, used: &FileUse) -> Result<(), LedgerError> {
        let written = self.shared.state(|manifest| {
            if let Some(stated) = manifest.files.get_mut(&used.file) {
                stated.carried = true;
            }
        });
        written.map_err(|error| failed(Manifest::path(&self.shared.dir), &error))?;
        for known in self.shared.closed_files().iter_mut().filter(|known| known.file == used.file) {
            known.carried = true;
        }
        Ok(())
    }

    fn serials_in(&self, used: &FileUse) -> Result<BTreeSet<Serial>, Damage> {
        let path = used.file.path(&self.shared.dir);
        let bytes =
            self.shared.disk.read(&path).map_err(|error| files::unreadable(&path, &error))?;
        let mut serials = BTreeSet::new();
        let source = Source { file: &used.file, path: &path };
        // The last file of a segment that was killed has no end mark; what it must have is the length it had.
        let scan =
            frame::scan(&source, &bytes, true, |entry| serials.extend(entry.record.serial()))?;
        if scan.whole != used.len || scan.records != used.records {
            let what = "the file is shorter or longer than it was";
            return Err(Damage::Corrupt { path, offset: scan.whole, what });
        }
        Ok(serials)
    }

    fn archive(&self, file: &FileId) -> Result<(), LedgerError> {
        let from = file.path(&self.shared.dir);
        let to = file.archive_path(&self.shared.dir, self.shared.clock.now());
        match self.shared.disk.rename(&from, &to) {
            Ok(()) => {}
            // An earlier attempt moved it, and was told that it failed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(from, &error)),
        }
        let written = self.shared.state(|manifest| manifest.archived(file, &self.segment));
        written.map_err(|error| failed(Manifest::path(&self.shared.dir), &error))?;
        self.shared.closed_files().retain(|used| used.file != *file);
        self.remove_if_empty(file)
    }

    fn remove_if_empty(&self, file: &FileId) -> Result<(), LedgerError> {
        let directory = self.shared.dir.join(file.segment.as_str());
        if file.segment == *self.segment() || !self.is_empty(&directory)? {
            return Ok(());
        }
        self.shared.disk.remove_dir(&directory).map_err(|error| failed(directory, &error))
    }

    fn is_empty(&self, directory: &Path) -> Result<bool, LedgerError> {
        let listed = self
            .shared
            .disk
            .list(directory)
            .map_err(|error| failed(directory.to_owned(), &error))?;
        Ok(listed.is_empty())
    }

    fn delete_old(&self) -> Result<u64, LedgerError> {
        let mut deleted = 0;
        for (path, _, archived_at) in files::archived(self.shared.disk.as_ref(), &self.shared.dir)?
        {
            let now = self.shared.clock.agreed()?.earlier;
            if now <= archived_at.plus(self.shared.settings.retention) {
                continue;
            }
            self.shared.disk.remove(&path).map_err(|error| failed(path, &error))?;
            deleted += 1;
        }
        Ok(deleted)
    }
}

fn failed(path: PathBuf, error: &io::Error) -> LedgerError {
    LedgerError::WriteFailed { path, reason: error.to_string() }
}
