//! The store's fake: in memory, and able to fail at any write in every way a disk can.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::{RecordStore, StoreError, Stored, Write};

/// How a write fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteFault {
    /// Nothing is stored, and the caller is told that it is unknown.
    FailedNotStored,
    /// It is stored, and the caller is told that it is unknown.
    FailedButStored,
    /// Nothing is stored, and the caller is told so, as when the disk is full.
    Refused,
}

/// A record in memory that outlives any driver, as a disk does. Checks its callers: a write that does not move the
/// generation on by one panics.
#[derive(Debug, Default)]
pub struct FaultStore(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    stored: Option<Stored>,
    journal: Vec<Vec<u8>>,
    writes: u64,
    faults: BTreeMap<u64, WriteFault>,
    failing_loads: u32,
    failing_appends: u32,
}

impl FaultStore {
    /// An empty store that works.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the `nth` write of the record from the beginning fail, counted from 0.
    pub fn fail_write(&self, nth: u64, fault: WriteFault) {
        self.lock().faults.insert(nth, fault);
    }

    /// Lets the next `loads` reads of the record fail.
    pub fn fail_loads(&self, loads: u32) {
        self.lock().failing_loads = loads;
    }

    /// Lets the next `appends` entries of the journal alone fail.
    pub fn fail_appends(&self, appends: u32) {
        self.lock().failing_appends = appends;
    }

    /// How many writes of the record were tried.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// Puts another record in place, as damage or another replica would.
    pub fn put(&self, stored: Option<Stored>) {
        self.lock().stored = stored;
    }

    /// What is stored.
    pub fn stored(&self) -> Option<Stored> {
        self.lock().stored.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl RecordStore for FaultStore {
    async fn load(&self) -> Result<Option<Stored>, StoreError> {
        let mut inner = self.lock();
        if inner.failing_loads > 0 {
            inner.failing_loads -= 1;
            return Err(StoreError::Failed { reason: "fault on demand".to_owned() });
        }
        Ok(inner.stored.clone())
    }

    async fn compare_and_swap(&self, write: Write) -> Result<(), StoreError> {
        assert_eq!(
            write.generation,
            write.expected.unwrap_or_default().next(),
            "a write moves the generation on by one"
        );
        let mut inner = self.lock();
        let fault = inner.writes;
        inner.writes += 1;
        let fault = inner.faults.remove(&fault);
        let found = inner.stored.as_ref().map(|stored| stored.generation);
        if found != write.expected {
            return Err(StoreError::Conflict { found });
        }
        if fault == Some(WriteFault::Refused) {
            return Err(StoreError::Failed { reason: "fault on demand".to_owned() });
        }
        if fault != Some(WriteFault::FailedNotStored) {
            inner.stored = Some(Stored { generation: write.generation, record: write.record });
            inner.journal.push(write.journal);
        }
        match fault {
            Some(_) => Err(StoreError::Unknown { reason: "fault on demand".to_owned() }),
            None => Ok(()),
        }
    }

    async fn append(&self, journal: Vec<u8>) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if inner.failing_appends > 0 {
            inner.failing_appends -= 1;
            return Err(StoreError::Failed { reason: "fault on demand".to_owned() });
        }
        inner.journal.push(journal);
        Ok(())
    }

    async fn journal(&self, from: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let inner = self.lock();
        let numbered = (0_u64..).zip(&inner.journal).filter(|(index, _)| *index >= from);
        Ok(numbered.take(limit).map(|(index, entry)| (index, entry.clone())).collect())
    }
}
