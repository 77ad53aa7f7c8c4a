//! Opening and making the file.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use host::Disk;
use redb::{Builder, Database, DatabaseError, ReadableDatabase as _, StorageError, TableError};

use super::layout::{JOURNAL, META, OpenError, RECORD, STORE_FORMAT};

/// Memory for cached pages. The record is some kilobytes and the journal is only appended to.
const CACHE_BYTES: usize = 4 << 20;

const FORMAT_KEY: &str = "format";

pub(super) fn open(path: &Path) -> Result<Database, OpenError> {
    let database = builder().open(path).map_err(|error| refused(path, error))?;
    check_format(path, &database)?;
    Ok(database)
}

/// Makes the file under another name and moves it in place: a crash leaves no file that is there and not complete.
pub(super) fn create(disk: &dyn Disk, path: &Path) -> Result<(), OpenError> {
    let io_error = |source| OpenError::Io { path: path.to_owned(), source };
    if path.try_exists().map_err(io_error)? {
        return Err(OpenError::Exists { path: path.to_owned() });
    }
    let unfinished = unfinished(path);
    match disk.remove(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(io_error)?;
    let database = builder().create(&unfinished).map_err(|error| refused(&unfinished, error))?;
    lay_out(&database)
        .and_then(|()| database.close().map_err(redb::Error::from))
        .map_err(|error| io_error(io::Error::other(error)))?;
    disk.rename(&unfinished, path).map_err(io_error)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    // A file that was altered outside redb is refused and not trusted.
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".unfinished");
    PathBuf::from(name)
}

fn lay_out(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert(FORMAT_KEY, STORE_FORMAT)?;
    transaction.open_table(RECORD)?;
    transaction.open_table(JOURNAL)?;
    Ok(transaction.commit()?)
}

fn check_format(path: &Path, database: &Database) -> Result<(), OpenError> {
    let unreadable = |reason: String| OpenError::Unreadable { path: path.to_owned(), reason };
    let read = || -> Result<Option<u64>, redb::Error> {
        let table = match database.begin_read()?.open_table(META) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            table => table?,
        };
        Ok(table.get(FORMAT_KEY)?.map(|format| format.value()))
    };
    match read().map_err(|error| unreadable(error.to_string()))? {
        Some(STORE_FORMAT) => Ok(()),
        Some(found) if found > STORE_FORMAT => {
            Err(OpenError::Newer { path: path.to_owned(), found })
        }
        Some(found) => Err(unreadable(format!("its layout {found} never existed"))),
        None => Err(unreadable("it is a database of something else".to_owned())),
    }
}

fn refused(path: &Path, error: DatabaseError) -> OpenError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::InUse { path }
        }
        DatabaseError::Storage(StorageError::Io(source)) => match source.kind() {
            io::ErrorKind::NotFound => OpenError::Missing { path },
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                OpenError::Unreadable { path, reason: source.to_string() }
            }
            _ => OpenError::Io { path, source },
        },
        error => OpenError::Unreadable { path, reason: error.to_string() },
    }
}
