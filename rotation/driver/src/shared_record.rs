//! The record in a store that servers share: one key for it, one for each entry of the journal but the newest.
//!
//! A write of one key is atomic, and of no more. So the record's value carries the entry of its own write, and whoever writes
//! next first gives that entry a key of its own. Whatever stops between the two, nothing is lost: the entry is in the record, or
//! under its key, or in both, byte for byte the same.

use std::sync::Arc;

use async_trait::async_trait;
use stores::spaces::{JOURNAL, RECORD};
use stores::{Hints, Key, ReadError, SharedStore, Version, WriteError};

pub(crate) use self::value::Value;
use crate::{RecordStore, StoreError, Stored, Write};

mod value;

/// Most entries that the journal keeps; the oldest go first. At some 400 bytes each this is 40 MB, years of a quiet
/// CA and weeks of one that extends its horizon every minute and a half.
pub const JOURNAL_ENTRIES_MAX: u64 = 100_000;

/// The one key of its space.
const RECORD_ID: &str = "record";
/// How often a write is begun anew because somebody else wrote an entry of the journal meanwhile.
const TRIES: u32 = 64;
/// Entries of the journal that are read at once.
const PAGE: usize = 1_000;

/// The record of one trust domain, which several servers may write: the generation decides who was first. Clones are the
/// same record.
#[derive(Debug, Clone)]
pub struct SharedRecord(Arc<dyn SharedStore>);

/// The record, and where in the journal the entry of its last write belongs: those before it stand under keys of their own.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The record.
    pub stored: Stored,
    /// The index of its entry.
    pub index: u64,
}

/// The record's value, and which writing it comes from.
struct Found {
    value: Value,
    version: Version,
}

impl SharedRecord {
    /// The record in this store.
    pub fn new(store: Arc<dyn SharedStore>) -> Self {
        Self(store)
    }

    /// What the record's value says, wherever it was kept.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when this program did not write it.
    pub fn kept(value: &[u8]) -> Result<Kept, StoreError> {
        let Value { generation, index, record, .. } = decoded(value)?;
        Ok(Kept { stored: Stored { generation, record }, index })
    }

    async fn found(&self) -> Result<Option<Found>, StoreError> {
        let Some(found) = self.0.get(&record_key()?).await.map_err(not_read)? else {
            return Ok(None);
        };
        Ok(Some(Found { value: decoded(&found.value)?, version: found.version }))
    }

    /// Gives the entry that is in the record a key of its own, and answers the index behind it.
    async fn settled(&self, value: &Value) -> Result<u64, StoreError> {
        let mut index = value.index;
        loop {
            let key = journal_key(index)?;
            match self.0.create(&key, &value.entry).await {
                Ok(_) => break,
                Err(WriteError::Conflict { .. }) => {
                    // Written before, by whoever stopped then; or an entry of before there was a record.
                    let there = self.0.get(&key).await.map_err(not_read)?;
                    if there.is_some_and(|there| there.value == value.entry) {
                        break;
                    }
                }
                Err(error) => return Err(not_begun(error)),
            }
            index = index.saturating_add(1);
        }
        self.forget_before(index).await;
        Ok(index.saturating_add(1))
    }

    /// Drops the entry that is one too many. The next write drops what this one could not.
    async fn forget_before(&self, index: u64) {
        let Some(oldest) = index.checked_sub(JOURNAL_ENTRIES_MAX) else { return };
        let Ok(key) = journal_key(oldest) else { return };
        if let Ok(Some(entry)) = self.0.get(&key).await {
            // It does no harm that it is there.
            let _ = self.0.delete(&key, &entry.version).await;
        }
    }

    /// The index behind the last entry that has a key.
    async fn behind_the_journal(&self) -> Result<u64, StoreError> {
        let (mut from, mut behind) = (0, 0);
        loop {
            let (entries, more) = self.page(from, PAGE).await?;
            behind = entries.last().map_or(behind, |(index, _)| index.saturating_add(1));
            from = behind;
            if !more {
                return Ok(behind);
            }
        }
    }

    async fn page(
        &self,
        from: u64,
        limit: usize,
    ) -> Result<(Vec<(u64, Vec<u8>)>, bool), StoreError> {
        let page = self.0.list(JOURNAL, Some(&journal_id(from)), limit).await.map_err(not_read)?;
        let entries = page.entries.into_iter().map(|entry| {
            let odd = || StoreError::Failed {
                reason: format!(
                    "the key {:?} of space journal was not written by this program: delete it",
                    entry.id
                ),
            };
            Ok((entry.id.parse().map_err(|_| odd())?, entry.value))
        });
        Ok((entries.collect::<Result<_, StoreError>>()?, page.more))
    }

    /// Writes what `next` makes of what is there and the index of the new entry, anew when only the journal went on.
    async fn write(
        &self,
        next: impl Fn(Option<&Value>, u64) -> Result<Value, StoreError>,
    ) -> Result<(), StoreError> {
        let key = record_key()?;
        for _ in 0..TRIES {
            let found = self.found().await?;
            // Whoever is too late learns it before anything is written.
            next(found.as_ref().map(|found| &found.value), 0)?;
            let written = match &found {
                Some(found) => {
                    let index = self.settled(&found.value).await?;
                    let value = next(Some(&found.value), index)?;
                    self.0.put(&key, &value.encode(), &found.version).await
                }
                None => {
                    let value = next(None, self.behind_the_journal().await?)?;
                    self.0.create(&key, &value.encode()).await
                }
            };
            match written {
                Ok(_) => return Ok(()),
                Err(WriteError::Conflict { .. }) => {}
                Err(WriteError::Failed { reason, .. }) => {
                    return Err(StoreError::Failed { reason });
                }
                Err(WriteError::Unknown { reason, .. }) => {
                    return Err(StoreError::Unknown { reason });
                }
            }
        }
        let reason = format!("others wrote {TRIES} times meanwhile; retry in 2 s");
        Err(StoreError::Failed { reason })
    }

    /// An entry of a time when there is no record yet.
    async fn append_alone(&self, entry: &[u8]) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            let key = journal_key(self.behind_the_journal().await?)?;
            match self.0.create(&key, entry).await {
                Ok(_) => return Ok(()),
                Err(WriteError::Conflict { .. }) => {}
                Err(WriteError::Failed { reason, .. }) => {
                    return Err(StoreError::Failed { reason });
                }
                Err(WriteError::Unknown { reason, .. }) => {
                    return Err(StoreError::Unknown { reason });
                }
            }
        }
        let reason = format!("others wrote {TRIES} times meanwhile; retry in 2 s");
        Err(StoreError::Failed { reason })
    }
}

#[async_trait]
impl RecordStore for SharedRecord {
    async fn load(&self) -> Result<Option<Stored>, StoreError> {
        let found = self.found().await?;
        Ok(found.map(|Found { value, .. }| Stored {
            generation: value.generation,
            record: value.record,
        }))
    }

    async fn compare_and_swap(&self, write: Write) -> Result<(), StoreError> {
        self.write(|there, index| {
            let found = there.map(|there| there.generation);
            if found != write.expected {
                return Err(StoreError::Conflict { found });
            }
            let (generation, entry) = (write.generation, write.journal.clone());
            Ok(Value { generation, index, entry, record: write.record.clone() })
        })
        .await
    }

    /// The record is written anew as it is, with the new entry: so entries have one order, whoever writes them.
    async fn append(&self, journal: Vec<u8>) -> Result<(), StoreError> {
        if self.found().await?.is_none() {
            return self.append_alone(&journal).await;
        }
        let gone =
            || StoreError::Failed { reason: "the record is gone; restore a backup".to_owned() };
        self.write(|there, index| {
            let there = there.ok_or_else(gone)?;
            Ok(Value { index, entry: journal.clone(), ..there.clone() })
        })
        .await
    }

    async fn journal(&self, from: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        // Read before the keys: an entry that gets its key meanwhile is then seen twice, never not at all.
        let newest = self.found().await?.map(|found| found.value);
        let mut entries = Vec::new();
        let mut next = from;
        loop {
            let (page, more) = self.page(next, (limit - entries.len()).min(PAGE)).await?;
            next = page.last().map_or(next, |(index, _)| index.saturating_add(1));
            entries.extend(page);
            if entries.len() >= limit {
                return Ok(entries);
            }
            if !more {
                break;
            }
        }
        let Some(newest) = newest else { return Ok(entries) };
        let listed =
            entries.iter().any(|(index, entry)| *index >= newest.index && *entry == newest.entry);
        if !listed {
            let index = newest.index.max(next);
            entries
                .extend((index >= from && newest.index >= from).then_some((index, newest.entry)));
        }
        Ok(entries)
    }

    async fn watch(&self) -> Result<Option<Hints>, StoreError> {
        self.0.watch(RECORD).await.map(Some).map_err(not_read)
    }
}

fn decoded(value: &[u8]) -> Result<Value, StoreError> {
    Value::decode(value).map_err(|what| {
        let reason = format!(
            "the key {RECORD_ID} of space {} was not written by this program ({what}): put back the value that \
             was there, or restore a backup",
            RECORD.name()
        );
        StoreError::Failed { reason }
    })
}

fn journal_id(index: u64) -> String {
    format!("{index:020}")
}

pub(crate) fn journal_key(index: u64) -> Result<Key, StoreError> {
    JOURNAL.key(journal_id(index)).map_err(|error| StoreError::Failed { reason: error.to_string() })
}

pub(crate) fn record_key() -> Result<Key, StoreError> {
    RECORD.key(RECORD_ID).map_err(|error| StoreError::Failed { reason: error.to_string() })
}

fn not_read(error: ReadError) -> StoreError {
    StoreError::Failed { reason: error.to_string() }
}

/// A write before the record's own failed: the record is as before, whatever became of it.
fn not_begun(error: WriteError) -> StoreError {
    StoreError::Failed { reason: error.to_string() }
}
