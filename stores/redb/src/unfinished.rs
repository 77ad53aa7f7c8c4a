//! A store that is filled before it is in its place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::Disk;

use crate::file::{self, OpenError};
use crate::store::RedbStore;

/// A store that is being filled, in a file beside the place where it belongs. What was written is there as a whole once
/// [`finish`](Self::finish) returned, and not at all before. That is why a single write need not be durable: filling it
/// is fast.
#[derive(Debug)]
pub struct Unfinished {
    store: RedbStore,
    disk: Arc<dyn Disk>,
    unfinished: PathBuf,
    path: PathBuf,
}

impl Unfinished {
    /// Makes a new, empty store to fill. What a former one left unfinished is removed.
    ///
    /// # Errors
    /// [`OpenError`]; an existing file is never replaced.
    pub fn begin(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, OpenError> {
        let unfinished = file::begin(disk.as_ref(), path)?;
        let store = RedbStore::open_to_fill(Arc::clone(&disk), &unfinished)?;
        Ok(Self { store, disk, unfinished, path: path.to_owned() })
    }

    /// Where to write.
    pub const fn store(&self) -> &RedbStore {
        &self.store
    }

    /// Makes everything durable, moves the file to its place, and opens it there.
    ///
    /// # Errors
    /// [`OpenError`]; the file is then not in its place, or is there as a whole.
    pub fn finish(self) -> Result<RedbStore, OpenError> {
        self.store.close()?;
        file::finish(self.disk.as_ref(), &self.unfinished, &self.path)?;
        RedbStore::open(self.disk, &self.path)
    }
}
