//! The record in a redb file: one table for it, one for the journal, one for the version of this layout.

#[cfg(test)]
mod disk_errors;
mod file;
mod layout;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use host::Disk;
use redb::{
    Database, Durability, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
    WriteTransaction,
};
use trust::Generation;

use self::layout::{JOURNAL, RECORD};
pub use self::layout::{OpenError, STORE_FORMAT};
use crate::{RecordStore, StoreError, Stored, Write};

/// Most entries that the journal keeps; the oldest go first. At some 400 bytes each this is 40 MB, years of a quiet
/// CA and weeks of one that extends its horizon every minute and a half.
pub const JOURNAL_ENTRIES_MAX: u64 = 100_000;

/// What can be done about an error of the disk.
const CHECK_THE_DISK: &str = "; check the disk that holds the data directory";

/// The one row of the record's table.
const ROW: u8 = 0;

/// The store in a file. Each write is one durable commit; two processes never have the same file open.
///
/// An error of the disk closes the file. The next call opens it again, which checks every page, rolls back what was
/// not committed, and writes the record once more: so what is then read was written without an error since.
#[derive(Debug, Clone)]
pub struct RedbStore(Arc<Inner>);

struct Inner {
    path: PathBuf,
    /// How the file is opened again after an error of the disk.
    opener: Opener,
    open: Mutex<Option<Database>>,
}

type Opener = Box<dyn Fn(&Path) -> Result<Database, OpenError> + Send + Sync>;

impl RedbStore {
    /// Opens an existing store, and checks all of it.
    ///
    /// # Errors
    /// [`OpenError`]; a file that exists and cannot be read is never replaced.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_by(path, Box::new(file::open))
    }

    /// Makes a new, empty store with permissions `0600`. The file appears complete or not at all.
    ///
    /// # Errors
    /// [`OpenError`]; an existing file is never replaced.
    pub fn create(disk: &dyn Disk, path: &Path) -> Result<Self, OpenError> {
        file::create(disk, path)?;
        Self::open(path)
    }

    fn open_by(path: &Path, opener: Opener) -> Result<Self, OpenError> {
        let open = Mutex::new(Some(opener(path)?));
        Ok(Self(Arc::new(Inner { path: path.to_owned(), opener, open })))
    }

    /// Runs a blocking use of the database off the async threads.
    async fn run<T, F>(&self, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Database) -> Result<T, Fault> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        let joined = tokio::task::spawn_blocking(move || inner.with_database(operation)).await;
        joined.unwrap_or_else(|error| Err(StoreError::Unknown { reason: error.to_string() }))
    }
}

/// Why an operation failed, and what is known about its effect.
enum Fault {
    /// Nothing was written, and the database is fine.
    Conflict(Option<Generation>),
    /// Nothing was written: the error came before the commit.
    Before(String),
    /// The error came from the commit.
    AtCommit(String),
}

impl Inner {
    fn with_database<T>(
        &self,
        operation: impl FnOnce(&Database) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        // A panic inside redb leaves nothing half done that a rollback would not undo.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.is_none() {
            *open = Some(self.reopen()?);
        }
        let Some(database) = open.as_ref() else {
            return Err(StoreError::Failed { reason: "the store is closed".to_owned() });
        };
        operation(database).map_err(|fault| {
            let error = match fault {
                Fault::Conflict(found) => return StoreError::Conflict { found },
                Fault::Before(reason) => StoreError::Failed { reason: reason + CHECK_THE_DISK },
                Fault::AtCommit(reason) => StoreError::Unknown { reason: reason + CHECK_THE_DISK },
            };
            // After an error of the disk redb's view of the file counts for nothing.
            *open = None;
            error
        })
    }

    fn reopen(&self) -> Result<Database, StoreError> {
        let failed = |reason: String| StoreError::Failed { reason };
        let database = (self.opener)(&self.path).map_err(|error| failed(error.to_string()))?;
        confirm(&database).map_err(failed)?;
        Ok(database)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore").field("path", &self.path).finish_non_exhaustive()
    }
}

#[async_trait]
impl RecordStore for RedbStore {
    async fn load(&self) -> Result<Option<Stored>, StoreError> {
        self.run(|database| read_record(database).map_err(before)).await
    }

    async fn compare_and_swap(&self, write: Write) -> Result<(), StoreError> {
        self.run(move |database| {
            let transaction = begin(database).map_err(before)?;
            {
                let mut table = transaction.open_table(RECORD).map_err(before)?;
                let found = table.get(ROW).map_err(before)?.map(|row| Generation(row.value().0));
                if found != write.expected {
                    return Err(Fault::Conflict(found));
                }
                table.insert(ROW, (write.generation.0, write.record.as_slice())).map_err(before)?;
            }
            append_entry(&transaction, &write.journal).map_err(before)?;
            transaction.commit().map_err(|error| Fault::AtCommit(error.to_string()))
        })
        .await
    }

    async fn append(&self, journal: Vec<u8>) -> Result<(), StoreError> {
        self.run(move |database| {
            let transaction = begin(database).map_err(before)?;
            append_entry(&transaction, &journal).map_err(before)?;
            transaction.commit().map_err(|error| Fault::AtCommit(error.to_string()))
        })
        .await
    }

    async fn journal(&self, from: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.run(move |database| read_journal(database, from, limit).map_err(before)).await
    }
}

fn before(error: impl fmt::Display) -> Fault {
    Fault::Before(error.to_string())
}

/// Every commit is on the disk when it returns.
fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    Ok(transaction)
}

fn read_record(database: &Database) -> Result<Option<Stored>, redb::Error> {
    let table = database.begin_read()?.open_table(RECORD)?;
    let row = table.get(ROW)?;
    Ok(row.map(|row| {
        let (generation, record) = row.value();
        Stored { generation: Generation(generation), record: record.to_owned() }
    }))
}

fn read_journal(
    database: &Database,
    from: u64,
    limit: usize,
) -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
    let table = database.begin_read()?.open_table(JOURNAL)?;
    let mut entries = Vec::new();
    for entry in table.range(from..)?.take(limit) {
        let (index, bytes) = entry?;
        entries.push((index.value(), bytes.value().to_owned()));
    }
    Ok(entries)
}

fn append_entry(transaction: &WriteTransaction, entry: &[u8]) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(JOURNAL)?;
    let next = table.last()?.map_or(0, |(index, _)| index.value().saturating_add(1));
    table.insert(next, entry)?;
    if table.len()? > JOURNAL_ENTRIES_MAX {
        table.pop_first()?;
    }
    Ok(())
}

/// Writes the record as it is once more. A failed flush may have left bytes in the page cache that never reach the
/// disk and that reading still shows; bytes written and flushed anew are on the disk.
fn confirm(database: &Database) -> Result<(), String> {
    let stored = read_record(database).map_err(|error| error.to_string())?;
    let rewrite = |stored: &Stored| -> Result<(), redb::Error> {
        let transaction = begin(database)?;
        transaction
            .open_table(RECORD)?
            .insert(ROW, (stored.generation.0, stored.record.as_slice()))?;
        Ok(transaction.commit()?)
    };
    stored.as_ref().map_or(Ok(()), rewrite).map_err(|error| error.to_string())
}
