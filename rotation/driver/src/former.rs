//! The record and the journal as former releases stored them: a redb file of their own. It is read, once, and never written.

use std::path::{Path, PathBuf};

use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, StorageError, TableDefinition,
    TableError,
};
use stores::settle::{self, Created};
use stores::{SharedStore, WriteError};
use trust::Generation;

use crate::shared_record::{Value, journal_key, record_key};
use crate::{StoreError, Stored};

/// The one layout of tables that there ever was.
const FORMAT: u64 = 1;
const FORMAT_KEY: &str = "format";
/// The one row of the record's table.
const ROW: u8 = 0;
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const RECORD: TableDefinition<'_, u8, (u64, &[u8])> = TableDefinition::new("record");
const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("journal");

/// Why a former release's record is not taken over. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum FormerError {
    /// It cannot be read.
    #[error("{} cannot be read ({reason}): keep the file, and restore the latest backup of the data directory", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Another process has it open.
    #[error("{} is in use by another process: stop that process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It could not be written to where it belongs now.
    #[error(transparent)]
    NotWritten(#[from] WriteError),
    /// There is something else already.
    #[error("{key} is there already, and is something else")]
    Occupied {
        /// The key.
        key: String,
    },
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] StoreError),
}

struct Read {
    record: Option<Stored>,
    journal: Vec<(u64, Vec<u8>)>,
}

/// The record in a file of a former release; `None` if there never was one.
///
/// # Errors
/// [`FormerError`].
pub async fn former_record(path: &Path) -> Result<Option<Stored>, FormerError> {
    Ok(read(path).await?.record)
}

/// Copies record and journal of a former release's file into a store that has none.
///
/// # Errors
/// [`FormerError`].
pub async fn take_over(path: &Path, store: &dyn SharedStore) -> Result<(), FormerError> {
    let Read { record, mut journal } = read(path).await?;
    let newest = match &record {
        Some(_) => Some(journal.pop().ok_or_else(|| unreadable(path, "its journal is empty"))?),
        None => None,
    };
    for (index, entry) in &journal {
        write(store, &journal_key(*index)?, entry).await?;
    }
    if let (Some(Stored { generation, record }), Some((index, entry))) = (record, newest) {
        write(store, &record_key()?, &Value { generation, index, entry, record }.encode()).await?;
    }
    Ok(())
}

async fn write(
    store: &dyn SharedStore,
    key: &stores::Key,
    value: &[u8],
) -> Result<(), FormerError> {
    match settle::create(store, key, value).await? {
        Created::Done(_) => Ok(()),
        Created::There(_) => Err(FormerError::Occupied { key: key.to_string() }),
    }
}

async fn read(path: &Path) -> Result<Read, FormerError> {
    let of = path.to_owned();
    let joined = tokio::task::spawn_blocking(move || {
        let database = open(&of)?;
        read_all(&database).map_err(|error| unreadable(&of, error))
    });
    joined.await.unwrap_or_else(|error| Err(unreadable(path, error)))
}

fn open(path: &Path) -> Result<Database, FormerError> {
    let mut builder = Builder::new();
    // A file that was altered outside redb is refused and not trusted.
    let opened = builder.set_check_integrity_on_open(true).open(path);
    let database = opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            FormerError::InUse { path: path.to_owned() }
        }
        DatabaseError::Storage(StorageError::Io(error)) => unreadable(path, error),
        error => unreadable(path, error),
    })?;
    match format(&database).map_err(|error| unreadable(path, error))? {
        Some(FORMAT) => Ok(database),
        Some(found) => Err(unreadable(path, format!("it has layout {found}"))),
        None => Err(unreadable(path, "it is a database of something else")),
    }
}

fn format(database: &Database) -> Result<Option<u64>, redb::Error> {
    let table = match database.begin_read()?.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    Ok(table.get(FORMAT_KEY)?.map(|format| format.value()))
}

fn read_all(database: &Database) -> Result<Read, redb::Error> {
    let transaction = database.begin_read()?;
    let row = transaction.open_table(RECORD)?.get(ROW)?;
    let record = row.map(|row| {
        let (generation, record) = row.value();
        Stored { generation: Generation(generation), record: record.to_owned() }
    });
    let mut journal = Vec::new();
    for entry in transaction.open_table(JOURNAL)?.range(0..)? {
        let (index, bytes) = entry?;
        journal.push((index.value(), bytes.value().to_owned()));
    }
    Ok(Read { record, journal })
}

fn unreadable(path: &Path, reason: impl std::fmt::Display) -> FormerError {
    FormerError::Unreadable { path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stores::fake::{FakeStore, Fault};

    use super::*;
    use crate::{RecordStore as _, SharedRecord};

    fn made(path: &Path, entries: u64, record: Option<&[u8]>) {
        let database = Database::create(path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert(FORMAT_KEY, FORMAT).unwrap();
        {
            let mut table = transaction.open_table(RECORD).unwrap();
            if let Some(record) = record {
                table.insert(ROW, (5, record)).unwrap();
            }
            let mut table = transaction.open_table(JOURNAL).unwrap();
            for index in 3..3 + entries {
                table.insert(index, format!("entry {index}").as_bytes()).unwrap();
            }
        }
        transaction.commit().unwrap();
    }

    #[tokio::test]
    async fn record_and_journal_are_the_same_in_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.redb");
        for record in [None, Some(b"record".as_slice())] {
            made(&path, 4, record);
            let store = FakeStore::new();
            store.fail_next_write(Fault::UnknownStored);
            take_over(&path, &store).await.unwrap();
            let shared = SharedRecord::new(Arc::new(store));
            let stored = shared.load().await.unwrap();
            assert_eq!(stored, former_record(&path).await.unwrap());
            assert_eq!(stored.map(|stored| stored.record), record.map(<[u8]>::to_vec));
            let journal = shared.journal(0, 100).await.unwrap();
            let wanted: Vec<_> =
                (3..7).map(|index| (index, format!("entry {index}").into_bytes())).collect();
            assert_eq!(journal, wanted);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_named_and_nothing_is_taken_from_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.redb");
        made(&path, 1, Some(b"record"));
        let whole = std::fs::read(&path).unwrap();
        let half = whole[..whole.len() / 2].to_vec();
        for junk in [Vec::new(), b"x".to_vec(), vec![7; 40_000], half] {
            std::fs::write(&path, &junk).unwrap();
            let store = FakeStore::new();
            let said = take_over(&path, &store).await.unwrap_err().to_string();
            assert!(said.contains("record.redb") && said.contains("restore the latest"), "{said}");
            assert_eq!(std::fs::read(&path).unwrap(), junk);
            assert_eq!(SharedRecord::new(Arc::new(store)).load().await, Ok(None));
        }
    }
}
