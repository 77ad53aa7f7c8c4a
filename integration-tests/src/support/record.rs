//! Faults of the record's store, in front of the real one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use host::FaultDisk;
use rotation_driver::{RecordStore, StoreError, Stored, Write, WriteFault};
use stores::Hints;

/// Fails writes of the record on demand, and counts them. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct RecordFaults(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    writes: u64,
    nth: Option<(u64, WriteFault)>,
    refuses: bool,
    dies_with: Option<FaultDisk>,
}

impl RecordFaults {
    /// Fails the `nth` write, counted from 0.
    #[must_use]
    pub fn at(nth: u64, fault: WriteFault) -> Self {
        let faults = Self::default();
        faults.lock().nth = Some((nth, fault));
        faults
    }

    /// Writes nothing any more once the process counts as dead on this disk.
    #[must_use]
    pub fn dying_with(disk: &FaultDisk) -> Self {
        let faults = Self::default();
        faults.lock().dies_with = Some(disk.clone());
        faults
    }

    /// From now on refuses every write, or takes them again.
    pub fn refuse(&self, refuses: bool) {
        self.lock().refuses = refuses;
    }

    /// How many writes were tried.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    pub(crate) fn before(&self, store: Arc<dyn RecordStore>) -> Arc<dyn RecordStore> {
        Arc::new(FaultyRecord { store, faults: self.clone() })
    }

    fn next(&self) -> Option<WriteFault> {
        let mut plan = self.lock();
        let nth = plan.writes;
        plan.writes += 1;
        let dead = plan.dies_with.as_ref().is_some_and(FaultDisk::is_dead);
        if plan.refuses || dead {
            return Some(WriteFault::Refused);
        }
        plan.nth.filter(|(at, _)| *at == nth).map(|(_, fault)| fault)
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct FaultyRecord {
    store: Arc<dyn RecordStore>,
    faults: RecordFaults,
}

/// With what can be done, as every store says it.
fn reason() -> String {
    "injected fault; check the disk that holds the data directory".to_owned()
}

#[async_trait]
impl RecordStore for FaultyRecord {
    async fn load(&self) -> Result<Option<Stored>, StoreError> {
        self.store.load().await
    }

    async fn compare_and_swap(&self, write: Write) -> Result<(), StoreError> {
        match self.faults.next() {
            None => self.store.compare_and_swap(write).await,
            Some(WriteFault::Refused) => Err(StoreError::Failed { reason: reason() }),
            Some(WriteFault::FailedNotStored) => Err(StoreError::Unknown { reason: reason() }),
            Some(WriteFault::FailedButStored) => {
                self.store.compare_and_swap(write).await?;
                Err(StoreError::Unknown { reason: reason() })
            }
        }
    }

    async fn append(&self, journal: Vec<u8>) -> Result<(), StoreError> {
        self.store.append(journal).await
    }

    async fn journal(&self, from: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.store.journal(from, limit).await
    }

    async fn watch(&self) -> Result<Option<Hints>, StoreError> {
        self.store.watch().await
    }
}
