//! A backup of a store that lives, cut at every byte, and a restore that breaks off at every write.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use rotation::{State, record};
use rotation_driver::{RecordStore as _, SharedRecord, Write};
use stores::fake::{FakeStore, Fault};
use stores::spaces::{AGENTS, BUNDLES, JOURNAL, RECORD, REPLICAS, ROOT_KEYS, SEGMENTS};
use stores::{
    Hints, Key, Page, ReadError, SharedStore, Space, Version, Versioned, WriteError, settle, spaces,
};
use trust::{Generation, Randomness, TrustDomain};

use super::frames::Frames;
use super::*;
use crate::copying::{are_the_same, keys};
use crate::error::TRUST_DOMAIN;
use crate::{
    OwnerError, Place, RestoreError, Restored, Restoring, claim, owner, recovered, restored,
};

#[derive(Debug)]
struct Always(u8);

impl Randomness for Always {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(self.0);
    }
}

fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

async fn put(store: &FakeStore, space: Space, id: &str, value: &[u8]) {
    let key = space.key(id).unwrap();
    let there = store.get(&key).await.unwrap().map(|there| there.version);
    settle::put(store, &key, value, there.as_ref()).await.unwrap();
}

/// Writes the record of this generation.
async fn written(store: &FakeStore, generation: u64) {
    let mut state = State::uninitialised(domain());
    state.generation = Generation(generation);
    let write = Write {
        expected: (generation > 1).then(|| Generation(generation - 1)),
        generation: Generation(generation),
        record: record::encode(&state).unwrap(),
        journal: format!("entry {generation}").into_bytes(),
    };
    SharedRecord::new(Arc::new(store.clone())).compare_and_swap(write).await.unwrap();
}

/// A CA with something in every space, at generation 3.
async fn living(number: u8) -> FakeStore {
    let store = FakeStore::new();
    claim(&store, &domain(), &Always(number)).await.unwrap();
    let meta_and_record = [spaces::META, RECORD, JOURNAL];
    for space in spaces::ALL.into_iter().filter(|space| !meta_and_record.contains(space)) {
        put(&store, space, "a", space.name().as_bytes()).await;
    }
    for generation in 1..=3 {
        written(&store, generation).await;
    }
    store
}

fn choice(with_keys: bool) -> Choice {
    Choice { with_keys, now: 1_000, release: "0.1.0".to_owned() }
}

async fn all_of(mut taking: Taking) -> Vec<u8> {
    let mut file = Vec::new();
    while let Some(bytes) = taking.next().await.unwrap() {
        file.extend(bytes);
    }
    file
}

async fn taken(store: &FakeStore, with_keys: bool) -> Vec<u8> {
    all_of(Taking::begin(Arc::new(store.clone()), &choice(with_keys)).await.unwrap()).await
}

async fn restore(
    backup: &Backup,
    store: &FakeStore,
    replaces: Option<&str>,
) -> Result<Restored, RestoreError> {
    let into = Place { store, name: "there" };
    Restoring { backup, into, replaces }.run().await
}

#[tokio::test]
async fn a_backup_says_what_it_is_of_and_holds_everything_but_what_servers_say_of_themselves() {
    let store = living(1).await;
    let backup = Backup::read(&taken(&store, true).await).unwrap();
    let Header { trust_domain, ca, generation, phase, taken_at, with_keys, .. } = &backup.header;
    assert_eq!((trust_domain.as_str(), *generation, *taken_at), ("example.org", 3, 1_000));
    assert_eq!(
        (ca.as_str(), phase.as_str(), *with_keys),
        (&*"01".repeat(16), "uninitialised", true)
    );
    let counts = backup.counts();
    assert_eq!(counts.len(), spaces::ALL.len() - 3, "{counts:?}");
    assert_eq!(counts["journal"], 2, "the third is in the record");
    assert!(!counts.contains_key("segments") && !counts.contains_key("replicas"));
    let without = Backup::read(&taken(&store, false).await).unwrap();
    assert!(!without.counts().contains_key("root-keys") && !without.header.with_keys);
}

#[tokio::test]
async fn a_file_that_was_cut_flipped_or_joined_is_refused_with_the_place() {
    let file = taken(&living(1).await, true).await;
    for end in 0..file.len() {
        let said = Backup::read(&file[..end]).unwrap_err().to_string();
        assert!(end < 8 || said.contains("at byte "), "the first {end} bytes: {said}");
    }
    for at in 0..file.len() {
        let mut flipped = file.clone();
        flipped[at] ^= 1;
        let said = Backup::read(&flipped).unwrap_err();
        let named = matches!(said, BackupError::Damaged { .. } | BackupError::Newer { .. });
        assert!(at < 8 || named, "byte {at}: {said}");
    }
    let twice = [file.clone(), file.clone()].concat();
    let said = Backup::read(&twice).unwrap_err().to_string();
    assert!(said.contains(&format!("byte {}", file.len())) && said.contains("behind"), "{said}");
    // Two entries in each other's place have the right checksums of another number.
    let (mut frames, mut moved) = Frames::begin(&Backup::read(&file).unwrap().header).unwrap();
    let [one, two] = ["a", "b"].map(|id| frames.entry("agents", id, b"x"));
    moved.extend([two, one].concat());
    let said = Backup::read(&moved).unwrap_err().to_string();
    assert!(said.contains("entry 1") && said.contains("checksum"), "{said}");
}

#[tokio::test]
async fn what_a_newer_release_wrote_is_refused_by_name() {
    let file = taken(&living(1).await, true).await;
    let mut newer = file.clone();
    newer[11] = 2;
    let said = Backup::read(&newer).unwrap_err().to_string();
    assert!(said.contains("format 2") && said.contains("newer"), "{said}");
    let header = Backup::read(&file).unwrap().header;
    let (mut frames, mut odd) = Frames::begin(&header).unwrap();
    odd.extend(frames.entry("of-tomorrow", "a", b""));
    odd.extend(frames.end());
    let said = Backup::read(&odd).unwrap_err().to_string();
    assert!(said.contains("of-tomorrow") && said.contains("0.1.0"), "{said}");
    let newer_state = Header { state_format: 9, ..header };
    let (frames, mut odd) = Frames::begin(&newer_state).unwrap();
    odd.extend(frames.end());
    let said = Backup::read(&odd).unwrap_err().to_string();
    assert!(said.contains("format 9") && said.contains("newer"), "{said}");
}

/// A store that goes on while it is read: each list of bundles is followed by a change, so often.
#[derive(Debug)]
struct Moving {
    store: FakeStore,
    left: AtomicU64,
    /// The last generation.
    generation: AtomicU64,
    /// What moves.
    space: Space,
}

impl Moving {
    async fn of(left: u64, space: Space) -> Arc<dyn SharedStore> {
        let store = living(1).await;
        Arc::new(Self { store, left: left.into(), generation: 3.into(), space })
    }

    async fn goes_on(&self) {
        if self.left.load(SeqCst) == 0 {
            return;
        }
        self.left.fetch_sub(1, SeqCst);
        let next = self.generation.fetch_add(1, SeqCst) + 1;
        if self.space != RECORD {
            return put(&self.store, self.space, &format!("n{next}"), b"row").await;
        }
        // The record and its bundle, as a rotation writes them.
        written(&self.store, next).await;
        put(&self.store, BUNDLES, &format!("{next:020}"), b"bundle").await;
    }
}

#[async_trait::async_trait]
impl SharedStore for Moving {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, ReadError> {
        self.store.get(key).await
    }

    async fn create(&self, key: &Key, value: &[u8]) -> Result<Version, WriteError> {
        self.store.create(key, value).await
    }

    async fn put(&self, key: &Key, value: &[u8], at: &Version) -> Result<Version, WriteError> {
        self.store.put(key, value, at).await
    }

    async fn delete(&self, key: &Key, at: &Version) -> Result<(), WriteError> {
        self.store.delete(key, at).await
    }

    async fn list(
        &self,
        space: Space,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        let page = self.store.list(space, from, limit).await?;
        if space == BUNDLES {
            self.goes_on().await;
        }
        Ok(page)
    }

    async fn watch(&self, space: Space) -> Result<Hints, ReadError> {
        self.store.watch(space).await
    }
}

#[tokio::test]
async fn a_record_that_moves_while_it_is_read_is_read_again_until_all_is_of_one_generation() {
    let given_up = Taking::begin(Moving::of(100, RECORD).await, &choice(true)).await;
    let said = given_up.err().unwrap().to_string();
    assert!(said.contains("changed each time") && said.contains("20 times"), "{said}");
    for moves in 0..5 {
        let taking = Taking::begin(Moving::of(moves, RECORD).await, &choice(true)).await.unwrap();
        let backup = Backup::read(&all_of(taking).await).unwrap();
        let bundles = backup.of(BUNDLES).map(|(id, _)| id.clone());
        let newest = bundles.filter(|id| id.len() == 20).max();
        let newest = newest.map_or(3, |id| id.parse().unwrap());
        assert_eq!((newest, backup.header.generation), (3 + moves, 3 + moves));
        assert_eq!(backup.counts()["journal"], usize::try_from(2 + moves).unwrap());
    }
}

#[tokio::test]
async fn rows_that_never_rest_do_not_keep_a_backup_from_being_made_and_it_says_so() {
    for (moves, moved) in [(3, false), (100, true)] {
        let taking = Taking::begin(Moving::of(moves, AGENTS).await, &choice(true)).await.unwrap();
        let backup = Backup::read(&all_of(taking).await).unwrap();
        assert_eq!((backup.header.registry_moved, backup.header.generation), (moved, 3));
    }
}

#[tokio::test]
async fn what_the_journal_gets_after_the_record_was_read_is_not_in_the_backup() {
    let store = living(1).await;
    let taking = Taking::begin(Arc::new(store.clone()), &choice(true)).await.unwrap();
    for generation in 4..9 {
        written(&store, generation).await;
    }
    let backup = Backup::read(&all_of(taking).await).unwrap();
    assert_eq!(backup.header.generation, 3);
    let journal: Vec<_> = backup.of(JOURNAL).map(|(_, entry)| entry.as_slice()).collect();
    assert_eq!(journal, [b"entry 1".as_slice(), b"entry 2", b"entry 3"], "of its own generation");
}

#[tokio::test]
async fn a_restored_state_is_that_of_the_backup_and_is_marked_until_a_server_has_counted() {
    let (store, empty) = (living(1).await, FakeStore::new());
    let backup = Backup::read(&taken(&store, true).await).unwrap();
    let done = restore(&backup, &empty, None).await.unwrap();
    assert!(!done.resumed && done.owner.ca == backup.header.ca, "{done:?}");
    assert_eq!(owner(&empty).await.unwrap(), owner(&store).await.unwrap());
    for space in [SEGMENTS, REPLICAS] {
        let key = space.key("a").unwrap();
        let there = store.get(&key).await.unwrap().unwrap();
        store.delete(&key, &there.version).await.unwrap();
    }
    assert!(are_the_same(&store, &empty).await.unwrap());
    assert_eq!(restored(&empty).await.unwrap(), Some(backup.id.clone()));
    recovered(&empty).await.unwrap();
    assert_eq!(restored(&empty).await.unwrap(), None);
    recovered(&empty).await.unwrap();
    // What was not counted yet goes along with a move.
    let (one, two) = (FakeStore::new(), FakeStore::new());
    restore(&backup, &one, None).await.unwrap();
    let [from, to] = [(&one, "one"), (&two, "two")].map(|(store, name)| Place { store, name });
    crate::move_state(from, to).await.unwrap();
    assert_eq!(restored(&two).await.unwrap(), Some(backup.id));
}

/// The format that a store says it has: of a newer one than it knows a release reads nothing else, and does not start.
async fn format_said(store: &FakeStore) -> Option<u64> {
    let key = spaces::META.key(TRUST_DOMAIN).unwrap();
    let there = store.get(&key).await.unwrap()?;
    let body = stores::marked::unmark(&key, &there.value).unwrap();
    let owner: serde_json::Value = serde_json::from_slice(body).unwrap();
    owner["format"].as_u64()
}

#[tokio::test]
async fn a_release_that_knows_no_restore_refuses_a_restored_state_until_a_server_has_counted() {
    let backup = Backup::read(&taken(&living(1).await, true).await).unwrap();
    for nth in 1.. {
        let (store, moved) = (living(2).await, FakeStore::new());
        store.fail_write_after(nth, Fault::Failed);
        let broken = restore(&backup, &store, Some("3")).await.is_err();
        store.fail_write_after(u64::MAX, Fault::Failed);
        let is_untouched = are_the_same(&store, &living(2).await).await.unwrap();
        assert!(is_untouched || format_said(&store).await == Some(2), "after {nth} writes");
        if broken {
            continue;
        }
        let [from, to] =
            [(&store, "one"), (&moved, "two")].map(|(store, name)| Place { store, name });
        crate::move_state(from, to).await.unwrap();
        for store in [store, moved] {
            assert_eq!(format_said(&store).await, Some(2));
            recovered(&store).await.unwrap();
            assert_eq!(format_said(&store).await, Some(1));
        }
        return;
    }
}

#[tokio::test]
async fn a_restore_that_breaks_off_at_any_write_leaves_what_no_server_uses_and_is_run_again() {
    let backup = Backup::read(&taken(&living(1).await, true).await).unwrap();
    let other = Backup::read(&taken(&living(2).await, true).await).unwrap();
    for fault in [Fault::Failed, Fault::UnknownNotStored] {
        for nth in 0.. {
            let store = FakeStore::new();
            store.fail_write_after(nth, fault);
            let broken = restore(&backup, &store, None).await.is_err();
            store.fail_write_after(u64::MAX, fault);
            if broken {
                match owner(&store).await {
                    Ok(None) => assert!(keys(&store, AGENTS).await.unwrap().is_empty()),
                    Err(OwnerError::Restoring { backup: begun }) => assert_eq!(begun, backup.id),
                    found => panic!("after {nth} writes a server would start: {found:?}"),
                }
                if nth > 0 {
                    let said = restore(&other, &store, None).await.unwrap_err().to_string();
                    assert!(said.contains("--replace unfinished"), "{said}");
                    assert!(restore(&backup, &store, None).await.unwrap().resumed);
                } else {
                    restore(&backup, &store, None).await.unwrap();
                }
            }
            assert!(owner(&store).await.unwrap().is_some());
            assert_eq!(restored(&store).await.unwrap(), Some(backup.id.clone()), "at {nth}");
            for space in [AGENTS, JOURNAL, RECORD, ROOT_KEYS] {
                let there = keys(&store, space).await.unwrap();
                assert_eq!(there.len(), backup.of(space).count(), "{space:?} at {nth}");
            }
            if !broken {
                assert!(nth > 15, "only {nth} writes were failed");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_store_with_a_state_is_replaced_only_by_its_name_and_never_of_another_trust_domain() {
    let backup = Backup::read(&taken(&living(1).await, true).await).unwrap();
    let store = living(2).await;
    written(&store, 4).await;
    let before = keys(&store, RECORD).await.unwrap();
    let said = restore(&backup, &store, None).await.unwrap_err().to_string();
    assert!(said.contains("at generation 4") && said.contains("--replace 4"), "{said}");
    let said = restore(&backup, &store, Some("3")).await.unwrap_err().to_string();
    assert!(said.contains("at generation 4, which is not \"3\""), "{said}");
    assert_eq!(keys(&store, RECORD).await.unwrap(), before, "nothing was changed");
    restore(&backup, &store, Some("4")).await.unwrap();
    assert_eq!(owner(&store).await.unwrap().unwrap().ca, backup.header.ca);

    put(&store, RECORD, "record", b"edited").await;
    let said = restore(&backup, &store, None).await.unwrap_err().to_string();
    assert!(said.contains("--replace damaged"), "{said}");
    restore(&backup, &store, Some("damaged")).await.unwrap();

    let foreign = FakeStore::new();
    claim(&foreign, &TrustDomain::parse("example.com").unwrap(), &Always(3)).await.unwrap();
    let said = restore(&backup, &foreign, Some("0")).await.unwrap_err().to_string();
    assert!(said.contains("trust domain example.com") && said.contains("example.org"), "{said}");
}

#[tokio::test]
async fn of_a_state_that_is_not_whole_no_backup_is_made() {
    let said = |store: FakeStore| async move {
        let begun = Taking::begin(Arc::new(store), &choice(true)).await;
        begun.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(said(FakeStore::new()).await.contains("no CA yet"));
    let claimed = FakeStore::new();
    claim(&claimed, &domain(), &Always(1)).await.unwrap();
    assert!(said(claimed).await.contains("no CA yet"), "nothing was asked for");
    let half = FakeStore::new();
    let backup = Backup::read(&taken(&living(1).await, true).await).unwrap();
    half.fail_write_after(3, Fault::Failed);
    restore(&backup, &half, None).await.unwrap_err();
    half.fail_write_after(u64::MAX, Fault::Failed);
    assert!(said(half).await.contains("banyan state restore"));
}
