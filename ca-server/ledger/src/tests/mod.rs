//! The ledger as a whole, on a disk that fails on purpose.

mod ahead;
mod beside;
mod bounds;
mod clock;
mod compaction;
mod damage;
mod evidence;
mod faults;
mod forgotten;
mod model;
mod probes;
mod statements;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use host::FaultDisk;
use tempfile::TempDir;
use trust::{ManualClock, Serial};

use crate::error::OpenError;
use crate::ledger::Ledger;
use crate::reader;
use crate::record::{Entry, Record};
use crate::recovery::Recovered;
use crate::row::{Change, Row};
use crate::segment::SegmentId;
use crate::settings::{OpenOptions, Settings};
use crate::testing::{NOW, row};

const SKEW: Duration = Duration::from_secs(60);

/// A directory, and the incarnations that were started in it.
struct Bench {
    dir: TempDir,
    clock: Arc<ManualClock>,
    settings: Settings,
    started: u64,
}

impl Bench {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, clock: Arc::new(ManualClock::at(NOW)), settings, started: 0 }
    }

    fn try_start(&mut self, disk: &FaultDisk) -> Result<(Ledger, Recovered), OpenError> {
        self.started += 1;
        Ledger::open(OpenOptions {
            dir: self.path(),
            segment: SegmentId::parse(&format!("ca-1.{}", self.started)).unwrap(),
            disk: Arc::new(disk.clone()),
            clock: Arc::clone(&self.clock) as Arc<_>,
            skew: SKEW,
            settings: self.settings,
        })
    }

    /// Starts on a sound disk of its own.
    fn start(&mut self) -> (Ledger, FaultDisk, Recovered) {
        let disk = FaultDisk::default();
        let (ledger, recovered) = self.try_start(&disk).unwrap();
        (ledger, disk, recovered)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    fn file(&self, segment: u64, number: u64) -> PathBuf {
        self.path().join(format!("ca-1.{segment}/{number:08}.log"))
    }

    fn entries(&self) -> Vec<Entry> {
        entries(&self.path())
    }
}

fn entries(dir: &Path) -> Vec<Entry> {
    let files: Result<Vec<_>, _> = reader::read(&host::RealDisk, dir).unwrap().collect();
    files.unwrap().into_iter().flat_map(|file| file.entries).collect()
}

/// How much of a file's bytes is no zeros written ahead: no record ends with a zero.
fn written_len(bytes: &[u8]) -> usize {
    bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count()
}

/// Everything that recovery must bring back.
fn contents(ledger: &Ledger) -> BTreeMap<Serial, (Row, Change)> {
    let index = ledger.shared.index();
    let every = index.all().map(|live| (live.row.serial, (Row::clone(&live.row), live.change())));
    every.collect()
}

async fn issue(ledger: &Ledger, number: u64) {
    ledger.intend(row(number)).await.unwrap().spend();
}

#[tokio::test]
async fn a_row_is_on_the_disk_when_intend_returns_and_back_after_a_kill() {
    let mut bench = Bench::new();
    let (ledger, disk, _) = bench.start();
    let intent = ledger.intend(row(1)).await.unwrap();
    disk.power_cut().unwrap();
    assert_eq!(intent.serial(), row(1).serial);
    let written = bench.entries();
    assert!(
        matches!(&written[..], [Entry { record: Record::Intent(stored), .. }] if **stored == row(1))
    );
    let (again, _, recovered) = bench.start();
    assert_eq!(again.find(&row(1).serial).unwrap().row.as_ref(), &row(1));
    let (_, found) = recovered.segments.first_key_value().unwrap();
    assert_eq!((found.rows, found.bounds[&row(1).root]), (1, row(1).not_after));
}

#[tokio::test]
async fn many_at_once_share_a_sync() {
    let mut bench =
        Bench::with(Settings { commit_window: Duration::from_millis(20), ..Settings::default() });
    let (ledger, disk, _) = bench.start();
    let before = disk.count(host::Operation::Sync, "");
    let intents = futures_of((0..200).map(|number| ledger.intend(row(number)))).await;
    assert!(intents.into_iter().all(|intent| intent.map(crate::DurableIntent::spend).is_ok()));
    let syncs = disk.count(host::Operation::Sync, "") - before;
    assert!(syncs < 20, "{syncs} syncs for 200 rows");
    assert_eq!(ledger.aggregates().all().rows, 200);
}

#[tokio::test]
async fn a_serial_is_taken_once_even_over_a_restart() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    issue(&ledger, 1).await;
    let twice = ledger.intend(row(1)).await.unwrap_err();
    assert_eq!(twice, crate::LedgerError::DuplicateSerial(row(1).serial));
    drop(ledger);
    let (ledger, ..) = bench.start();
    assert_eq!(ledger.intend(row(1)).await.unwrap_err(), twice);
    assert_eq!(ledger.aggregates().all().rows, 1);
}

#[tokio::test]
async fn a_closed_segment_takes_no_row_but_takes_evidence() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    issue(&ledger, 1).await;
    ledger.close();
    assert_eq!(ledger.intend(row(2)).await.unwrap_err(), crate::LedgerError::Closed);
    ledger.release(crate::Witness::Server, row(1).serial).await.unwrap();
    ledger.shutdown().await;
    assert_eq!(ledger.check(), Err(crate::LedgerError::Closed));
    assert!(matches!(bench.entries().last().unwrap().record, Record::End { records: 2 }));
}

#[tokio::test]
async fn rows_leave_when_no_clock_can_take_their_leaf_for_valid() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    issue(&ledger, 1).await;
    let last = row(1).not_after.plus(SKEW * 2);
    bench.clock.advance(last.since(NOW));
    assert_eq!(ledger.expire(), Ok(0));
    assert!(ledger.find(&row(1).serial).is_some());
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(ledger.expire(), Ok(1));
    assert!(ledger.find(&row(1).serial).is_none());
    assert_eq!(ledger.aggregates(), crate::Aggregates::default());
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_no_row_that_counts() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    drop(ledger.intend(row(1)).await.unwrap());
    ledger.intend(row(2)).await.unwrap().abandon("signer_failed");
    // Polled once: the row is queued, and nobody waits for it any more.
    let mut gone = Box::pin(ledger.intend(row(3)));
    assert!(futures_poll(&mut gone).await.is_none());
    drop(gone);
    issue(&ledger, 4).await;
    until(|| ledger.aggregates().all().rows == 1).await;
    assert!([1, 2, 3].iter().all(|number| ledger.find(&row(*number).serial).is_none()));
    drop(ledger);
    let (ledger, ..) = bench.start();
    assert_eq!(ledger.aggregates().all().rows, 1, "what was abandoned stays so");
}

#[tokio::test]
async fn a_flood_of_refusals_is_counted_and_not_written() {
    let mut bench = Bench::with(Settings { refusals_per_second: 3, ..Settings::default() });
    let (ledger, ..) = bench.start();
    for _ in 0..10 {
        ledger.refused(crate::AuditRefusal::new("CSR_TOO_LARGE", "jwt")).unwrap();
    }
    bench.clock.advance(Duration::from_secs(1));
    ledger.expire().unwrap();
    ledger.refused(crate::AuditRefusal::new("TOKEN_EXPIRED", "jwt")).unwrap();
    ledger.shutdown().await;
    let records: Vec<_> = bench.entries().into_iter().map(|entry| entry.record).collect();
    let refused = records.iter().filter(|record| matches!(record, Record::Refused(_))).count();
    assert_eq!(refused, 4);
    assert!(records.contains(&Record::Suppressed { refusals: 7, since: NOW }));
    assert_eq!(ledger.stats().refusals_suppressed, 7);
}

#[tokio::test]
async fn a_page_goes_on_where_the_one_before_ended() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    for number in 0..25 {
        let agent = Some(if number % 2 == 0 { "a" } else { "b" }.to_owned());
        ledger.intend(Row { agent, ..row(number) }).await.unwrap().spend();
    }
    let filter = crate::RowFilter { agent: Some("b".to_owned()), ..crate::RowFilter::default() };
    let (mut seen, mut next) = (Vec::new(), None);
    loop {
        let page = ledger.rows(&filter, next, 5);
        assert!(page.rows.len() <= 5);
        seen.extend(page.rows.iter().map(|live| live.row.serial));
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 12);
    assert!(seen.is_sorted_by(|a, b| a > b), "each once");
    assert_eq!(ledger.rows_of_agent("b"), 12);
}

/// Runs futures of one kind together, on this task.
async fn futures_of<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, output) in pending.iter_mut().filter(|(_, output)| output.is_none()) {
            if let std::task::Poll::Ready(ready) = future.as_mut().poll(context) {
                *output = Some(ready);
            }
        }
        if pending.iter().all(|(_, output)| output.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    pending.into_iter().filter_map(|(_, output)| output).collect()
}

async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| match std::pin::Pin::new(&mut *future).poll(context) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

/// Waits for a condition that another thread brings about, at most a minute.
async fn until(condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached).await.expect("the condition never held");
}
