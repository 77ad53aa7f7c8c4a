//! The port.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::{Hints, Key, ReadError, Space, Version, WriteError};

/// A value as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// Its bytes, as they were written.
    pub value: Vec<u8>,
    /// Which writing they come from.
    pub version: Version,
}

/// One value of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id within the space.
    pub id: String,
    /// Its bytes, as they were written.
    pub value: Vec<u8>,
    /// Which writing they come from.
    pub version: Version,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Entries in the order of their ids' bytes.
    pub entries: Vec<Entry>,
    /// Whether there are others behind the last.
    pub more: bool,
}

/// State that several replicas share.
///
/// When a write returns `Ok` it survives a crash of the engine, and every later read of any replica sees it or a later one:
/// reads are linearizable. Each call has a deadline of the engine's own, so that none waits for ever; dropping a call's
/// future is as good as [`WriteError::Unknown`]. Engines never try a write again by themselves, unless they know that
/// nothing was written: otherwise a caller could meet its own write as somebody else's.
#[async_trait]
pub trait SharedStore: Send + Sync + Debug {
    /// Reads one key.
    ///
    /// # Errors
    /// [`ReadError`].
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, ReadError>;

    /// Writes a key that is not there.
    ///
    /// # Errors
    /// Every variant of [`WriteError`]; a value above [`VALUE_BYTES_MAX`](crate::VALUE_BYTES_MAX) fails.
    async fn create(&self, key: &Key, value: &[u8]) -> Result<Version, WriteError>;

    /// Writes a key that is at this version.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    async fn put(&self, key: &Key, value: &[u8], expected: &Version)
    -> Result<Version, WriteError>;

    /// Deletes a key that is at this version.
    ///
    /// # Errors
    /// Every variant of [`WriteError`].
    async fn delete(&self, key: &Key, expected: &Version) -> Result<(), WriteError>;

    /// Reads up to `limit` values of a space in the order of their ids, from the id `from` on (itself included). A list of
    /// several pages is no snapshot: what is written meanwhile is in it or not, what is not touched is in it once.
    ///
    /// # Errors
    /// [`ReadError`]; a list is whole or an error.
    async fn list(&self, space: Space, from: Option<&str>, limit: usize)
    -> Result<Page, ReadError>;

    /// Says from now on where to look in a space: each change that is made after this call returned, by whichever replica,
    /// is followed by a hint. Hints may be repeated, and may be too many. The engine goes on by itself when its connection
    /// breaks, and then says to look everywhere.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot begin.
    async fn watch(&self, space: Space) -> Result<Hints, ReadError>;
}
