//! The embedded engine keeps the contract, and what it stored is there after a restart.

use std::sync::Arc;

use host::RealDisk;
use stores::{Sensitivity, SharedStore, Space};
use stores_contract::{Subject, run};
use stores_redb::{OpenError, RedbStore, Unfinished};

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_engine_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let store = RedbStore::create(Arc::new(RealDisk), &dir.path().join("state.redb")).unwrap();
    let open = move || {
        let store: Arc<dyn SharedStore> = Arc::new(store.clone());
        async move { Ok(store) }
    };
    let report = run(&Subject::new(open)).await;
    report.assert_conforms();
    assert_eq!(report.passed().len(), 20, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_values_and_versions_and_gives_no_version_again() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, path) = (Arc::new(RealDisk), dir.path().join("state.redb"));
    assert!(matches!(RedbStore::open(disk.clone(), &path), Err(OpenError::Missing { .. })));
    let space = Space::new("agents", Sensitivity::Plain);
    let (kept, gone) = (space.key("kept").unwrap(), space.key("gone").unwrap());
    let store = RedbStore::create(disk.clone(), &path).unwrap();
    let version = store.create(&kept, b"value").await.unwrap();
    let former = store.create(&gone, b"value").await.unwrap();
    store.delete(&gone, &former).await.unwrap();
    assert!(matches!(RedbStore::open(disk.clone(), &path), Err(OpenError::InUse { .. })));
    drop(store);

    let store = RedbStore::open(disk.clone(), &path).unwrap();
    let found = store.get(&kept).await.unwrap().unwrap();
    assert_eq!((found.value.as_slice(), &found.version), (b"value".as_slice(), &version));
    assert_ne!(store.create(&gone, b"value").await.unwrap(), former);
    assert!(matches!(RedbStore::create(disk.clone(), &path), Err(OpenError::Exists { .. })));
    drop(store);

    std::fs::write(&path, b"no store").unwrap();
    assert!(matches!(RedbStore::open(disk, &path), Err(OpenError::Unreadable { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_filled_is_there_as_a_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, path) = (Arc::new(RealDisk), dir.path().join("state.redb"));
    let space = Space::new("agents", Sensitivity::Plain);
    let key = |n: u64| space.key(format!("{n:05}")).unwrap();
    let given_up = Unfinished::begin(disk.clone(), &path).unwrap();
    given_up.store().create(&key(7_777), b"given up").await.unwrap();
    drop(given_up);
    assert!(!path.exists());

    let filled = Unfinished::begin(disk.clone(), &path).unwrap();
    for n in 0..2_500 {
        filled.store().create(&key(n), n.to_string().as_bytes()).await.unwrap();
    }
    assert!(!path.exists());
    let store = filled.finish().unwrap();
    drop(store);
    assert!(matches!(Unfinished::begin(disk.clone(), &path), Err(OpenError::Exists { .. })));
    let store = RedbStore::open(disk, &path).unwrap();
    for n in 0..2_500 {
        assert_eq!(store.get(&key(n)).await.unwrap().unwrap().value, n.to_string().as_bytes());
    }
    assert_eq!(store.get(&key(7_777)).await.unwrap(), None);
    let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["state.redb"]);
}
