//! The file: never replaced, never made by opening, and never read as something else.
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for product code")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use host::RealDisk;
use stores::{SharedStore as _, spaces};
use stores_redb::{OpenError, RedbStore};

fn create(path: &Path) -> Result<RedbStore, OpenError> {
    RedbStore::create(Arc::new(RealDisk), path)
}

fn open(path: &Path) -> Result<RedbStore, OpenError> {
    RedbStore::open(Arc::new(RealDisk), path)
}

fn reason(path: &Path) -> String {
    open(path).unwrap_err().to_string()
}

#[test]
fn a_second_opening_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let store = create(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let error = open(&path).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("stop that process"), "{error}");
    drop(store);
    open(&path).unwrap();
}

#[test]
fn an_existing_file_is_never_replaced_and_a_missing_one_never_made_by_opening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    assert!(matches!(open(&path), Err(OpenError::Missing { .. })));
    assert!(!path.exists());
    for junk in [b"".as_slice(), b"x", &[7; 40_000]] {
        std::fs::write(&path, junk).unwrap();
        assert!(matches!(create(&path), Err(OpenError::Exists { .. })));
        assert!(reason(&path).contains("restore the latest backup"), "{}", reason(&path));
        assert_eq!(std::fs::read(&path).unwrap(), junk);
    }
}

#[test]
fn a_creation_that_was_killed_half_way_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    std::fs::write(dir.path().join("state.redb.unfinished"), b"half").unwrap();
    create(&path).unwrap();
    let names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["state.redb"]);
}

#[test]
fn a_newer_layout_is_refused_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    drop(create(&path).unwrap());
    let meta = redb::TableDefinition::<&str, u64>::new("meta_v1");
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(meta).unwrap().insert("format", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(reason(&path).contains("start the release that wrote it"), "{}", reason(&path));
}

/// Damage outside redb's pages in use is harmless; any other is refused on opening, and never gives another value or none.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_gives_the_value_or_an_error_and_never_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let store = create(&path).unwrap();
    let key = spaces::AGENTS.key("a").unwrap();
    store.create(&key, b"one").await.unwrap();
    let good = store.get(&key).await.unwrap();
    drop(store);
    let bytes = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for index in (0..320).chain((320..bytes.len()).step_by(1_021)) {
        let mut damaged = bytes.clone();
        damaged[index] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        match open(&path) {
            Ok(store) => assert_eq!(store.get(&key).await.ok(), Some(good.clone()), "byte {index}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 50, "only {refused} damages were noticed");
}
