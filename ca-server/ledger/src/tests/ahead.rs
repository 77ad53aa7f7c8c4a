//! The zeros that are written ahead: crashes in them, failures to write them, and readers that look meanwhile.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use host::{AppendFile, Disk, Fault, FaultDisk, How, Operation, RealDisk};
use trust::SpiffeId;

use super::{Bench, contents, futures_of, issue, written_len};
use crate::error::{Damage, LedgerError};
use crate::reader;
use crate::record::Record;
use crate::row::Row;
use crate::settings::Settings;
use crate::testing::{row, serial};

const SECTOR: usize = 512;

/// A row whose record has bytes in at least four sectors.
fn long_row(number: u64) -> Row {
    let identity = SpiffeId::parse(&format!("spiffe://example.org/{}", "x".repeat(1_600))).unwrap();
    Row { identity, ..row(number) }
}

#[tokio::test]
async fn a_crash_right_around_writing_ahead_leaves_nothing_torn() {
    for how in [How::DiesBefore, How::DiesAfter] {
        for power_cut in [true, false] {
            let mut bench = Bench::new();
            let (ledger, disk, _) = bench.start();
            disk.plan(Fault::next(Operation::Reserve, how));
            ledger.intend(row(1)).await.unwrap_err();
            if power_cut {
                disk.power_cut().unwrap();
            }
            drop(ledger);
            let (ledger, _, recovered) = bench.start();
            assert!(ledger.find(&serial(1)).is_none());
            assert!(
                recovered.segments.values().all(|found| found.torn.is_none() && found.records == 0)
            );
            let left = fs::read(bench.file(1, 1)).unwrap();
            assert_eq!(left.len(), written_len(&left), "{how:?}: the zeros are cut off");
        }
    }
}

#[tokio::test]
async fn a_record_that_was_half_written_over_the_zeros_is_cut_off() {
    for written in 1.. {
        let mut bench = Bench::new();
        let (ledger, disk, _) = bench.start();
        issue(&ledger, 1).await;
        let before = written_len(&fs::read(bench.file(1, 1)).unwrap());
        disk.plan(Fault::next(Operation::Append, How::Torn(written)));
        disk.plan(Fault::next(Operation::Truncate, How::DiesBefore));
        ledger.intend(row(2)).await.unwrap_err();
        drop(ledger);
        let (ledger, _, recovered) = bench.start();
        assert!(ledger.find(&serial(1)).is_some());
        let whole = ledger.find(&serial(2)).is_some();
        assert_eq!(recovered.segments.values().next().unwrap().torn.is_some(), !whole, "{written}");
        let left = fs::read(bench.file(1, 1)).unwrap().len();
        assert_eq!(left, if whole { before + written } else { before }, "{written}");
        if whole {
            break;
        }
    }
}

#[tokio::test]
async fn a_power_cut_may_leave_any_sectors_of_a_commit() {
    for kept in 0..1u32 << 6 {
        let mut bench = Bench::new();
        let (ledger, disk, _) = bench.start();
        issue(&ledger, 1).await;
        let synced = written_len(&fs::read(bench.file(1, 1)).unwrap());
        disk.plan(Fault::next(Operation::Sync, How::DiesBefore));
        ledger.intend(long_row(2)).await.unwrap_err();
        let end = written_len(&fs::read(bench.file(1, 1)).unwrap());
        let first = synced / SECTOR;
        let keeps =
            |sector| (first..first + 6).contains(&sector) && kept >> (sector - first) & 1 == 1;
        disk.power_cut_that_keeps(|sector| keeps(usize::try_from(sector).unwrap())).unwrap();
        drop(ledger);
        let (ledger, ..) = bench.start();
        assert!(ledger.find(&serial(1)).is_some(), "{kept:b}");
        let all = (first..=(end - 1) / SECTOR).all(keeps);
        assert_eq!(ledger.find(&serial(2)).is_some(), all, "{kept:b}");
        let left = fs::read(bench.file(1, 1)).unwrap().len();
        assert_eq!(left, if all { end } else { synced }, "{kept:b}");
    }
}

#[tokio::test]
async fn a_gap_before_a_later_commit_is_damage() {
    let mut bench = Bench::new();
    let (ledger, disk, _) = bench.start();
    for number in 0..20 {
        issue(&ledger, number).await;
    }
    disk.kill();
    drop(ledger);
    let path = bench.file(1, 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[SECTOR..2 * SECTOR].fill(0);
    fs::write(&path, &bytes).unwrap();
    let refused = bench.try_start(&FaultDisk::default()).unwrap_err().to_string();
    assert!(refused.contains("restore the file from a backup"), "{refused}");
    let read: Result<Vec<_>, _> = reader::read(&RealDisk, &bench.path()).unwrap().collect();
    assert!(matches!(read, Err(Damage::Corrupt { .. })));
    assert_eq!(fs::read(&path).unwrap(), bytes, "nothing is repaired by guessing");
}

#[tokio::test]
async fn a_flipped_bit_in_the_zeros_never_costs_a_row() {
    let mut bench = Bench::with(Settings { file_bytes_max: 4 << 10, ..Settings::default() });
    let (ledger, disk, _) = bench.start();
    issue(&ledger, 1).await;
    disk.kill();
    drop(ledger);
    let path = bench.file(1, 1);
    let sound = fs::read(&path).unwrap();
    let written = written_len(&sound);
    assert!(sound.len() >= written + 2 * SECTOR);
    let sector = (written / SECTOR + 1) * SECTOR;
    let near = (written..written + 8).chain((written + 8..sector).step_by(61));
    for byte in near.chain((sector..sound.len()).step_by(131)) {
        let mut flipped = sound.clone();
        flipped[byte] ^= 1 << (byte % 8);
        fs::write(&path, &flipped).unwrap();
        match bench.try_start(&FaultDisk::default()) {
            Ok((ledger, _)) => {
                assert!(ledger.find(&serial(1)).is_some(), "{byte}");
                assert_eq!(fs::read(&path).unwrap(), sound[..written], "{byte}");
            }
            Err(refused) => {
                assert!(byte < sector, "{byte}: {refused}");
                assert_eq!(fs::read(&path).unwrap(), flipped, "{byte}");
            }
        }
    }
}

#[tokio::test]
async fn without_zeros_ahead_rows_are_taken_as_ever() {
    for how in [How::NotStored, How::Stored, How::DiskFull] {
        let mut bench = Bench::new();
        let disk = FaultDisk::default();
        disk.plan(Fault::next(Operation::Reserve, how));
        let (ledger, _) = bench.try_start(&disk).unwrap();
        for number in 0..5 {
            issue(&ledger, number).await;
        }
        let stats = ledger.stats();
        assert!(ledger.check().is_ok() && !stats.poisoned && stats.writes_failed == 0, "{how:?}");
        assert_eq!(
            disk.count(Operation::Reserve, ""),
            1,
            "{how:?}: not tried again at each commit"
        );
        let before = contents(&ledger);
        disk.power_cut().unwrap();
        drop(ledger);
        let (ledger, ..) = bench.start();
        assert_eq!(contents(&ledger), before, "{how:?}");
    }
}

#[tokio::test]
async fn a_full_disk_is_told_as_full_and_taken_up_again() {
    let mut bench = Bench::new();
    let (ledger, disk, _) = bench.start();
    disk.plan(Fault::next(Operation::Reserve, How::DiskFull));
    disk.plan(Fault::next(Operation::Append, How::DiskFull));
    assert!(matches!(ledger.intend(row(1)).await, Err(LedgerError::Full { .. })));
    issue(&ledger, 1).await;
    assert!(ledger.check().is_ok());
}

#[tokio::test]
async fn a_closed_file_has_no_zeros_behind_its_end_unless_they_could_not_be_cut_off() {
    for fails in [false, true] {
        let mut bench = Bench::with(Settings { file_bytes_max: 2 << 10, ..Settings::default() });
        let (ledger, disk, _) = bench.start();
        if fails {
            disk.plan(Fault::next(Operation::Truncate, How::NotStored).times(9));
        }
        // Ends within what was written ahead: closed by the shutdown.
        issue(&ledger, 1).await;
        ledger.shutdown().await;
        let path = bench.file(1, 1);
        let left = fs::read(&path).unwrap();
        assert_eq!(left.len() > written_len(&left), fails);
        let (ledger, _, recovered) = bench.start();
        assert!(ledger.find(&serial(1)).is_some());
        assert!(recovered.segments.values().all(|found| found.torn.is_none()));
        let left = fs::read(&path).unwrap();
        assert_eq!(left.len(), written_len(&left), "cut off at the next start at the latest");
    }
}

#[tokio::test]
async fn zeros_may_follow_the_end_mark_of_a_file_that_is_not_the_last() {
    let mut bench = Bench::with(Settings { file_bytes_max: 1 << 10, ..Settings::default() });
    let (ledger, ..) = bench.start();
    for number in 0..7 {
        issue(&ledger, number).await;
    }
    let before = contents(&ledger);
    drop(ledger);
    let path = bench.file(1, 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes.resize(bytes.len() + 3_000, 0);
    fs::write(&path, &bytes).unwrap();
    let (ledger, ..) = bench.start();
    assert_eq!(contents(&ledger), before);
    let within = written_len(&bytes) + 1_000;
    bytes[within] = 1;
    drop(ledger);
    fs::write(&path, &bytes).unwrap();
    bench.try_start(&FaultDisk::default()).unwrap_err();
}

#[tokio::test]
async fn a_reader_of_the_file_that_is_written_sees_whole_records_only() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    let (done, dir) = (Arc::new(AtomicBool::new(false)), bench.path());
    let stop = Arc::clone(&done);
    let looks = std::thread::spawn(move || {
        let (mut seen, mut looks) = (Vec::new(), 0);
        while !stop.load(SeqCst) || looks == 0 {
            let found = super::entries(&dir);
            assert!(found.starts_with(&seen), "what was seen once stays");
            (seen, looks) = (found, looks + 1);
        }
        looks
    });
    for round in 0..40 {
        let rows = (0..25).map(|number| ledger.intend(long_row(round * 25 + number)));
        for intent in futures_of(rows).await {
            intent.unwrap().spend();
        }
    }
    done.store(true, SeqCst);
    assert!(looks.join().unwrap() > 0);
    let rows = super::entries(&bench.path());
    assert_eq!(
        rows.iter().filter(|entry| matches!(entry.record, Record::Intent(_))).count(),
        1_000
    );
}

/// Shows at the first look at a file a sector as it was before.
#[derive(Debug, Default)]
struct SeenLate(AtomicBool);

impl Disk for SeenLate {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = RealDisk.read(path)?;
        if !self.0.swap(true, SeqCst) {
            bytes[SECTOR..2 * SECTOR].fill(0);
        }
        Ok(bytes)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        RealDisk.list(directory)
    }

    fn append_open(&self, _: &Path, _: u32) -> io::Result<Box<dyn AppendFile>> {
        panic!("a reader writes nothing")
    }

    fn replace(&self, _: &Path, _: &[u8], _: u32) -> io::Result<()> {
        panic!("a reader writes nothing")
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        panic!("a reader writes nothing")
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        panic!("a reader writes nothing")
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        panic!("a reader writes nothing")
    }

    fn create_dir_all(&self, _: &Path, _: u32) -> io::Result<()> {
        panic!("a reader writes nothing")
    }
}

#[tokio::test]
async fn a_reader_that_saw_a_later_commit_before_an_earlier_one_looks_again() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    for number in 0..20 {
        issue(&ledger, number).await;
    }
    let disk = SeenLate::default();
    let found: Result<Vec<_>, _> = reader::read(&disk, &bench.path()).unwrap().collect();
    assert_eq!(found.unwrap()[0].entries.len(), 20);
}
