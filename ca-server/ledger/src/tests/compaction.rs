//! Compaction, and a crash at each of its steps.

use std::sync::Arc;
use std::time::Duration;

use host::{Fault, FaultDisk, How, Operation};

use super::{Bench, contents, issue};
use crate::compaction::Compaction;
use crate::evidence::Witness;
use crate::ledger::Ledger;
use crate::row::Row;
use crate::settings::Settings;
use crate::testing::{NOW, applied, row, serial};

const A: Witness<'_> = Witness::Agent("a");

async fn compact(ledger: &Arc<Ledger>) -> Result<Compaction, crate::LedgerError> {
    let ledger = Arc::clone(ledger);
    tokio::task::spawn_blocking(move || ledger.compact()).await.unwrap()
}

/// An incarnation whose files are mostly about rows that are over by now, with every kind of leftover among them.
async fn mostly_expired(disk: &FaultDisk) -> (Bench, Arc<Ledger>) {
    let settings =
        Settings { file_bytes_max: 1 << 10, compact_below_percent: 50, ..Settings::default() };
    let mut bench = Bench::with(settings);
    let (ledger, ..) = bench.start();
    let long = NOW.plus(Duration::from_secs(86_400));
    for number in 0..40 {
        let not_after = if number % 10 == 0 { long } else { row(0).not_after };
        ledger.intend(Row { not_after, ..row(number) }).await.unwrap().spend();
    }
    // Said in a later file than the rows it is about.
    ledger.ack(A, serial(0), applied(7)).await.unwrap();
    ledger.release(A, serial(10)).await.unwrap();
    ledger.forget_leaves(&[serial(20), serial(30)]).await.unwrap();
    ledger.held(A, serial(30)).unwrap();
    ledger.intend(Row { not_after: long, ..row(40) }).await.unwrap().abandon("signer_failed");
    for number in 50..60 {
        issue(&ledger, number).await;
    }
    drop(ledger);
    bench.clock.advance(Duration::from_secs(7_200));
    let (ledger, _) = bench.try_start(disk).unwrap();
    (bench, Arc::new(ledger))
}

#[tokio::test]
async fn expired_files_go_to_the_archive_and_then_away_and_the_rows_stay() {
    let disk = FaultDisk::default();
    let (mut bench, ledger) = mostly_expired(&disk).await;
    let before = contents(&ledger);
    assert_eq!(before.len(), 5, "four long rows and the abandoned one");
    let done = compact(&ledger).await.unwrap();
    assert!(done.archived >= 4 && done.carried >= 5, "{done:?}");
    assert_eq!(contents(&ledger), before);
    assert!(!bench.path().join("ca-1.1").exists(), "an empty segment leaves no directory");
    assert_eq!(compact(&ledger).await.unwrap(), Compaction::default(), "nothing is left to do");
    drop(ledger);
    let (ledger, _, _) = bench.start();
    assert_eq!(contents(&ledger), before);
    bench.clock.advance(bench.settings.retention);
    let ledger = Arc::new(ledger);
    assert_eq!(compact(&ledger).await.unwrap().deleted, 0, "kept for the whole retention");
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(compact(&ledger).await.unwrap().deleted, done.archived);
}

#[tokio::test]
async fn files_that_are_still_about_live_rows_stay() {
    let mut bench = Bench::with(Settings { file_bytes_max: 1 << 10, ..Settings::default() });
    let (ledger, ..) = bench.start();
    for number in 0..40 {
        issue(&ledger, number).await;
    }
    assert!(ledger.stats().files > 2);
    assert_eq!(compact(&Arc::new(ledger)).await.unwrap(), Compaction::default());
}

#[tokio::test]
async fn a_crash_at_any_step_recovers_to_the_same_index() {
    let mut crashes = 0;
    for how in [How::DiesBefore, How::DiesAfter] {
        for step in 0.. {
            let disk = FaultDisk::default();
            let (mut bench, ledger) = mostly_expired(&disk).await;
            let before = contents(&ledger);
            disk.plan(Fault::next_change(how).after(step));
            let finished = compact(&ledger).await.is_ok();
            disk.power_cut().unwrap();
            drop(ledger);
            let (ledger, ..) = bench.start();
            assert_eq!(contents(&ledger), before, "{how:?} at {step}");
            compact(&Arc::new(ledger)).await.unwrap();
            let (ledger, ..) = bench.start();
            assert_eq!(contents(&ledger), before, "{how:?} at {step}, then compacted again");
            if finished {
                break;
            }
            crashes += 1;
        }
    }
    assert!(crashes > 20, "only {crashes} steps were seen");
}

#[tokio::test]
async fn a_failure_at_any_step_is_told_and_the_next_call_goes_on() {
    for how in [How::NotStored, How::Stored, How::DiskFull] {
        for operation in [Operation::Append, Operation::Rename, Operation::RemoveDir] {
            let disk = FaultDisk::default();
            let (mut bench, ledger) = mostly_expired(&disk).await;
            let before = contents(&ledger);
            disk.plan(Fault::next(operation, how));
            compact(&ledger).await.unwrap_err();
            assert_eq!(contents(&ledger), before);
            compact(&ledger).await.unwrap();
            disk.kill();
            drop(ledger);
            let (ledger, _, recovered) = bench.start();
            assert_eq!(contents(&ledger), before, "{operation:?} {how:?}");
            assert!(
                recovered.segments.values().all(|found| found.files < 3),
                "{operation:?} {how:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_damaged_file_is_never_archived() {
    let disk = FaultDisk::default();
    let (bench, ledger) = mostly_expired(&disk).await;
    let path = bench.file(1, 1);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let refused = compact(&ledger).await.unwrap_err();
    assert!(matches!(refused, crate::LedgerError::Damaged(_)), "{refused}");
    assert!(path.exists());
}
