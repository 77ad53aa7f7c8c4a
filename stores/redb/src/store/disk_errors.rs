//! Errors of the disk under redb, at every operation of a commit: what the store says is true.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};

use host::RealDisk;
use redb::backends::FileBackend;
use redb::{Builder, StorageBackend};
use stores::Sensitivity;

use super::*;

const SPACE: Space = Space::new("agents", Sensitivity::Plain);

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
        let mut builder = Builder::new();
        builder.set_check_integrity_on_open(true);
        Ok(builder.create_with_backend(backend).unwrap())
    };
    RedbStore::open_by(Arc::new(RealDisk), path, Box::new(opener)).unwrap()
}

#[tokio::test]
async fn after_an_error_of_the_disk_the_store_says_what_is_true_and_works_on() {
    let (first, second) = (vec![1; 9_000], vec![2; 9_000]);
    let (mut unknown, mut came_to) = (0, BTreeSet::new());
    for operation in [Operation::Write, Operation::Sync] {
        for carried_out in [false, true] {
            for nth in 0..10 {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("state.redb");
                drop(RedbStore::create(Arc::new(RealDisk), &path).unwrap());
                let countdown = AtomicI64::new(NEVER);
                let plan = Arc::new(Plan { operation, carried_out, countdown });
                let store = faulty(&path, Arc::clone(&plan));
                let key = SPACE.key("a").unwrap();
                let version = store.create(&key, &first).await.unwrap();
                plan.countdown.store(nth, Ordering::SeqCst);
                let answer = store.put(&key, &second, &version).await;
                plan.countdown.store(NEVER, Ordering::SeqCst);
                let found = store.get(&key).await.unwrap().unwrap();
                let case = format!("{operation:?} {nth} {carried_out}: {answer:?}");
                match answer {
                    Ok(_) => assert!(found.value == second, "{case}"),
                    Err(WriteError::Failed { .. }) => {
                        assert!(found.value == first && found.version == version, "{case}");
                    }
                    Err(WriteError::Unknown { .. }) => {
                        unknown += 1;
                        came_to.insert(found.value == second);
                    }
                    Err(WriteError::Conflict { .. }) => panic!("{case}"),
                }
                let third = store.put(&key, b"third", &found.version).await.unwrap();
                drop(store);
                let again = RedbStore::open(Arc::new(RealDisk), &path).unwrap();
                let read = again.get(&key).await.unwrap().unwrap();
                assert_eq!(
                    (read.value.as_slice(), read.version),
                    (b"third".as_slice(), third),
                    "{case}"
                );
            }
        }
    }
    assert!(unknown >= 4, "only {unknown} faults hit a commit");
    assert_eq!(came_to, BTreeSet::from([false, true]), "a fault was not stored, and one was");
}
