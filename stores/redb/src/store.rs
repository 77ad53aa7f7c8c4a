//! Reading and writing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use host::Disk;
use redb::{
    Database, Durability, ReadableDatabase as _, ReadableTable as _, Table, WriteTransaction,
};
use stores::{
    Entry, HintSender, Hints, Key, Page, ReadError, SharedStore, Space, VALUE_BYTES_MAX, Version,
    Versioned, WriteError, hints,
};

use crate::file::{self, ENTRIES, LAST_WRITING, META, OpenError};

#[cfg(test)]
mod disk_errors;

/// Writes of a store that is being filled which may be in memory alone.
const WRITES_UNSYNCED_MAX: u64 = 1_000;

/// State in a file. Each write is one durable commit; two processes never have the same file open.
///
/// An error of the disk closes the file. The next call copies it to a new file, durably, and opens that: a failed flush may
/// have left bytes in the page cache that never reach the disk and that reading still shows. So what is read after an
/// unknown outcome was written without an error since.
#[derive(Clone)]
pub struct RedbStore(Arc<Inner>);

struct Inner {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    opener: Opener,
    state: Mutex<State>,
    watchers: Mutex<Vec<(&'static str, HintSender)>>,
    /// One write of so many is durable when it returns, and those before it then.
    sync_every: u64,
}

type Opener = Box<dyn Fn(&Path) -> Result<Database, OpenError> + Send + Sync>;

enum State {
    Open(Database),
    /// Closed by an error of a read or before a commit: what is in the file is not in question.
    Closed,
    /// Closed by an error of a commit.
    Doubtful,
}

/// What a write does to its key.
enum Change {
    Put(Vec<u8>),
    Delete,
}

/// Why a write did nothing, or may have.
enum Fault {
    Conflict(Option<Version>),
    Before(String),
    AtCommit(String),
}

type Entries<'t> = Table<'t, (&'static str, &'static str), (u64, &'static [u8])>;

impl RedbStore {
    /// Opens an existing store, and checks all of it.
    ///
    /// # Errors
    /// [`OpenError`]; a file that exists and cannot be read is never replaced.
    pub fn open(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, OpenError> {
        Self::open_by(disk, path, Box::new(file::open))
    }

    /// Makes a new, empty store with permissions `0600`. The file appears complete or not at all.
    ///
    /// # Errors
    /// [`OpenError`]; an existing file is never replaced.
    pub fn create(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, OpenError> {
        let unfinished = file::begin(disk.as_ref(), path)?;
        file::finish(disk.as_ref(), &unfinished, path)?;
        Self::open(disk, path)
    }

    /// A store of which most writes are durable only when it is [closed](Self::close).
    pub(crate) fn open_to_fill(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, OpenError> {
        let opener: Opener = Box::new(file::open);
        let state = Mutex::new(State::Open(opener(path)?));
        let (path, sync_every) = (path.to_owned(), WRITES_UNSYNCED_MAX);
        let watchers = Mutex::default();
        Ok(Self(Arc::new(Inner { path, disk, opener, state, watchers, sync_every })))
    }

    /// Makes every write durable, and closes the file.
    pub(crate) fn close(&self) -> Result<(), OpenError> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let io_error = |error: String| OpenError::Io {
            path: self.0.path.clone(),
            source: std::io::Error::other(error),
        };
        let closed = std::mem::replace(&mut *state, State::Closed);
        let State::Open(database) = closed else {
            return Err(io_error("an error closed it before".to_owned()));
        };
        confirm(&database).map_err(|error| io_error(error.to_string()))?;
        database.close().map_err(|error| io_error(error.to_string()))
    }

    fn open_by(disk: Arc<dyn Disk>, path: &Path, opener: Opener) -> Result<Self, OpenError> {
        let state = Mutex::new(State::Open(opener(path)?));
        let path = path.to_owned();
        let watchers = Mutex::default();
        Ok(Self(Arc::new(Inner { path, disk, opener, state, watchers, sync_every: 1 })))
    }

    async fn read<T, F>(&self, read: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        let joined = tokio::task::spawn_blocking(move || inner.read(read)).await;
        joined.unwrap_or_else(|error| Err(ReadError::Failed { reason: error.to_string() }))
    }

    async fn write(
        &self,
        key: &Key,
        expected: Option<&Version>,
        change: Change,
    ) -> Result<Version, WriteError> {
        if let Change::Put(value) = &change
            && value.len() > VALUE_BYTES_MAX
        {
            let (bytes, most) = (value.len(), VALUE_BYTES_MAX);
            let reason = format!("its value has {bytes} bytes, at most {most} are allowed");
            return Err(WriteError::failed(key, reason));
        }
        let (inner, of, expected) = (Arc::clone(&self.0), key.clone(), expected.cloned());
        let joined =
            tokio::task::spawn_blocking(move || inner.write(&of, expected.as_ref(), &change));
        joined.await.unwrap_or_else(|error| Err(WriteError::unknown(key, error.to_string())))
    }
}

impl Inner {
    fn read<T>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, ReadError> {
        // A panic inside redb leaves nothing half done that a rollback would not undo.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |reason: String| ReadError::Failed { reason };
        let database = self.opened(&mut state).map_err(failed)?;
        read(database).map_err(|error| {
            *state = State::Closed;
            failed(self.advice(&error))
        })
    }

    fn write(
        &self,
        key: &Key,
        expected: Option<&Version>,
        change: &Change,
    ) -> Result<Version, WriteError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let database = self.opened(&mut state).map_err(|reason| WriteError::failed(key, reason))?;
        let written = committed(database, self.sync_every, Asked { key, expected, change });
        match written {
            Ok(version) => {
                drop(state);
                self.tell(key);
                Ok(version)
            }
            Err(Fault::Conflict(found)) => Err(WriteError::conflict(key, found)),
            Err(Fault::Before(reason)) => {
                *state = State::Closed;
                Err(WriteError::failed(key, self.advice(&reason)))
            }
            Err(Fault::AtCommit(reason)) => {
                *state = State::Doubtful;
                drop(state);
                self.tell(key);
                Err(WriteError::unknown(key, self.advice(&reason)))
            }
        }
    }

    fn opened<'s>(&self, state: &'s mut State) -> Result<&'s Database, String> {
        if !matches!(state, State::Open(_)) {
            if self.sync_every > 1 {
                return Err(format!("{} is given up: an error closed it", self.path.display()));
            }
            let doubtful = matches!(state, State::Doubtful);
            if doubtful {
                self.copy_anew().map_err(|error| self.advice(&error))?;
            }
            *state = State::Open((self.opener)(&self.path).map_err(|error| error.to_string())?);
        }
        match state {
            State::Open(database) => Ok(database),
            State::Closed | State::Doubtful => Err(format!("{} is closed", self.path.display())),
        }
    }

    fn copy_anew(&self) -> std::io::Result<()> {
        let bytes = self.disk.read(&self.path)?;
        self.disk.replace(&self.path, &bytes, 0o600)
    }

    fn advice(&self, error: &dyn fmt::Display) -> String {
        format!("{}: {error}; check the disk that holds it", self.path.display())
    }

    fn tell(&self, key: &Key) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|(_, sender)| !sender.is_unread());
        let of_space = watchers.iter().filter(|(space, _)| *space == key.space().name());
        of_space.for_each(|(_, sender)| sender.at(key.id()));
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore").field("path", &self.0.path).finish_non_exhaustive()
    }
}

#[async_trait]
impl SharedStore for RedbStore {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, ReadError> {
        let key = key.clone();
        self.read(move |database| {
            let entries = database.begin_read()?.open_table(ENTRIES)?;
            let found = entries.get((key.space().name(), key.id()))?;
            Ok(found.map(|found| {
                let (writing, value) = found.value();
                Versioned { value: value.to_owned(), version: version(writing) }
            }))
        })
        .await
    }

    async fn create(&self, key: &Key, value: &[u8]) -> Result<Version, WriteError> {
        self.write(key, None, Change::Put(value.to_owned())).await
    }

    async fn put(
        &self,
        key: &Key,
        value: &[u8],
        expected: &Version,
    ) -> Result<Version, WriteError> {
        self.write(key, Some(expected), Change::Put(value.to_owned())).await
    }

    async fn delete(&self, key: &Key, expected: &Version) -> Result<(), WriteError> {
        self.write(key, Some(expected), Change::Delete).await.map(drop)
    }

    async fn list(
        &self,
        space: Space,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        let from = from.unwrap_or_default().to_owned();
        self.read(move |database| {
            let entries = database.begin_read()?.open_table(ENTRIES)?;
            let mut page = Page { entries: Vec::new(), more: false };
            for entry in entries.range((space.name(), from.as_str())..)? {
                let (key, found) = entry?;
                let ((name, id), (writing, value)) = (key.value(), found.value());
                if name != space.name() {
                    break;
                }
                if page.entries.len() >= limit {
                    page.more = true;
                    break;
                }
                let (id, value) = (id.to_owned(), value.to_owned());
                page.entries.push(Entry { id, value, version: version(writing) });
            }
            Ok(page)
        })
        .await
    }

    async fn watch(&self, space: Space) -> Result<Hints, ReadError> {
        let (sender, hints) = hints();
        let mut watchers = self.0.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.push((space.name(), sender));
        Ok(hints)
    }
}

fn version(writing: u64) -> Version {
    Version::new(writing.to_string())
}

/// A write as it was asked for.
#[derive(Clone, Copy)]
struct Asked<'a> {
    key: &'a Key,
    expected: Option<&'a Version>,
    change: &'a Change,
}

fn committed(database: &Database, sync_every: u64, asked: Asked<'_>) -> Result<Version, Fault> {
    let mut transaction = database.begin_write().map_err(before)?;
    let writing = changed(&transaction, asked)?;
    let durability = match writing.is_multiple_of(sync_every) {
        true => Durability::Immediate,
        false => Durability::None,
    };
    transaction.set_durability(durability).map_err(before)?;
    transaction.commit().map_err(|error| Fault::AtCommit(error.to_string()))?;
    Ok(version(writing))
}

/// Writes what is there once more, durably, and with it everything before.
fn confirm(database: &Database) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    {
        let mut meta = transaction.open_table(META)?;
        let last = meta.get(LAST_WRITING)?.map_or(0, |last| last.value());
        meta.insert(LAST_WRITING, last)?;
    }
    Ok(transaction.commit()?)
}

fn changed(transaction: &WriteTransaction, asked: Asked<'_>) -> Result<u64, Fault> {
    let Asked { key, expected, change } = asked;
    let mut entries: Entries<'_> = transaction.open_table(ENTRIES).map_err(before)?;
    let mut meta = transaction.open_table(META).map_err(before)?;
    let place = (key.space().name(), key.id());
    let found = entries.get(place).map_err(before)?.map(|found| version(found.value().0));
    if found.as_ref() != expected {
        return Err(Fault::Conflict(found));
    }
    let last = meta.get(LAST_WRITING).map_err(before)?.map_or(0, |last| last.value());
    let writing = last.saturating_add(1);
    meta.insert(LAST_WRITING, writing).map_err(before)?;
    match change {
        Change::Put(value) => {
            entries.insert(place, (writing, value.as_slice())).map_err(before)?;
        }
        Change::Delete => {
            entries.remove(place).map_err(before)?;
        }
    }
    Ok(writing)
}

fn before(error: impl fmt::Display) -> Fault {
    Fault::Before(error.to_string())
}
