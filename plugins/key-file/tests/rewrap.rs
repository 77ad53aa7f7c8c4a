//! The passphrase of a store is changed, and the process dies on the way.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::{Disk, Fault, FaultDisk, How, Operation, RealDisk};
use plugin_key_file::{
    Directory, FileKeys, FileKeysOptions, KdfCost, OpenError, Passphrase, RewrapError, Rewrapped,
    Rewrapping, is_unfinished,
};
use plugins::{KeyBackend, KeySpec, RequestId};
use trust::SeededRandomness;

const OLD: &[u8] = b"correct horse";
const NEW: &[u8] = b"battery staple";

fn open(directory: &Path, passphrase: &[u8]) -> Result<FileKeys, OpenError> {
    FileKeys::open(FileKeysOptions {
        directory: directory.to_owned(),
        passphrase: Passphrase::new(passphrase)?,
        cost: KdfCost::LEAST,
        disk: Arc::new(RealDisk),
        randomness: Arc::new(SeededRandomness::new(7)),
    })
}

fn rewrap(
    directory: &Path,
    [former, new]: [&[u8]; 2],
    disk: impl Disk + 'static,
    seed: u64,
) -> Result<Option<Rewrapped>, RewrapError> {
    let files = Directory::new(directory.to_owned(), Arc::new(disk));
    Rewrapping {
        files: &files,
        former: &Passphrase::new(former).expect("passphrase"),
        new: &Passphrase::new(new).expect("passphrase"),
        cost: KdfCost::LEAST,
        randomness: &SeededRandomness::new(seed),
    }
    .run()
}

/// A store with keys, one of them destroyed, and what is signed with the others.
async fn filled() -> (tempfile::TempDir, PathBuf, Vec<plugins::KeyHandle>) {
    let outer = tempfile::tempdir().expect("directory");
    let directory = outer.path().join("keys");
    let keys = open(&directory, OLD).expect("opens");
    let request = |text: &str| RequestId::parse(text).expect("id");
    let mut made = Vec::new();
    for number in 0..4 {
        made.push(
            keys.generate(&request(&format!("key-{number}")), KeySpec::P256).await.expect("made"),
        );
    }
    let gone = made.pop().expect("a key");
    keys.destroy(&gone.id).await.expect("destroyed");
    made.sort_by(|one, other| one.id.cmp(&other.id));
    (outer, directory, made)
}

async fn keys_under(directory: &Path, passphrase: &[u8]) -> Vec<plugins::KeyHandle> {
    let mut all = open(directory, passphrase).expect("opens").list().await.expect("listed");
    all.sort_by(|one, other| one.id.cmp(&other.id));
    all
}

#[tokio::test]
async fn every_key_is_under_the_new_passphrase_and_none_under_the_former() {
    let (_outer, directory, made) = filled().await;
    let done = rewrap(&directory, [OLD, NEW], RealDisk, 1).unwrap().unwrap();
    assert_eq!(done, Rewrapped { moved: 3, already: 0 });
    assert_eq!(keys_under(&directory, NEW).await, made);
    assert!(matches!(open(&directory, OLD), Err(OpenError::WrongPassphrase { .. })));
    let again = rewrap(&directory, [OLD, NEW], RealDisk, 2).unwrap().unwrap();
    assert_eq!(again, Rewrapped { moved: 0, already: 3 }, "doing it again does no harm");
    for file in std::fs::read_dir(&directory).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[tokio::test]
async fn after_a_crash_at_any_step_every_key_is_there_and_doing_it_again_or_the_other_way_round_ends_it()
 {
    let mut steps = 0;
    for way in [[OLD, NEW], [NEW, OLD]] {
        for how in [How::NotStored, How::Stored, How::DiesBefore, How::DiesAfter] {
            for step in 0.. {
                let (_outer, directory, made) = filled().await;
                let disk = FaultDisk::default();
                disk.plan(Fault::next(Operation::Replace, how).after(step));
                let Err(broke_off) = rewrap(&directory, [OLD, NEW], disk, 1) else { break };
                steps += 1;
                let told = broke_off.to_string();
                assert!(told.contains("run this again with the same two"), "{told}");
                let ended = rewrap(&directory, way, RealDisk, 2).unwrap().unwrap();
                assert_eq!(ended.moved + ended.already, made.len(), "{how:?} at {step}");
                assert_eq!(keys_under(&directory, way[1]).await, made, "{how:?} at {step}");
            }
        }
    }
    // The header, three keys, the header: in four ways, forth and back.
    assert_eq!(steps, 5 * 4 * 2);
}

#[tokio::test]
async fn a_store_on_its_way_is_opened_with_neither_and_says_what_to_do() {
    let (_outer, directory, made) = filled().await;
    let disk = FaultDisk::default();
    disk.plan(Fault::next(Operation::Replace, How::DiesBefore).after(2));
    rewrap(&directory, [OLD, NEW], disk, 1).unwrap_err();
    let files = Directory::new(directory.clone(), Arc::new(RealDisk));
    assert!(is_unfinished(&files).unwrap());
    for passphrase in [OLD, NEW] {
        let refused = open(&directory, passphrase).unwrap_err();
        assert!(matches!(refused, OpenError::Moving { .. }), "{refused}");
        assert!(refused.to_string().contains("banyan keys rewrap"), "{refused}");
    }
    let other = rewrap(&directory, [OLD, b"another one"], RealDisk, 2).unwrap_err();
    assert!(matches!(other, RewrapError::OtherNew { .. }), "{other}");
    let wrong = rewrap(&directory, [b"another one", NEW], RealDisk, 2).unwrap_err();
    assert!(matches!(wrong, RewrapError::WrongFormer { .. }), "{wrong}");
    rewrap(&directory, [OLD, NEW], RealDisk, 2).unwrap();
    assert_eq!(keys_under(&directory, NEW).await, made);
}

#[tokio::test]
async fn a_wrong_former_passphrase_and_a_damaged_key_change_nothing() {
    let (_outer, directory, made) = filled().await;
    let wrong = rewrap(&directory, [b"another one", NEW], RealDisk, 1).unwrap_err();
    assert!(matches!(wrong, RewrapError::WrongFormer { .. }), "{wrong}");
    assert_eq!(keys_under(&directory, OLD).await, made);
    let file = directory.join(format!("{}.key", made[1].id));
    let good = std::fs::read(&file).unwrap();
    std::fs::write(&file, &good[..good.len() / 2]).unwrap();
    let damaged = rewrap(&directory, [OLD, NEW], RealDisk, 1).unwrap_err();
    assert!(damaged.to_string().contains(&file.display().to_string()), "{damaged}");
    // With the file from a backup it goes on.
    std::fs::write(&file, &good).unwrap();
    rewrap(&directory, [OLD, NEW], RealDisk, 2).unwrap();
    assert_eq!(keys_under(&directory, NEW).await, made);
}

#[tokio::test]
async fn where_there_is_no_store_none_is_made() {
    let outer = tempfile::tempdir().unwrap();
    let directory = outer.path().join("keys");
    assert_eq!(rewrap(&directory, [OLD, NEW], RealDisk, 1).unwrap(), None);
    assert!(!directory.join("store.json").exists());
}
