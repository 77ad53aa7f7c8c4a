//! State that exists and cannot be read, and state of which a part is gone.

use std::path::{Path, PathBuf};

use integration_tests::faults::{CaDir, Door, Durable, Leaf, Member, eventually};
use stores::Space;
use stores::spaces::{AUTHORITY_BOOKS, ROOT_KEYS};
use trust::RootId;

/// A CA's directory where a server ran, and what it had.
struct Used {
    ca_dir: CaDir,
    root: RootId,
    released: Vec<Leaf>,
    backup: PathBuf,
}

impl Used {
    async fn new() -> Self {
        let ca_dir = CaDir::new("").unwrap();
        let running = ca_dir.start().await.unwrap();
        let door = Door::of(&running).unwrap();
        let mut member = Member::join(&door, "agent").await.unwrap();
        let released = vec![member.own_leaf(), member.issue().await.unwrap()];
        let root = running.bundle().roots()[0].id();
        CaDir::stop(running).await.unwrap();
        Durable::read(&ca_dir.data()).await.unwrap().covers(&released).unwrap();
        let backup = ca_dir.beside("backup");
        CaDir::copy(&ca_dir.data(), &backup).unwrap();
        Self { ca_dir, root, released, backup }
    }

    fn put_back(&self) {
        std::fs::remove_dir_all(self.ca_dir.data()).unwrap();
        CaDir::copy(&self.backup, &self.ca_dir.data()).unwrap();
    }

    /// A start on the damaged directory. If it does not fail, the server must be the same CA.
    async fn said(&self, what: &str) -> Option<String> {
        match self.ca_dir.start_once().await.unwrap() {
            Err(error) => Some(error.to_string()),
            Ok(running) => {
                let root = running.bundle().roots()[0].id();
                CaDir::stop(running).await.unwrap();
                assert_eq!(root, self.root, "{what}: another root");
                None
            }
        }
    }

    /// The directory as it was makes the CA that it was.
    async fn is_itself_again(&self, what: &str) {
        self.put_back();
        let running = self.ca_dir.start().await.unwrap();
        let (roots, door) = (running.bundle(), Door::of(&running).unwrap());
        assert_eq!(
            roots.roots().iter().map(|root| root.id()).collect::<Vec<_>>(),
            [self.root],
            "{what}"
        );
        Member::join(&door, "agent").await.unwrap().issue().await.unwrap();
        CaDir::stop(running).await.unwrap();
        Durable::read(&self.ca_dir.data()).await.unwrap().covers(&self.released).unwrap();
        self.put_back();
    }
}

/// The first file below a directory whose path ends so.
fn find(directory: &Path, end: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found.into_iter().find_map(|path| match path.is_dir() {
        true => find(&path, end),
        false => path.to_string_lossy().ends_with(end).then_some(path),
    })
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip(usize),
    /// One bit of every byte.
    Garble,
    Halve,
    Empty,
    Delete,
}

fn damage(path: &Path, damage: Damage) {
    let mut bytes = std::fs::read(path).unwrap();
    let len = bytes.len();
    match damage {
        Damage::Flip(percent) => bytes[(len - 1) * percent / 100] ^= 0x10,
        Damage::Garble => bytes.iter_mut().for_each(|byte| *byte ^= 0x10),
        Damage::Halve => bytes.truncate(len / 2),
        Damage::Empty => bytes.clear(),
        Damage::Delete => return std::fs::remove_file(path).unwrap(),
    }
    std::fs::write(path, bytes).unwrap();
}

/// Each file, and whether a part of its bytes may be meaningless (free pages of a database).
const FILES: [(&str, bool); 4] =
    [("state.redb", true), ("keys/store.json", false), (".key", false), (".log", false)];

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_without_a_row_would_be_noticed() {
    let (used, other) = (Used::new().await, Used::new().await);
    let durable = Durable::read(&used.ca_dir.data()).await.unwrap();
    let said = durable.covers(&other.released).unwrap_err().to_string();
    assert!(said.contains("has no row"), "{said}");
    let twice = [used.released.clone(), used.released].concat();
    assert!(durable.covers(&twice).unwrap_err().to_string().contains("released twice"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damaged_file_is_named_with_what_to_do_and_never_replaced() {
    let used = Used::new().await;
    let all = [Damage::Garble, Damage::Halve, Damage::Empty, Damage::Delete];
    for (file, has_free_space) in FILES {
        let flips = [0, 30, 60, 90].map(Damage::Flip);
        for kind in all.into_iter().chain(flips) {
            let what = format!("{file} {kind:?}");
            let path = find(&used.ca_dir.data(), file).unwrap();
            damage(&path, kind);
            let damaged = std::fs::read(&path).ok();
            let said = used.said(&what).await;
            // The root's key is needed for the next issuer only.
            let lost_key = file == ".key" && matches!(kind, Damage::Delete);
            let may_start = match kind {
                Damage::Flip(_) => has_free_space,
                // A segment whose last write was cut short, or that is gone: the record knows it and counts it as full.
                Damage::Halve | Damage::Empty | Damage::Delete => file == ".log",
                Damage::Garble => false,
            } || lost_key;
            match said {
                Some(said) => {
                    let named = path.file_name().unwrap().to_string_lossy();
                    let named =
                        said.contains(&*named) || (said.contains("key") && file.contains("key"));
                    assert!(named && said.contains("restore"), "{what}: {said}");
                    assert_eq!(std::fs::read(&path).ok(), damaged, "{what}: it was touched");
                }
                None => assert!(may_start, "{what}: it started"),
            }
            used.put_back();
        }
    }
    used.is_itself_again("all files put back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_lost_a_part_makes_no_new_root() {
    let used = Used::new().await;
    let data = used.ca_dir.data();
    // Keys of a server's own make room for others, under the same root.
    for (part, must_say) in [("state.redb", "restore"), ("keys", ""), ("ledger", "")] {
        let path = data.join(part);
        if path.is_dir() {
            std::fs::remove_dir_all(&path).unwrap()
        } else {
            std::fs::remove_file(&path).unwrap()
        }
        match used.said(part).await {
            Some(said) => assert!(said.contains(must_say), "{part}: {said}"),
            None => assert!(must_say.is_empty(), "{part} is gone, and nobody noticed"),
        }
        used.is_itself_again(part).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_key_of_an_issuer_makes_room_for_another_under_the_same_root() {
    let used = Used::new().await;
    let path = find(&used.ca_dir.data().join("keys"), ".key").unwrap();
    damage(&path, Damage::Delete);
    let running = used.ca_dir.start().await.unwrap();
    assert_eq!(running.bundle().roots()[0].id(), used.root, "another root");
    let door = Door::of(&running).unwrap();
    let leaf = Member::join(&door, "agent").await.unwrap().issue().await.unwrap();
    CaDir::stop(running).await.unwrap();
    assert!(!path.exists(), "the lost key");
    assert!(find(&used.ca_dir.data().join("keys"), ".key").is_some(), "another key");
    Durable::read(&used.ca_dir.data()).await.unwrap().covers(&[leaf]).unwrap();
    used.is_itself_again("the key put back").await;
}

/// What stands in the shared state of a server that runs, as soon as something was done to it.
async fn told(used: &Used, space: Space, id: &str, value: Option<&[u8]>) {
    let running = used.ca_dir.start().await.unwrap();
    let window = used.ca_dir.window();
    window.take(space, id).await.unwrap();
    if let Some(value) = value {
        window.put(space, id, value).await.unwrap();
    }
    CaDir::stop(running).await.unwrap();
    let running = used.ca_dir.start().await.unwrap();
    let door = Door::of(&running).unwrap();
    Member::join(&door, "agent").await.unwrap().issue().await.unwrap();
    let told = || async {
        let conditions = door.status().await.unwrap().conditions;
        conditions.iter().any(|said| said.contains("restore") || said.contains("backup"))
    };
    eventually("operators are told", told).await.unwrap();
    CaDir::stop(running).await.unwrap();
    let entries = window.all(&used.ca_dir.data(), space).await.unwrap();
    let there = entries.into_iter().find(|entry| entry.id == id).map(|entry| entry.value);
    assert_eq!(there.as_deref(), value, "it was touched");
    used.put_back();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_key_of_a_root_is_told_and_leaves_are_issued_on() {
    let used = Used::new().await;
    let keys = used.ca_dir.window().all(&used.ca_dir.data(), ROOT_KEYS).await.unwrap();
    let ids: Vec<_> = keys.iter().filter(|entry| entry.id.ends_with(".key")).collect();
    assert_eq!(ids.len(), 1, "the root's, and no issuer's");
    told(&used, ROOT_KEYS, &ids[0].id, None).await;
    used.is_itself_again("the key put back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_whose_book_is_damaged_is_told_and_leaves_are_issued_on() {
    let used = Used::new().await;
    let id = "main/self-signed";
    let books = used.ca_dir.window().all(&used.ca_dir.data(), AUTHORITY_BOOKS).await.unwrap();
    let book = &books.iter().find(|entry| entry.id == id).unwrap().value;
    let (mut flipped, half) = (book.clone(), &book[..book.len() / 2]);
    *flipped.last_mut().unwrap() ^= 1;
    for damaged in [flipped.as_slice(), half, b""] {
        told(&used, AUTHORITY_BOOKS, id, Some(damaged)).await;
    }
    used.is_itself_again("the book put back").await;
}
