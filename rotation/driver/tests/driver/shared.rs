//! The record in a store that servers share: nothing of the journal is lost or doubled, whatever stops a write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use host::RealDisk;
use rotation_driver::{RecordStore, SharedRecord, StoreError, Write};
use stores::{
    Hints, Key, Look, Page, ReadError, Sensitivity, SharedStore, Space, Version, Versioned,
    WriteError,
};
use stores_redb::RedbStore;
use trust::Generation;

use crate::fixture::*;

fn new_store(dir: &tempfile::TempDir) -> Arc<dyn SharedStore> {
    Arc::new(RedbStore::create(Arc::new(RealDisk), &dir.path().join("state.redb")).unwrap())
}

fn write(generation: u64, by: &str) -> Write {
    Write {
        expected: generation.checked_sub(1).filter(|former| *former > 0).map(Generation),
        generation: Generation(generation),
        record: format!("record {generation} {by}").into_bytes(),
        journal: format!("entry {generation} {by}").into_bytes(),
    }
}

async fn entries(record: &SharedRecord) -> Vec<String> {
    let entries = record.journal(0, usize::MAX).await.unwrap();
    let indexes: Vec<u64> = entries.iter().map(|(index, _)| *index).collect();
    assert_eq!(indexes, (0..entries.len() as u64).collect::<Vec<_>>(), "indexes grow by one");
    entries.into_iter().map(|(_, entry)| String::from_utf8(entry).unwrap()).collect()
}

#[tokio::test]
async fn a_driver_works_over_a_shared_record_and_finds_it_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::on(Arc::new(SharedRecord::new(new_store(&dir))));
    let (handle, task) = fixture.start().await;
    handle.submit(bootstrap("f")).await.unwrap();
    let state = settled(&handle).await;
    task.stop().await;
    let journal = fixture.journal().await;
    assert!(journal.len() > 2);
    drop((handle, fixture));

    let store = RedbStore::open(Arc::new(RealDisk), &dir.path().join("state.redb")).unwrap();
    let fixture = Fixture::on(Arc::new(SharedRecord::new(Arc::new(store))));
    let (handle, task) = fixture.start().await;
    assert_eq!(handle.state(), state);
    assert_eq!(fixture.journal().await, journal);
    task.stop().await;
}

#[tokio::test]
async fn the_generation_decides_and_entries_come_in_the_order_of_their_writes() {
    let dir = tempfile::tempdir().unwrap();
    let record = SharedRecord::new(new_store(&dir));
    assert_eq!(record.load().await.unwrap(), None);
    record.append(b"before there is a record".to_vec()).await.unwrap();
    record.compare_and_swap(write(1, "a")).await.unwrap();
    for expected in [None, Some(Generation(7))] {
        let error = record.compare_and_swap(Write { expected, ..write(2, "b") }).await.unwrap_err();
        assert_eq!(error, StoreError::Conflict { found: Some(Generation(1)) });
    }
    let mut hints = record.watch().await.unwrap().unwrap();
    record.append(b"a word".to_vec()).await.unwrap();
    assert!(matches!(hints.next().await, Look::At(_)));
    record.compare_and_swap(write(2, "a")).await.unwrap();
    let stored = record.load().await.unwrap().unwrap();
    assert_eq!((stored.generation, stored.record), (Generation(2), b"record 2 a".to_vec()));
    assert_eq!(
        entries(&record).await,
        ["before there is a record", "entry 1 a", "a word", "entry 2 a"]
    );
    let part = record.journal(1, 2).await.unwrap();
    assert_eq!(part, [(1, b"entry 1 a".to_vec()), (2, b"a word".to_vec())]);
    assert_eq!(record.journal(3, 10).await.unwrap(), [(3, b"entry 2 a".to_vec())]);
    assert_eq!(record.journal(4, 10).await.unwrap(), []);
}

/// How a write of the store under the record fails.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Refused,
    UnknownAndDone,
    UnknownAndNotDone,
}

/// Fails the write that brings the counter from 1 to 0.
#[derive(Debug)]
struct Faulty {
    store: Arc<dyn SharedStore>,
    fault: Fault,
    countdown: AtomicU64,
}

impl Faulty {
    async fn write<T>(
        &self,
        key: &Key,
        write: impl Future<Output = Result<T, WriteError>>,
    ) -> Result<T, WriteError> {
        let left = self.countdown.load(Ordering::SeqCst);
        self.countdown.store(left.saturating_sub(1), Ordering::SeqCst);
        match (left, self.fault) {
            (1, Fault::Refused) => Err(WriteError::failed(key, "on demand")),
            (1, Fault::UnknownAndNotDone) => Err(WriteError::unknown(key, "on demand")),
            (1, Fault::UnknownAndDone) => {
                write.await?;
                Err(WriteError::unknown(key, "on demand"))
            }
            _ => write.await,
        }
    }
}

#[async_trait]
impl SharedStore for Faulty {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, ReadError> {
        self.store.get(key).await
    }
    async fn create(&self, key: &Key, value: &[u8]) -> Result<Version, WriteError> {
        self.write(key, self.store.create(key, value)).await
    }
    async fn put(
        &self,
        key: &Key,
        value: &[u8],
        expected: &Version,
    ) -> Result<Version, WriteError> {
        self.write(key, self.store.put(key, value, expected)).await
    }
    async fn delete(&self, key: &Key, expected: &Version) -> Result<(), WriteError> {
        self.write(key, self.store.delete(key, expected)).await
    }
    async fn list(
        &self,
        space: Space,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        self.store.list(space, from, limit).await
    }
    async fn watch(&self, space: Space) -> Result<Hints, ReadError> {
        self.store.watch(space).await
    }
}

/// Writes as a driver does: after an outcome that is unknown it looks, and after a failure it tries again.
async fn driven(record: &SharedRecord, to: u64) {
    for generation in 1..=to {
        loop {
            match record.compare_and_swap(write(generation, "a")).await {
                Ok(()) => break,
                Err(StoreError::Failed { .. }) => {}
                Err(StoreError::Unknown { .. }) => {
                    let now = record.load().await.unwrap().map_or(0, |stored| stored.generation.0);
                    if now == generation {
                        break;
                    }
                    assert_eq!(now, generation - 1);
                }
                Err(error @ StoreError::Conflict { .. }) => panic!("nobody else writes: {error}"),
            }
        }
        let word = format!("word {generation}");
        while record.append(word.clone().into_bytes()).await.is_err() {
            if entries(record).await.last() == Some(&word) {
                break;
            }
        }
    }
}

#[tokio::test]
async fn no_entry_is_lost_or_doubled_whatever_write_fails() {
    let wanted: Vec<String> =
        (1..=3).flat_map(|n| [format!("entry {n} a"), format!("word {n}")]).collect();
    let mut reached = 0;
    for fault in [Fault::Refused, Fault::UnknownAndDone, Fault::UnknownAndNotDone] {
        for nth in 1..=14 {
            let dir = tempfile::tempdir().unwrap();
            let faulty =
                Arc::new(Faulty { store: new_store(&dir), fault, countdown: AtomicU64::new(nth) });
            let record = SharedRecord::new(Arc::clone(&faulty) as _);
            driven(&record, 3).await;
            assert_eq!(entries(&record).await, wanted, "{fault:?} at write {nth}");
            reached += u64::from(faulty.countdown.load(Ordering::SeqCst) == 0);
        }
    }
    assert!(reached >= 30, "only {reached} faults were reached");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_that_write_at_once_make_one_path_and_one_journal() {
    let dir = tempfile::tempdir().unwrap();
    let store = new_store(&dir);
    let record = SharedRecord::new(Arc::clone(&store));
    record.compare_and_swap(write(1, "first")).await.unwrap();
    let server = |name: &'static str| {
        let record = SharedRecord::new(Arc::clone(&store));
        tokio::spawn(async move {
            let mut written = Vec::new();
            for n in 0..15 {
                let now = record.load().await.unwrap().unwrap().generation.0;
                let next = write(now + 1, name);
                match record.compare_and_swap(next.clone()).await {
                    Ok(()) => written.push(String::from_utf8(next.journal).unwrap()),
                    Err(StoreError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                let word = format!("word {n} {name}");
                record.append(word.clone().into_bytes()).await.unwrap();
                written.push(word);
            }
            written
        })
    };
    let (one, other) = (server("one"), server("other"));
    let (one, other) = (one.await.unwrap(), other.await.unwrap());
    let found = entries(&record).await;
    let mut wanted: Vec<String> =
        [vec!["entry 1 first".to_owned()], one.clone(), other.clone()].concat();
    let mut sorted = found.clone();
    wanted.sort();
    sorted.sort();
    assert_eq!(sorted, wanted, "each entry that was written is there once, and no other");
    for written in [one, other] {
        let order: Vec<_> = found.iter().filter(|entry| written.contains(entry)).collect();
        assert_eq!(order, written.iter().collect::<Vec<_>>(), "in the order of their server");
    }
    let generations: Vec<u64> = found
        .iter()
        .filter_map(|entry| entry.strip_prefix("entry ")?.split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(generations, (1..=generations.len() as u64).collect::<Vec<_>>(), "one path");
}

#[tokio::test]
async fn a_value_that_somebody_wrote_by_hand_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = new_store(&dir);
    let record = SharedRecord::new(Arc::clone(&store));
    record.compare_and_swap(write(1, "a")).await.unwrap();
    let key = Space::new("record", Sensitivity::Plain).key("record").unwrap();
    let found = store.get(&key).await.unwrap().unwrap();
    let mut altered = found.value.clone();
    *altered.last_mut().unwrap() ^= 1;
    store.put(&key, &altered, &found.version).await.unwrap();
    for said in [
        record.load().await.map(drop),
        record.compare_and_swap(write(2, "a")).await,
        record.append(b"x".to_vec()).await,
    ] {
        let said = said.unwrap_err().to_string();
        assert!(said.contains("space record") && said.contains("checksum"), "{said}");
    }
}
