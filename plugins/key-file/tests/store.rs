//! The store conforms, tells a wrong passphrase at once, and survives faults and meddling.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::{Disk, Fault, FaultDisk, How, Operation, RealDisk};
use plugin_key_file::{FileKeys, FileKeysOptions, FileKeysPlugin, KdfCost, OpenError, Passphrase};
use plugins::{HealthState, KeyBackend, KeyBackendPlugin, KeyError, KeySpec, RequestId};
use trust::SeededRandomness;

const GOOD: &[u8] = b"correct horse";

fn open_with(
    directory: &Path,
    passphrase: &[u8],
    disk: Arc<dyn Disk>,
) -> Result<FileKeys, OpenError> {
    FileKeys::open(FileKeysOptions {
        directory: directory.to_owned(),
        passphrase: Passphrase::new(passphrase)?,
        cost: KdfCost::LEAST,
        disk,
        // A new seed each time would be better, but nonces may repeat in a test.
        randomness: Arc::new(SeededRandomness::new(7)),
    })
}

fn open(directory: &Path) -> Result<FileKeys, OpenError> {
    open_with(directory, GOOD, Arc::new(RealDisk))
}

fn request(text: &str) -> RequestId {
    RequestId::parse(text).expect("id")
}

/// A directory for a store, inside of one that goes away with the test.
fn place() -> (tempfile::TempDir, PathBuf) {
    let outer = tempfile::tempdir().expect("directory");
    let store = outer.path().join("keys");
    (outer, store)
}

fn key_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("list").map(|entry| entry.expect("entry").path());
    entries.filter(|path| path.extension().is_some_and(|suffix| suffix == "key")).collect()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

#[tokio::test]
async fn the_backend_conforms() {
    let (_outer, directory) = place();
    let subject =
        plugins_conformance::keys::Subject::new(move || Arc::new(open(&directory).expect("opens")));
    let report = plugins_conformance::keys::run(&subject).await;
    report.assert_conforms();
    assert!(report.skipped().is_empty(), "{report}");
}

#[tokio::test]
async fn a_wrong_passphrase_is_told_when_the_store_is_opened() {
    let (_outer, directory) = place();
    drop(open(&directory).expect("made"));
    let refused = open_with(&directory, b"wrong horse", Arc::new(RealDisk)).expect_err("wrong");
    assert!(matches!(refused, OpenError::WrongPassphrase { .. }), "{refused}");
    assert!(open(&directory).is_ok(), "the right one still opens it");
}

#[tokio::test]
async fn files_and_directory_are_private_and_hold_no_plain_key() {
    let (_outer, directory) = place();
    let keys = open(&directory).expect("made");
    let made = keys.generate(&request("a"), KeySpec::Ed25519).await.expect("key");
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    let file = directory.join(format!("{}.key", made.id));
    assert_eq!((mode(&file), mode(&directory.join("store.json"))), (0o600, 0o600));
    // Every PKCS#8 document of Ed25519 has this in it (RFC 8410 section 7), and base64 of it.
    let text = fs::read(&file).expect("file");
    assert!(!text.windows(4).any(|window| window == [0x04, 0x22, 0x04, 0x20]));
    assert!(!String::from_utf8(text).expect("json").contains("BCIEI"));
}

#[tokio::test]
async fn loose_permissions_are_refused_with_the_command_that_helps() {
    let (_outer, directory) = place();
    let keys = open(&directory).expect("made");
    keys.generate(&request("a"), KeySpec::P256).await.expect("key");
    drop(keys);
    let file = key_files(&directory).remove(0);
    for (path, loose, good) in [
        (&directory, 0o750, 0o700),
        (&file, 0o640, 0o600),
        (&directory.join("store.json"), 0o604, 0o600),
    ] {
        set_mode(path, loose);
        let refused = open(&directory).expect_err("loose").to_string();
        assert!(refused.contains(&format!("chmod {good:04o}")), "{refused}");
        set_mode(path, good);
    }
    assert!(open(&directory).is_ok());
}

#[tokio::test]
async fn a_failed_write_of_a_key_makes_no_second_key() {
    for how in [How::NotStored, How::Stored, How::DiskFull] {
        let (_outer, directory) = place();
        let disk = FaultDisk::default();
        let keys = open_with(&directory, GOOD, Arc::new(disk.clone())).expect("made");
        disk.plan(Fault::next(Operation::Replace, how).on(".key"));
        let failed = keys.generate(&request("a"), KeySpec::P256).await;
        assert!(matches!(failed, Err(KeyError::Transient { .. })), "{how:?}: {failed:?}");
        assert_eq!(
            keys.list().await.expect("list"),
            [],
            "{how:?}: not used before it is known to be stored"
        );
        let made = keys.generate(&request("a"), KeySpec::P256).await.expect("repeated");
        drop(keys);
        let again =
            open(&directory).expect("reopened").generate(&request("a"), KeySpec::P256).await;
        assert_eq!(again, Ok(made), "{how:?}");
        assert_eq!(key_files(&directory).len(), 1, "{how:?}");
    }
}

#[tokio::test]
async fn a_failed_destruction_is_told_and_repeatable() {
    for how in [How::NotStored, How::Stored] {
        let (_outer, directory) = place();
        let disk = FaultDisk::default();
        let keys = open_with(&directory, GOOD, Arc::new(disk.clone())).expect("made");
        let made = keys.generate(&request("a"), KeySpec::P256).await.expect("key");
        disk.plan(Fault::next(Operation::Replace, how).on(".key"));
        assert!(keys.destroy(&made.id).await.is_err());
        keys.destroy(&made.id).await.expect("repeated");
        drop(keys);
        assert_eq!(open(&directory).expect("reopened").list().await, Ok(Vec::new()), "{how:?}");
    }
}

#[tokio::test]
async fn a_failed_write_of_the_header_leaves_a_store_that_can_be_made() {
    for how in [How::NotStored, How::Stored, How::DiskFull] {
        let (_outer, directory) = place();
        let disk = FaultDisk::default();
        disk.plan(Fault::next(Operation::Replace, how).on("store.json"));
        assert!(open_with(&directory, GOOD, Arc::new(disk)).is_err());
        let keys = open(&directory).expect("made at the second try");
        assert!(keys.generate(&request("a"), KeySpec::P256).await.is_ok());
    }
}

#[tokio::test]
async fn swapped_renamed_and_damaged_key_files_are_refused() {
    let (_outer, directory) = place();
    let keys = open(&directory).expect("made");
    for name in ["a", "b"] {
        keys.generate(&request(name), KeySpec::P256).await.expect("key");
    }
    drop(keys);
    let files = key_files(&directory);
    let good = fs::read(&files[0]).expect("read");
    let other = String::from_utf8(fs::read(&files[1]).expect("read")).expect("json");
    let own_id = files[0].file_stem().and_then(|stem| stem.to_str()).expect("id");
    let other_id = files[1].file_stem().and_then(|stem| stem.to_str()).expect("id");
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for bad in [
        other.clone().into_bytes(),
        other.replace(other_id, own_id).into_bytes(),
        flipped,
        good[..good.len() / 2].to_vec(),
        String::from_utf8(good.clone())
            .expect("json")
            .replace("\"version\": 1", "\"version\": 2")
            .into_bytes(),
        Vec::new(),
    ] {
        assert_ne!(bad, good);
        RealDisk.replace(&files[0], &bad, 0o600).expect("write");
        let refused = open(&directory).expect_err("damaged");
        assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
    }
    RealDisk.replace(&files[0], &good, 0o600).expect("write");
    assert!(open(&directory).is_ok());
}

#[tokio::test]
async fn keys_without_their_header_are_an_error_and_never_a_new_store() {
    let (_outer, directory) = place();
    let keys = open(&directory).expect("made");
    keys.generate(&request("a"), KeySpec::P256).await.expect("key");
    fs::remove_file(directory.join("store.json")).expect("remove");
    assert_eq!(keys.check().await.state, HealthState::Down);
    let refused = open(&directory).expect_err("no header");
    assert!(matches!(refused, OpenError::HeaderMissing { .. }), "{refused}");
    assert!(!directory.join("store.json").exists());
}

#[tokio::test]
async fn signing_touches_no_file() {
    let (_outer, directory) = place();
    let keys = open(&directory).expect("made");
    let made = keys.generate(&request("a"), KeySpec::P256).await.expect("key");
    fs::remove_dir_all(&directory).expect("removed");
    let signature =
        keys.sign(&made.id, b"message", KeySpec::P256.algorithm()).await.expect("signs");
    assert!(made.public.verify(b"message", KeySpec::P256.algorithm(), &signature).is_ok());
}

#[test]
fn the_plugin_reads_its_passphrase_and_names_the_setting_that_is_wrong() {
    let (outer, directory) = place();
    let file = outer.path().join("passphrase");
    fs::write(&file, b"correct horse\n").expect("write");
    set_mode(&file, 0o644);
    let plugin = FileKeysPlugin {
        directory,
        cost: KdfCost::LEAST,
        disk: Arc::new(RealDisk),
        randomness: Arc::new(SeededRandomness::new(1)),
    };
    let mut settings = toml::Table::new();
    settings.insert("passphrase_file".to_owned(), file.display().to_string().into());
    let problem = plugin.open(&settings).expect_err("loose").remove(0).to_string();
    assert!(problem.contains("`passphrase_file`") && problem.contains("chmod 0600"), "{problem}");
    set_mode(&file, 0o600);
    assert!(plugin.open(&settings).is_ok());
    fs::write(&file, b"another horse\n").expect("write");
    let problem = plugin.open(&settings).expect_err("wrong").remove(0).to_string();
    assert!(problem.contains("does not open the key store"), "{problem}");
}
