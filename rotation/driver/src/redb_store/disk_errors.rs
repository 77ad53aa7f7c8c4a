//! Errors of the disk under redb, at every operation of a commit: what the store says is true.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use redb::backends::FileBackend;
use redb::{Builder, StorageBackend};

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Write,
    Sync,
}

/// Fails the operation that brings the counter from 0 to -1.
#[derive(Debug)]
struct Plan {
    operation: Operation,
    /// Whether the failing operation is carried out all the same.
    carried_out: bool,
    countdown: AtomicI64,
}

const NEVER: i64 = i64::MAX;

impl Plan {
    fn run(&self, operation: Operation, real: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let fails =
            operation == self.operation && self.countdown.fetch_sub(1, Ordering::SeqCst) == 0;
        if fails && !self.carried_out {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        real()?;
        if fails { Err(io::Error::other("fault on demand")) } else { Ok(()) }
    }
}

#[derive(Debug)]
struct FaultyFile(FileBackend, Arc<Plan>);

impl StorageBackend for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1.run(Operation::Sync, || self.0.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.1.run(Operation::Write, || self.0.write(offset, data))
    }
}

fn faulty(path: &Path, plan: Arc<Plan>) -> RedbStore {
    let opener = move |path: &Path| {
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let backend = FaultyFile(FileBackend::new(file).unwrap(), Arc::clone(&plan));
        Ok(Builder::new().set_check_integrity_on_open(true).create_with_backend(backend).unwrap())
    };
    RedbStore::open_by(path, Box::new(opener)).unwrap()
}

fn to(generation: u64) -> Write {
    Write {
        expected: generation.checked_sub(1).filter(|former| *former > 0).map(Generation),
        generation: Generation(generation),
        record: vec![u8::try_from(generation).unwrap(); 9_000],
        journal: vec![7],
    }
}

async fn generation(store: &RedbStore) -> u64 {
    store.load().await.unwrap().unwrap().generation.0
}

#[tokio::test]
async fn after_an_error_of_the_disk_the_store_says_what_is_true_and_works_on() {
    let mut unknown_came_to = std::collections::BTreeSet::new();
    let mut failed = 0;
    for operation in [Operation::Write, Operation::Sync] {
        for carried_out in [false, true] {
            for nth in 0..10 {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("record.redb");
                RedbStore::create(&host::RealDisk, &path).unwrap();
                let plan =
                    Arc::new(Plan { operation, carried_out, countdown: AtomicI64::new(NEVER) });
                let store = faulty(&path, Arc::clone(&plan));
                store.compare_and_swap(to(1)).await.unwrap();
                plan.countdown.store(nth, Ordering::SeqCst);
                let answer = store.compare_and_swap(to(2)).await;
                plan.countdown.store(NEVER, Ordering::SeqCst);
                let found = generation(&store).await;
                let case = format!("{operation:?} {nth} {carried_out}: {answer:?}, then {found}");
                match answer {
                    Ok(()) => assert_eq!(found, 2, "{case}"),
                    Err(StoreError::Failed { .. }) => assert_eq!(found, 1, "{case}"),
                    Err(StoreError::Unknown { .. }) => {
                        failed += 1;
                        unknown_came_to.insert(found);
                    }
                    Err(StoreError::Conflict { .. }) => panic!("{case}"),
                }
                store.compare_and_swap(to(found + 1)).await.unwrap();
                drop(store);
                let again = RedbStore::open(&path).unwrap();
                assert_eq!(generation(&again).await, found + 1, "{case}");
                assert_eq!(again.journal(0, 10).await.unwrap().len() as u64, found + 1, "{case}");
            }
        }
    }
    assert!(failed >= 4, "only {failed} faults hit a commit");
    assert!(unknown_came_to.contains(&1), "no fault was failed-not-stored");
    assert!(unknown_came_to.contains(&2), "no fault was failed-but-stored");
}
