//! The port to durable storage: one record, and the journal of how it came about.

use std::fmt::Debug;

use async_trait::async_trait;
use stores::Hints;
use trust::Generation;

/// The record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its generation.
    pub generation: Generation,
    /// Its bytes, as `rotation::record` made them.
    pub record: Vec<u8>,
}

/// A change of the record, with its entry in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The generation that must be stored now; `None` if there must be no record.
    pub expected: Option<Generation>,
    /// The generation to store.
    pub generation: Generation,
    /// The record to store.
    pub record: Vec<u8>,
    /// The entry to append to the journal.
    pub journal: Vec<u8>,
}

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another writer was first. Nothing was written; load what it wrote.
    #[error("another writer was first: generation {} is stored", found.map_or_else(|| "0".to_owned(), |found| found.to_string()))]
    Conflict {
        /// What is stored.
        found: Option<Generation>,
    },
    /// Nothing was read or written, for sure.
    #[error("the record store failed: {reason}")]
    Failed {
        /// What the storage said, and what can be done.
        reason: String,
    },
    /// It may be written or not. Only [`RecordStore::load`] tells.
    #[error("it is unknown whether the record was written: {reason}")]
    Unknown {
        /// What the storage said, and what can be done.
        reason: String,
    },
}

/// Durable storage of one record.
///
/// When a call returns `Ok`, what it wrote survives a power cut. Record and journal entry of one write are stored
/// together or not at all. Calls may come from several processes at once; the generation decides who was first.
#[async_trait]
pub trait RecordStore: Send + Sync + Debug {
    /// Reads the record; `None` only if there never was one. After a call that ended in [`StoreError::Unknown`] this
    /// settles what is stored: two loads do not differ without a write between them, a power cut included.
    ///
    /// # Errors
    /// [`StoreError::Failed`]; a record that cannot be read is never reported as missing.
    async fn load(&self) -> Result<Option<Stored>, StoreError>;

    /// Replaces the record if its generation is as expected, and appends to the journal, in one write.
    ///
    /// # Errors
    /// Every variant of [`StoreError`]. After [`StoreError::Unknown`] the caller must not believe its memory until it
    /// has loaded the record again.
    async fn compare_and_swap(&self, write: Write) -> Result<(), StoreError>;

    /// Appends an entry to the journal and leaves the record alone.
    ///
    /// # Errors
    /// [`StoreError::Failed`] or [`StoreError::Unknown`]; the record is as before.
    async fn append(&self, journal: Vec<u8>) -> Result<(), StoreError>;

    /// Reads up to `limit` entries of the journal from index `from` on, oldest first, each with its index. Indexes
    /// grow by one; the oldest entries may be gone.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    async fn journal(&self, from: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError>;

    /// Says whenever another process may have written the record; `None` where none can.
    ///
    /// # Errors
    /// [`StoreError::Failed`]; ask again.
    async fn watch(&self) -> Result<Option<Hints>, StoreError> {
        Ok(None)
    }
}
