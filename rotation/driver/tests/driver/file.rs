//! The store in a file.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use host::RealDisk;
use rotation_driver::{OpenError, RecordStore as _, RedbStore, StoreError, Write};
use trust::Generation;

use crate::fixture::*;

fn write(expected: Option<u64>, record: &[u8]) -> Write {
    Write {
        expected: expected.map(Generation),
        generation: Generation(expected.unwrap_or(0) + 1),
        record: record.to_owned(),
        journal: b"entry".to_vec(),
    }
}

fn reason(path: &Path) -> String {
    RedbStore::open(path).unwrap_err().to_string()
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record.redb");
    let fixture = Fixture::on(Arc::new(RedbStore::create(&RealDisk, &path).unwrap()));
    let (handle, task) = fixture.start().await;
    handle.submit(bootstrap("f")).await.unwrap();
    let state = settled(&handle).await;
    task.stop().await;
    let journal = fixture.journal().await;
    drop((handle, fixture));

    let fixture = Fixture::on(Arc::new(RedbStore::open(&path).unwrap()));
    let (handle, task) = fixture.start().await;
    assert_eq!(handle.state(), state);
    assert_eq!(fixture.journal().await, journal);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    task.stop().await;
}

#[tokio::test]
async fn a_write_over_another_generation_is_a_conflict_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = RedbStore::create(&RealDisk, &dir.path().join("record.redb")).unwrap();
    assert_eq!(store.load().await.unwrap(), None);
    store.compare_and_swap(write(None, b"one")).await.unwrap();
    for expected in [None, Some(7)] {
        let error = store.compare_and_swap(write(expected, b"two")).await.unwrap_err();
        assert_eq!(error, StoreError::Conflict { found: Some(Generation(1)) });
    }
    store.compare_and_swap(write(Some(1), b"three")).await.unwrap();
    store.append(b"more".to_vec()).await.unwrap();
    let stored = store.load().await.unwrap().unwrap();
    assert_eq!((stored.generation, stored.record.as_slice()), (Generation(2), b"three".as_slice()));
    let journal = store.journal(1, 10).await.unwrap();
    assert_eq!(journal, [(1, b"entry".to_vec()), (2, b"more".to_vec())]);
}

#[test]
fn a_second_opening_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record.redb");
    let store = RedbStore::create(&RealDisk, &path).unwrap();
    let error = RedbStore::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("stop that process"), "{error}");
    drop(store);
    RedbStore::open(&path).unwrap();
}

#[test]
fn an_existing_file_is_never_replaced_and_a_missing_one_never_made_by_opening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record.redb");
    assert!(matches!(RedbStore::open(&path), Err(OpenError::Missing { .. })));
    assert!(!path.exists());
    for junk in [b"".as_slice(), b"x", &[7; 40_000]] {
        std::fs::write(&path, junk).unwrap();
        assert!(matches!(RedbStore::create(&RealDisk, &path), Err(OpenError::Exists { .. })));
        assert!(reason(&path).contains("restore the latest backup"), "{}", reason(&path));
        assert_eq!(std::fs::read(&path).unwrap(), junk);
    }
}

#[test]
fn a_creation_that_was_killed_half_way_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record.redb");
    std::fs::write(dir.path().join("record.redb.unfinished"), b"half").unwrap();
    RedbStore::create(&RealDisk, &path).unwrap();
    let names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["record.redb"]);
}

#[test]
fn a_newer_layout_is_refused_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record.redb");
    drop(RedbStore::create(&RealDisk, &path).unwrap());
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(meta).unwrap().insert("format", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(reason(&path).contains("start the release that wrote it"), "{}", reason(&path));
}

/// Damage outside redb's pages in use is harmless; any other is refused on opening or noticed by the record's own
/// checksum, and never gives another record or none.
#[tokio::test]
async fn a_damaged_file_gives_the_record_or_an_error_and_never_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record.redb");
    let store = RedbStore::create(&RealDisk, &path).unwrap();
    store.compare_and_swap(write(None, b"one")).await.unwrap();
    let good = store.load().await.unwrap();
    drop(store);
    let bytes = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for index in (0..320).chain((320..bytes.len()).step_by(1_021)) {
        let mut damaged = bytes.clone();
        damaged[index] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        match RedbStore::open(&path) {
            Ok(store) => assert_eq!(store.load().await.ok(), Some(good.clone()), "byte {index}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 50, "only {refused} damages were noticed");
}
