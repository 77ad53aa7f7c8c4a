//! The file: its tables, how it is opened and made, and why it cannot be used.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use host::Disk;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, StorageError, TableDefinition,
    TableError,
};

/// Version of the layout of tables in the file.
pub const FORMAT: u64 = 1;

/// Space and id, to the number of the writing and the value.
pub(crate) const ENTRIES: TableDefinition<'_, (&str, &str), (u64, &[u8])> =
    TableDefinition::new("entries_v1");
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta_v1");
/// Number of the last writing of all. It never goes back, so that a key made again has no former version.
pub(crate) const LAST_WRITING: &str = "last_writing";
const FORMAT_KEY: &str = "format";

/// Memory for cached pages.
const CACHE_BYTES: usize = 16 << 20;

/// Why a store could not be opened or made. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such file.
    #[error("{} does not exist; if this CA ran before, restore the latest backup of it", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// There is such a file already.
    #[error("{} exists already; open it instead", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error("{} is in use by another process: stop that process, or give this one a data directory of its own", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer release.
    #[error("{} has layout {found}, this release reads up to {FORMAT}: start the release that wrote it, or a newer one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u64,
    },
    /// It exists and is no store, or a damaged one.
    #[error("{} exists and cannot be read ({reason}): keep the file, and restore the latest backup", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The operating system refused.
    #[error("cannot use {}: {source}; check that its directory exists and is writable for this user, and that the disk is not full", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

pub(crate) fn open(path: &Path) -> Result<Database, OpenError> {
    let database = builder().open(path).map_err(|error| refused(path, error))?;
    check_format(path, &database)?;
    Ok(database)
}

/// Makes an empty file beside the place where it belongs: a crash leaves no file that is there and not complete.
pub(crate) fn begin(disk: &dyn Disk, path: &Path) -> Result<PathBuf, OpenError> {
    let io_error = |source| OpenError::Io { path: path.to_owned(), source };
    if path.try_exists().map_err(io_error)? {
        return Err(OpenError::Exists { path: path.to_owned() });
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    match disk.remove(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    options.open(&unfinished).map_err(io_error)?;
    let database = builder().create(&unfinished).map_err(|error| refused(&unfinished, error))?;
    lay_out(&database)
        .and_then(|()| database.close().map_err(redb::Error::from))
        .map_err(|error| io_error(io::Error::other(error)))?;
    Ok(unfinished)
}

/// Moves a file that is complete and closed to its place.
pub(crate) fn finish(disk: &dyn Disk, unfinished: &Path, path: &Path) -> Result<(), OpenError> {
    let io_error = |source| OpenError::Io { path: path.to_owned(), source };
    disk.rename(unfinished, path).map_err(io_error)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    // A file that was altered outside redb is refused and not trusted.
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

fn lay_out(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(FORMAT_KEY, FORMAT)?;
        meta.insert(LAST_WRITING, 0)?;
    }
    transaction.open_table(ENTRIES)?;
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
        Some(FORMAT) => Ok(()),
        Some(found) if found > FORMAT => Err(OpenError::Newer { path: path.to_owned(), found }),
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
