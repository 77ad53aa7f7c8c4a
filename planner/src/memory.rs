//! A store and a disk that outlive nothing: a plan ends with its process.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use host::{AppendFile, Disk};
use ledger::{Ledger, OpenOptions, Settings, WritesOn};
use rotation::SegmentId;
use stores::{
    Entry, HintSender, Hints, Key, Page, ReadError, SharedStore, Space, Version, Versioned,
    WriteError, hints,
};
use trust::Clock;

use crate::error::PlanError;

/// Records that the ledger's queue has room for.
const QUEUE_LEN: usize = 1 << 20;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The store of the one server of a plan.
#[derive(Debug, Default)]
pub(crate) struct PlanStore(Mutex<Contents>);

#[derive(Debug, Default)]
struct Contents {
    entries: BTreeMap<(&'static str, String), (u64, Vec<u8>)>,
    writings: u64,
    /// Nobody else writes, so nobody is ever told.
    watches: Vec<HintSender>,
}

impl PlanStore {
    fn write(
        &self,
        key: &Key,
        expected: Option<&Version>,
        value: Option<&[u8]>,
    ) -> Result<Version, WriteError> {
        let place = (key.space().name(), key.id().to_owned());
        let mut contents = locked(&self.0);
        let found = contents.entries.get(&place).map(|(writing, _)| version(*writing));
        if found.as_ref() != expected {
            return Err(WriteError::conflict(key, found));
        }
        contents.writings += 1;
        let writing = contents.writings;
        match value {
            Some(value) => _ = contents.entries.insert(place, (writing, value.to_vec())),
            None => _ = contents.entries.remove(&place),
        }
        Ok(version(writing))
    }
}

fn version(writing: u64) -> Version {
    Version::new(writing.to_string())
}

#[async_trait]
impl SharedStore for PlanStore {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, ReadError> {
        let place = (key.space().name(), key.id().to_owned());
        let found = locked(&self.0).entries.get(&place).cloned();
        Ok(found.map(|(writing, value)| Versioned { value, version: version(writing) }))
    }

    async fn create(&self, key: &Key, value: &[u8]) -> Result<Version, WriteError> {
        self.write(key, None, Some(value))
    }

    async fn put(
        &self,
        key: &Key,
        value: &[u8],
        expected: &Version,
    ) -> Result<Version, WriteError> {
        self.write(key, Some(expected), Some(value))
    }

    async fn delete(&self, key: &Key, expected: &Version) -> Result<(), WriteError> {
        self.write(key, Some(expected), None).map(drop)
    }

    async fn list(
        &self,
        space: Space,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        let contents = locked(&self.0);
        let from = (space.name(), from.unwrap_or_default().to_owned());
        let mut left =
            contents.entries.range(from..).take_while(|((name, _), _)| *name == space.name());
        let entries = left.by_ref().take(limit).map(|((_, id), (writing, value))| Entry {
            id: id.clone(),
            value: value.clone(),
            version: version(*writing),
        });
        let entries = entries.collect();
        Ok(Page { entries, more: left.next().is_some() })
    }

    async fn watch(&self, _: Space) -> Result<Hints, ReadError> {
        let (sender, hints) = hints();
        locked(&self.0).watches.push(sender);
        Ok(hints)
    }
}

/// A disk for a ledger that is never read again: what is appended is counted and dropped, small files are kept.
#[derive(Debug, Default)]
pub(crate) struct PlanDisk(Mutex<BTreeMap<PathBuf, Vec<u8>>>);

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Disk for PlanDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        locked(&self.0).get(path).cloned().ok_or_else(not_found)
    }

    fn replace(&self, path: &Path, contents: &[u8], _: u32) -> io::Result<()> {
        locked(&self.0).insert(path.to_owned(), contents.to_vec());
        Ok(())
    }

    fn append_open(&self, _: &Path, _: u32) -> io::Result<Box<dyn AppendFile>> {
        Ok(Box::new(Dropped(0)))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let files = locked(&self.0);
        Ok(files.keys().filter(|path| path.parent() == Some(directory)).cloned().collect())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        locked(&self.0).remove(path).map(drop).ok_or_else(not_found)
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = locked(&self.0);
        let moved = files.remove(from).ok_or_else(not_found)?;
        files.insert(to.to_owned(), moved);
        Ok(())
    }

    fn create_dir_all(&self, _: &Path, _: u32) -> io::Result<()> {
        Ok(())
    }
}

/// A file whose bytes nobody reads.
#[derive(Debug)]
struct Dropped(u64);

impl AppendFile for Dropped {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0 += bytes.len() as u64;
        Ok(())
    }

    fn reserve(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0 = len;
        Ok(())
    }

    fn len(&self) -> u64 {
        self.0
    }
}

/// The ledger of the one server of a plan.
pub(crate) fn open_ledger(
    segment: &SegmentId,
    clock: Arc<dyn Clock>,
    skew: Duration,
) -> Result<Arc<Ledger>, PlanError> {
    let settings = Settings {
        queue_len: QUEUE_LEN,
        file_bytes_max: 1 << 30,
        rows_per_identity: u64::MAX,
        rows_per_agent: u64::MAX,
        writes_on: WritesOn::Task,
        ..Settings::default()
    };
    let options = OpenOptions {
        dir: PathBuf::from("/plan"),
        segment: ledger::SegmentId::parse(segment.as_str()).map_err(PlanError::broken)?,
        disk: Arc::new(PlanDisk::default()),
        clock,
        skew,
        settings,
    };
    let (ledger, _) = Ledger::open(options).map_err(PlanError::broken)?;
    Ok(Arc::new(ledger))
}
