//! What the ledger, its writer and its open intents share.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use host::Disk;
use trust::Clock;

use crate::error::LedgerError;
use crate::files::FileUse;
use crate::index::Index;
use crate::manifest::Manifest;
use crate::record::{Entry, Record};
use crate::recovery::Closed;
use crate::settings::{OpenOptions, Settings};
use crate::stats::Counters;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Settings,
    pub(crate) skew: Duration,
    pub(crate) counters: Counters,
    /// Held for map operations only; never across an await, and never while a file is touched.
    index: Mutex<Index>,
    /// Files that are written no more. Held as briefly.
    closed_files: Mutex<Vec<FileUse>>,
    /// What is stated about closed files, as it is on the disk or will be with the next statement. Held while that file is
    /// written, by threads that may block.
    manifest: Mutex<Manifest>,
    poison: OnceLock<LedgerError>,
    /// Why the last write failed, until one succeeds. Held to look and to set only.
    failing: Mutex<Option<LedgerError>>,
    /// The file that is written. Held to look and to set only.
    written: Mutex<PathBuf>,
    /// Somebody took that file away.
    taken_away: AtomicBool,
    closed: AtomicBool,
}

impl Shared {
    pub(crate) fn new(options: OpenOptions, index: Index, closed: Closed) -> Self {
        let OpenOptions { dir, segment: _, disk, clock, skew, settings } = options;
        Self {
            dir,
            disk,
            clock,
            settings,
            skew,
            counters: Counters::default(),
            index: Mutex::new(index),
            closed_files: Mutex::new(closed.files),
            manifest: Mutex::new(closed.manifest),
            poison: OnceLock::new(),
            failing: Mutex::new(None),
            written: Mutex::default(),
            taken_away: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn closed_files(&self) -> MutexGuard<'_, Vec<FileUse>> {
        self.closed_files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is stated about closed files, durably. What could not be written is written with the next statement.
    pub(crate) fn state(&self, change: impl FnOnce(&mut Manifest)) -> io::Result<()> {
        let mut manifest = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut manifest);
        manifest.write(self.disk.as_ref(), &self.dir)
    }

    /// # Errors
    /// [`LedgerError::Poisoned`] once a write had an outcome that nobody knows.
    pub(crate) fn check_sound(&self) -> Result<(), LedgerError> {
        self.poison.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// The first failure is the one that is told.
    pub(crate) fn poison(&self, error: LedgerError) -> LedgerError {
        self.poison.get_or_init(|| error).clone()
    }

    /// Notes how the last write ended; whether that is news.
    pub(crate) fn last_write(&self, failed: Option<&LedgerError>) -> bool {
        let mut last = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let news = last.as_ref() != failed;
        *last = failed.cloned();
        news
    }

    /// # Errors
    /// Why the last write failed, or why there will be none any more.
    pub(crate) fn check_writing(&self) -> Result<(), LedgerError> {
        self.check_sound()?;
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }

    /// The file that is written from now on.
    pub(crate) fn writes_to(&self, path: PathBuf) {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = path;
    }

    pub(crate) fn written(&self) -> PathBuf {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn take_away(&self, taken_away: bool) {
        self.taken_away.store(taken_away, Ordering::SeqCst);
    }

    pub(crate) fn is_taken_away(&self) -> bool {
        self.taken_away.load(Ordering::SeqCst)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(crate) fn entry(&self, record: Record) -> Entry {
        Entry { at: self.clock.now(), record }
    }
}
