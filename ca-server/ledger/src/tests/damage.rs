//! Files that are not what was written.

use std::fs;

use super::{Bench, issue, written_len};
use crate::error::{Damage, OpenError};
use crate::settings::Settings;

/// Two files of the first incarnation: a full one with its end mark, and one with zeros written ahead.
async fn written() -> Bench {
    let mut bench = Bench::with(Settings { file_bytes_max: 1 << 10, ..Settings::default() });
    let (ledger, disk, _) = bench.start();
    for number in 0..17 {
        issue(&ledger, number).await;
    }
    disk.kill();
    drop(ledger);
    assert!(bench.file(1, 2).exists() && !bench.file(1, 3).exists());
    bench
}

/// As if the file were that of the segment that was killed just now: nobody has stated what it is.
fn forget_statements(bench: &Bench) {
    match fs::remove_file(bench.path().join("manifest.txt")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
}

#[tokio::test]
async fn every_flipped_bit_in_every_file_stops_the_start_and_names_the_file() {
    let mut bench = written().await;
    for number in [1, 2] {
        let path = bench.file(1, number);
        let sound = fs::read(&path).unwrap();
        for byte in 0..written_len(&sound) {
            let mut flipped = sound.clone();
            flipped[byte] ^= 1 << (byte % 8);
            fs::write(&path, &flipped).unwrap();
            let refused = bench.try_start(&host::FaultDisk::default()).unwrap_err();
            assert!(matches!(refused, OpenError::Damaged(_)), "byte {byte} of {number}: {refused}");
            assert!(refused.to_string().contains(path.to_str().unwrap()), "{refused}");
            assert_eq!(fs::read(&path).unwrap(), flipped, "nothing is repaired by guessing");
        }
        fs::write(&path, &sound).unwrap();
    }
    bench.start();
}

#[tokio::test]
async fn a_file_cut_anywhere_is_torn_if_it_is_the_last_and_damaged_if_it_is_not() {
    let mut bench = written().await;
    let (first, last) = (bench.file(1, 1), bench.file(1, 2));
    let mut sound = fs::read(&last).unwrap();
    sound.truncate(written_len(&sound));
    for len in 0..sound.len() {
        fs::write(&last, &sound[..len]).unwrap();
        forget_statements(&bench);
        let (ledger, _, recovered) = bench.start();
        drop(ledger);
        let torn = recovered.segments.values().next().unwrap().torn.as_ref();
        let left = fs::read(&last).unwrap();
        assert_eq!(torn.map_or(0, |torn| torn.bytes), (len - left.len()) as u64);
        assert!(sound.starts_with(&left));
    }
    fs::write(&last, &sound).unwrap();
    forget_statements(&bench);
    let sound = fs::read(&first).unwrap();
    for len in 0..sound.len() {
        fs::write(&first, &sound[..len]).unwrap();
        let refused = bench.try_start(&host::FaultDisk::default()).unwrap_err().to_string();
        assert!(refused.contains("restore the file from a backup"), "{refused}");
    }
}

#[tokio::test]
async fn zeros_behind_whole_records_are_no_write_and_behind_part_of_one_a_torn_one() {
    let mut bench = written().await;
    let last = bench.file(1, 2);
    let mut sound = fs::read(&last).unwrap();
    sound.truncate(written_len(&sound));
    for kept in 0..=sound.len() {
        let mut zeroed = sound[..kept].to_vec();
        zeroed.resize(sound.len() + 700, 0);
        fs::write(&last, &zeroed).unwrap();
        forget_statements(&bench);
        let (_, _, recovered) = bench.start();
        let torn = recovered.segments.values().next().unwrap().torn.is_some();
        let left = fs::read(&last).unwrap();
        assert_eq!(torn, left != sound[..kept], "{kept}");
        assert!(sound[..kept].starts_with(&left), "{kept}");
    }
}

#[tokio::test]
async fn records_of_a_newer_version_stop_the_start_and_say_so() {
    let mut bench = written().await;
    let last = bench.file(1, 2);
    let mut bytes = fs::read(&last).unwrap();
    bytes.truncate(written_len(&bytes));
    let payload = [99, 1, 0xa5];
    bytes.extend_from_slice(&(!3u16).to_be_bytes());
    bytes.extend_from_slice(&3u16.to_be_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
    bytes.extend_from_slice(&payload);
    fs::write(&last, &bytes).unwrap();
    let refused = bench.try_start(&host::FaultDisk::default()).unwrap_err();
    assert!(matches!(refused, OpenError::Damaged(Damage::NewerVersion { .. })), "{refused}");
    bytes[8] = 2;
    fs::write(&last, &bytes).unwrap();
    let refused = bench.try_start(&host::FaultDisk::default()).unwrap_err();
    assert!(
        matches!(refused, OpenError::Damaged(Damage::NewerVersion { offset: 0, .. })),
        "{refused}"
    );
}

#[tokio::test]
async fn a_file_in_a_wrong_place_or_of_a_wrong_name_is_not_overlooked() {
    for (from, to) in
        [("ca-1.1/00000002.log", "ca-1.1/00000003.log"), ("ca-1.1/00000002.log", "ca-1.1/old.log")]
    {
        let mut bench = written().await;
        fs::rename(bench.path().join(from), bench.path().join(to)).unwrap();
        let refused = bench.try_start(&host::FaultDisk::default()).unwrap_err();
        assert!(matches!(refused, OpenError::Damaged(Damage::Corrupt { .. })), "{refused}");
    }
}
