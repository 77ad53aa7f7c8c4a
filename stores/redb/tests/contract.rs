//! The embedded engine keeps the contract, and what it stored is there after a restart.

use std::sync::Arc;

use host::RealDisk;
use stores::{Sensitivity, SharedStore, Space};
use stores_contract::{Subject, run};
use stores_redb::{OpenError, RedbStore};

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
