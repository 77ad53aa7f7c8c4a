//! What is stated about closed files, and what a start finds instead.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use super::{Bench, contents, issue};
use crate::segment::SegmentId;
use crate::settings::Settings;
use crate::testing::row;

fn small() -> Settings {
    Settings { file_bytes_max: 1 << 10, ..Settings::default() }
}

fn first() -> SegmentId {
    SegmentId::parse("ca-1.1").unwrap()
}

/// Two files of the first incarnation, which ended in order.
async fn closed() -> Bench {
    let mut bench = Bench::with(small());
    let (ledger, ..) = bench.start();
    for number in 0..17 {
        issue(&ledger, number).await;
    }
    drop(ledger);
    assert!(bench.file(1, 2).exists() && !bench.file(1, 3).exists());
    bench
}

#[tokio::test]
async fn a_segment_that_was_read_stays_read_when_a_compaction_has_emptied_it() {
    let mut bench = closed().await;
    let (ledger, _, recovered) = bench.start();
    assert!(recovered.whole.contains(&first()));
    drop(ledger);
    bench.clock.advance(Duration::from_secs(7_200));
    let ledger = Arc::new(bench.start().0);
    let compacting = Arc::clone(&ledger);
    tokio::task::spawn_blocking(move || compacting.compact()).await.unwrap().unwrap();
    assert!(!bench.path().join("ca-1.1").exists(), "nothing is left of it");
    drop(ledger);
    for _ in 0..2 {
        let (ledger, _, recovered) = bench.start();
        assert!(recovered.whole.contains(&first()), "{recovered:?}");
        assert_eq!(recovered.faults, []);
        ledger.forget(|_| true).unwrap();
    }
    let (ledger, ..) = bench.start();
    ledger.forget(|segment| *segment != first()).unwrap();
    drop(ledger);
    assert!(!bench.start().2.whole.contains(&first()), "it matters no more");
}

#[tokio::test]
async fn a_closed_file_that_was_cut_is_a_fault_of_its_segment_and_what_is_left_of_it_is_read() {
    let mut bench = closed().await;
    let last = bench.file(1, 2);
    let sound = fs::read(&last).unwrap();
    let (ledger, ..) = bench.start();
    let before = contents(&ledger);
    drop(ledger);
    for len in (0..sound.len()).step_by(11) {
        fs::write(&last, &sound[..len]).unwrap();
        let (ledger, _, recovered) = bench.start();
        let [fault] = &recovered.faults[..] else { panic!("cut at {len}: {recovered:?}") };
        assert_eq!((&fault.segment, &fault.path), (&first(), &last));
        assert!(!recovered.whole.contains(&first()), "cut at {len}");
        assert_eq!(ledger.faults(), recovered.faults);
        let left = contents(&ledger);
        assert!(
            left.iter().all(|(serial, row)| before.get(serial) == Some(row)) && left.len() >= 4
        );
        drop(ledger);
        assert_eq!(fs::read(&last).unwrap(), &sound[..len], "nothing is repaired by guessing");
    }
    fs::write(&last, &sound).unwrap();
    let (ledger, _, recovered) = bench.start();
    assert!(recovered.faults.is_empty() && recovered.whole.contains(&first()));
    assert_eq!(contents(&ledger), before);
}

#[tokio::test]
async fn a_closed_file_that_is_gone_or_another_is_a_fault() {
    let mut bench = closed().await;
    fs::remove_dir_all(bench.path().join("ca-1.1")).unwrap();
    for _ in 0..2 {
        let (_, _, recovered) = bench.start();
        assert_eq!(recovered.faults.len(), 2, "both files, at each start");
        assert!(
            recovered
                .faults
                .iter()
                .all(|fault| fault.segment == first() && fault.what == "is gone")
        );
    }
    let (ledger, ..) = bench.start();
    ledger.forget(|segment| *segment != first()).unwrap();
    drop(ledger);
    assert_eq!(bench.start().2.faults, []);

    let (mut bench, mut twin) = (closed().await, Bench::with(small()));
    let (ledger, ..) = twin.start();
    for number in 100..117 {
        issue(&ledger, number).await;
    }
    drop(ledger);
    fs::copy(twin.file(1, 2), bench.file(1, 2)).unwrap();
    let recovered = bench.start().2;
    assert!(recovered.faults[0].what.contains("checksum is another"), "{recovered:?}");
}

#[tokio::test]
async fn a_ledger_without_statements_opens_and_is_stated_from_then_on() {
    let mut bench = closed().await;
    fs::remove_file(bench.path().join("manifest.txt")).unwrap();
    let (ledger, _, recovered) = bench.start();
    assert!(recovered.faults.is_empty() && recovered.whole.contains(&first()));
    assert!(ledger.find(&row(6).serial).is_some());
    drop(ledger);
    let bytes = fs::read(bench.file(1, 2)).unwrap();
    fs::write(bench.file(1, 2), &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(bench.start().2.faults.len(), 1);
}

#[tokio::test]
async fn statements_that_are_damaged_stop_the_start_and_say_what_to_do() {
    let mut bench = closed().await;
    let path = bench.path().join("manifest.txt");
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let refused = bench.try_start(&host::FaultDisk::default()).unwrap_err().to_string();
    assert!(refused.contains("manifest.txt") && refused.contains("remove it"), "{refused}");
}
