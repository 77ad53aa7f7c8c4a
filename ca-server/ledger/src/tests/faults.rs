//! Every durable write, failed in every way.

use host::{Fault, FaultDisk, How, Operation};

use super::{Bench, contents, issue, until};
use crate::error::LedgerError;
use crate::evidence::Witness;
use crate::record::{AuditRefusal, Record};
use crate::row::Row;
use crate::settings::Settings;
use crate::testing::{applied, root, row, serial};

#[tokio::test]
async fn a_failed_append_is_taken_back_and_the_next_row_is_taken() {
    for how in [How::NotStored, How::Stored, How::DiskFull, How::Torn(7), How::Torn(40)] {
        let mut bench = Bench::new();
        let (ledger, disk, _) = bench.start();
        issue(&ledger, 1).await;
        disk.plan(Fault::next(Operation::Append, how));
        let refused = ledger.intend(row(2)).await.unwrap_err();
        assert_eq!(
            matches!(refused, LedgerError::Full { .. }),
            how == How::DiskFull,
            "{how:?}: {refused}"
        );
        assert_eq!(
            matches!(refused, LedgerError::WriteFailed { .. }),
            how != How::DiskFull,
            "{how:?}"
        );
        assert_eq!(
            ledger.aggregates().all().rows,
            1,
            "{how:?}: no leaf can be signed, so no row counts"
        );
        issue(&ledger, 2).await;
        let before = contents(&ledger);
        disk.kill();
        let (ledger, _, recovered) = bench.start();
        assert_eq!(contents(&ledger), before, "{how:?}");
        assert!(recovered.segments.values().all(|found| found.torn.is_none()), "{how:?}");
    }
}

/// A row of an identity and a root of which the file has no row yet: its terms are written with it.
fn of_another(number: u64) -> Row {
    let identity = trust::SpiffeId::parse(&format!("spiffe://example.org/w{number}")).unwrap();
    Row { identity, root: root(u8::try_from(number).unwrap()), ..row(number) }
}

#[tokio::test]
async fn a_failure_within_a_term_leaves_nothing_that_a_later_row_could_refer_to() {
    // The terms of a row take about 130 bytes, the row about 70.
    for torn in (0..220).step_by(13) {
        let mut bench = Bench::new();
        let (ledger, disk, _) = bench.start();
        issue(&ledger, 1).await;
        disk.plan(Fault::next(Operation::Append, How::Torn(torn)));
        ledger.intend(of_another(2)).await.unwrap_err();
        for number in [3, 2] {
            ledger.intend(of_another(number)).await.unwrap().spend();
        }
        issue(&ledger, 4).await;
        ledger.issued(serial(2), crate::testing::certificate(2)).await.unwrap();
        ledger.ack(Witness::Agent("a"), serial(4), applied(5)).await.unwrap();
        issue(&ledger, 5).await;
        let before = contents(&ledger);
        disk.kill();
        drop(ledger);
        let (ledger, _, recovered) = bench.start();
        assert_eq!(contents(&ledger), before, "{torn}");
        assert!(recovered.segments.values().all(|found| found.torn.is_none()), "{torn}");
    }
}

#[tokio::test]
async fn a_crash_within_a_write_leaves_no_term_without_its_row() {
    for torn in 0.. {
        let mut bench = Bench::new();
        let (ledger, disk, _) = bench.start();
        issue(&ledger, 1).await;
        let before = contents(&ledger);
        disk.plan(Fault::next(Operation::Append, How::Torn(torn)));
        disk.plan(Fault::next(Operation::Truncate, How::DiesBefore));
        ledger.intend(of_another(2)).await.unwrap_err();
        drop(ledger);
        let (ledger, _, recovered) = bench.start();
        if ledger.find(&serial(2)).is_some() {
            assert!(torn > 150, "{torn}");
            break;
        }
        assert_eq!(contents(&ledger), before, "{torn}");
        let cut = recovered.segments.values().next().unwrap().torn.is_some();
        assert_eq!(cut, torn > 0, "{torn}");
        let (_, _, recovered) = bench.start();
        assert!(recovered.segments.values().all(|found| found.torn.is_none()), "{torn}");
    }
}

#[tokio::test]
async fn a_ledger_that_cannot_write_says_so_until_a_probe_finds_that_it_can() {
    let mut bench = Bench::new();
    let (ledger, disk, _) = bench.start();
    disk.plan(Fault::next(Operation::Append, How::DiskFull).times(3));
    ledger.intend(row(1)).await.unwrap_err();
    assert!(matches!(ledger.check(), Err(LedgerError::Full { .. })));
    for failed in [2, 3] {
        ledger.probe().unwrap();
        until(|| ledger.stats().writes_failed == failed).await;
        assert!(ledger.check().is_err());
    }
    ledger.probe().unwrap();
    until(|| ledger.check().is_ok()).await;
    assert_eq!(ledger.stats().records_lost, 0);
    let tried = bench
        .entries()
        .iter()
        .filter(|entry| matches!(entry.record, Record::Suppressed { .. }))
        .count();
    assert_eq!(tried, 1, "a probe that failed leaves nothing behind");
}

#[tokio::test]
async fn a_failed_sync_stops_the_ledger_for_good_and_its_row_may_come_back() {
    for how in [How::NotStored, How::Stored] {
        let mut bench = Bench::new();
        let (ledger, disk, _) = bench.start();
        issue(&ledger, 1).await;
        disk.plan(Fault::next(Operation::Sync, how));
        let refused = ledger.intend(row(2)).await.unwrap_err();
        assert!(refused.to_string().contains("restart this server"), "{refused}");
        let syncs = disk.count(Operation::Sync, "");
        for number in 3..5 {
            assert_eq!(ledger.intend(row(number)).await.unwrap_err(), refused);
        }
        assert_eq!(
            ledger.refused(AuditRefusal::new("r", "c")),
            Err(refused.clone()),
            "fails closed"
        );
        assert!(ledger.issued(serial(1), crate::testing::certificate(1)).await.is_err());
        assert!(ledger.stats().poisoned && ledger.check().is_err());
        assert_eq!(ledger.aggregates().all().rows, 2, "it may be on the disk, so it counts");
        drop(ledger);
        assert_eq!(disk.count(Operation::Sync, ""), syncs, "a failed sync is never tried again");
        let (ledger, ..) = bench.start();
        assert!(ledger.find(&serial(1)).is_some());
    }
}

#[tokio::test]
async fn a_write_that_cannot_be_taken_back_stops_the_ledger() {
    let mut bench = Bench::new();
    let (ledger, disk, _) = bench.start();
    disk.plan(Fault::next(Operation::Append, How::Torn(30)));
    disk.plan(Fault::next(Operation::Truncate, How::NotStored));
    let refused = ledger.intend(row(1)).await.unwrap_err();
    assert!(matches!(refused, LedgerError::Poisoned { .. }), "{refused}");
    drop(ledger);
    let (_, _, recovered) = bench.start();
    let torn = recovered.segments.values().next().unwrap().torn.clone().unwrap();
    assert!(torn.bytes >= 30);
    let (_, _, recovered) = bench.start();
    assert!(
        recovered.segments.values().all(|found| found.torn.is_none()),
        "cut once, reported once"
    );
}

#[tokio::test]
async fn evidence_that_could_not_be_written_goes_with_the_next_write() {
    let mut bench = Bench::new();
    let (ledger, disk, _) = bench.start();
    issue(&ledger, 1).await;
    disk.plan(Fault::next(Operation::Append, How::DiskFull));
    ledger.ack(Witness::Agent("a"), serial(1), applied(5)).await.unwrap();
    until(|| ledger.stats().writes_failed == 1).await;
    issue(&ledger, 2).await;
    let before = contents(&ledger);
    disk.kill();
    let (ledger, ..) = bench.start();
    assert_eq!(contents(&ledger), before);
    assert_eq!(
        ledger.find(&serial(1)).unwrap().evidence.applied,
        crate::row::Evidence::from(applied(5)).applied
    );
}

/// Writes rows until several files are full, with one fault on the way. Whatever was acknowledged is there afterwards.
#[tokio::test]
async fn no_acknowledged_row_is_lost_at_any_step_of_a_change_of_files() {
    for how in
        [How::NotStored, How::Stored, How::DiskFull, How::Torn(11), How::DiesBefore, How::DiesAfter]
    {
        for step in 0..30 {
            let mut bench =
                Bench::with(Settings { file_bytes_max: 1 << 10, ..Settings::default() });
            let disk = FaultDisk::default();
            disk.plan(Fault::next_change(how).after(step));
            let Ok((ledger, _)) = bench.try_start(&disk) else { continue };
            let mut acknowledged = Vec::new();
            for number in 0..16 {
                if let Ok(intent) = ledger.intend(row(number)).await {
                    acknowledged.push(intent.spend().serial);
                }
            }
            disk.kill();
            drop(ledger);
            let (ledger, ..) = bench.start();
            let lost: Vec<_> =
                acknowledged.iter().filter(|serial| ledger.find(serial).is_none()).collect();
            assert!(lost.is_empty(), "{how:?} at {step}: {lost:?}");
            let healthy = !matches!(how, How::DiesBefore | How::DiesAfter);
            assert!(!healthy || step < 8 || !acknowledged.is_empty());
        }
    }
}

#[tokio::test]
async fn a_start_that_cannot_write_says_what_to_do_and_the_next_one_works() {
    for operation in
        [Operation::CreateDirAll, Operation::AppendOpen, Operation::Append, Operation::Sync]
    {
        for how in [How::NotStored, How::Stored, How::DiskFull] {
            let mut bench = Bench::new();
            let disk = FaultDisk::default();
            disk.plan(Fault::next(operation, how));
            let said = bench.try_start(&disk).unwrap_err().to_string();
            assert!(said.contains("check the disk"), "{said}");
            let (ledger, ..) = bench.start();
            issue(&ledger, 1).await;
        }
    }
}

#[tokio::test]
async fn a_segment_is_never_opened_twice() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    issue(&ledger, 1).await;
    drop(ledger);
    bench.started -= 1;
    let said = bench.try_start(&FaultDisk::default()).unwrap_err().to_string();
    assert!(said.contains("open a new segment id"), "{said}");
    assert!(matches!(bench.entries()[0].record, Record::Intent(_)));
}
