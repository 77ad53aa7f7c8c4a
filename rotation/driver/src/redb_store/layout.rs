//! The tables of the file, and why it cannot be used.

use std::path::PathBuf;

use redb::TableDefinition;

/// Version of the layout of tables in the file.
pub const STORE_FORMAT: u64 = 1;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const RECORD: TableDefinition<'_, u8, (u64, &[u8])> = TableDefinition::new("record");
pub(super) const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("journal");

/// Why a store could not be opened or made. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such file.
    #[error("{} does not exist; if this replica ran before, restore the latest backup of its data directory", path.display())]
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
    #[error("{} has layout {found}, this release reads up to {STORE_FORMAT}: start the release that wrote it, or a newer one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u64,
    },
    /// It exists and is no store, or a damaged one.
    #[error("{} exists and cannot be read ({reason}): keep the file, and restore the latest backup of the data directory", path.display())]
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
        source: std::io::Error,
    },
}
