//! Several drivers over one record: each sees what the others write, and the work is shared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use host::RealDisk;
use rotation::record::{FORMAT_LEAST, format_of};
use rotation::{Event, Mode, State};
use rotation_driver::{
    DriverHandle, Duty, FaultStore, Former, JournalEntry, Outcome, RecordStore, SharedRecord,
    StoreError, Stored, Write, replay,
};
use stores_redb::RedbStore;
use tokio::sync::watch;

use crate::fixture::*;

fn duty(replica: &str, leads: bool) -> Duty {
    Duty { replica: Some(replica.parse().unwrap()), leads, former: None }
}

/// Another writer is first so many times.
#[derive(Debug)]
struct Overtaken {
    store: FaultStore,
    times: AtomicU32,
}

#[async_trait::async_trait]
impl RecordStore for Overtaken {
    async fn load(&self) -> Result<Option<Stored>, StoreError> {
        self.store.load().await
    }

    async fn compare_and_swap(&self, write: Write) -> Result<(), StoreError> {
        let left = self.times.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match left {
            Ok(_) => Err(StoreError::Conflict { found: None }),
            Err(_) => self.store.compare_and_swap(write).await,
        }
    }

    async fn append(&self, journal: Vec<u8>) -> Result<(), StoreError> {
        self.store.append(journal).await
    }

    async fn journal(&self, from: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.store.journal(from, limit).await
    }
}

#[tokio::test]
async fn a_server_that_loses_many_races_in_a_row_writes_in_the_end() {
    let store = Overtaken { store: FaultStore::default(), times: AtomicU32::new(40) };
    let (handle, task) = Fixture::on(Arc::new(store)).start().await;
    handle.submit(bootstrap("f")).await.unwrap();
    task.stop().await;
}

#[tokio::test]
async fn the_record_stays_such_that_every_registered_server_can_read_it() {
    let fixture = Fixture::on(Arc::new(FaultStore::default()));
    let former = Former { replica: "b".parse().unwrap(), reads: FORMAT_LEAST };
    let (told, shared) = watch::channel(Duty { former: Some(former), ..duty("a", true) });
    let (handle, task) = fixture.start_with(shared).await.unwrap();
    handle.submit(bootstrap("f")).await.unwrap();
    let state = settled(&handle).await;
    assert_eq!(format_of(&state), FORMAT_LEAST);
    handle.submit(opened()).await.unwrap();
    // A second server makes owners of issuers.
    let second = || Event::SegmentOpened {
        replica: "second".parse().unwrap(),
        segment: "s2".parse().unwrap(),
        read: std::collections::BTreeSet::new(),
    };
    let before = handle.state();
    let said = handle.submit(second()).await.unwrap_err().to_string();
    assert!(said.contains("format 5") && said.contains("banyan replica remove b"), "{said}");
    assert_eq!(handle.state(), before);
    // Its server runs this release now.
    told.send_replace(duty("a", true));
    let state = handle.submit(second()).await.unwrap();
    assert_eq!(format_of(&state), 5);
    // What is written already is no newer for one that came later.
    let former = Former { replica: "c".parse().unwrap(), reads: FORMAT_LEAST };
    told.send_replace(Duty { former: Some(former), ..duty("a", true) });
    let root = state.signing_root().unwrap();
    handle.submit(fixture.horizon(root, 60)).await.unwrap();
    task.stop().await;
}

/// Waits until a driver shows what this one does.
async fn shows(handle: &DriverHandle, wanted: &Arc<State>) {
    let mut changes = handle.changes();
    let same = changes.wait_for(|state| state.generation >= wanted.generation);
    tokio::time::timeout(Duration::from_secs(20), same).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_one_driver_writes_the_other_shows_and_the_lead_alone_asks_for_roots() {
    let dir = tempfile::tempdir().unwrap();
    let store =
        Arc::new(RedbStore::create(Arc::new(RealDisk), &dir.path().join("state.redb")).unwrap());
    let fixture = |store: &Arc<RedbStore>| {
        Fixture::on(Arc::new(SharedRecord::new(Arc::<RedbStore>::clone(store))))
    };
    let (first, second) = (fixture(&store), fixture(&store));
    let (of_first, leads) = watch::channel(duty("a", true));
    let (of_second, follows) = watch::channel(duty("b", false));
    let (a, first_task) = first.start_with(leads).await.unwrap();
    let (b, second_task) = second.start_with(follows).await.unwrap();

    b.submit(bootstrap("f")).await.unwrap();
    let state = settled(&a).await;
    shows(&b, &state).await;
    assert!(state.signing_root().is_some());
    assert_eq!(first.effects.roots_made().len(), 1);
    assert_eq!(second.effects.roots_made(), []);

    // Each writes on what the other wrote, whoever of them was quicker to look.
    for round in 0..20_u32 {
        let (by, other) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let opened = Event::SegmentOpened {
            replica: format!("r{round}").parse().unwrap(),
            segment: format!("s{round}").parse().unwrap(),
            read: std::collections::BTreeSet::new(),
        };
        let state = by.submit(opened).await.unwrap();
        shows(other, &state).await;
        assert_eq!(*other.state(), *state);
    }

    // The lead goes; what is owed stays owed until another takes its part.
    of_first.send_replace(duty("a", false));
    let rotation = Event::RotationRequested {
        request_id: "r".parse().unwrap(),
        authority: "main".parse().unwrap(),
        mode: Mode::Auto,
        stage_again: None,
        canary: None,
    };
    a.submit(rotation).await.unwrap();
    first_task.stop().await;
    assert_eq!(first.effects.roots_made().len(), 1);
    of_second.send_replace(duty("b", true));
    let mut changes = b.changes();
    let published = changes.wait_for(|state| state.own_bundle().count() == 2);
    tokio::time::timeout(Duration::from_secs(20), published).await.unwrap().unwrap();
    assert_eq!(second.effects.roots_made().len(), 1);

    // A word that was judged on a record which another had replaced is in the journal too, and nothing rests on it.
    let late = JournalEntry {
        generation: 1,
        outcome: Outcome::Unchanged,
        ..second.journal().await.pop().unwrap()
    };
    second.store.append(late.encode().unwrap()).await.unwrap();
    let entries = second.store.journal(0, usize::MAX).await.unwrap();
    assert_eq!(replay(second.domain(), &entries).unwrap().state, *b.state());
    let claims = JournalEntry { outcome: Outcome::Changed { effects: Vec::new() }, ..late };
    second.store.append(claims.encode().unwrap()).await.unwrap();
    let entries = second.store.journal(0, usize::MAX).await.unwrap();
    assert!(replay(second.domain(), &entries).is_err());
    second_task.stop().await;
}
