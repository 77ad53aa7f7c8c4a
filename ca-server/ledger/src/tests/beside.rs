//! What goes on beside a compaction, however long that takes.

use std::sync::Arc;
use std::time::Duration;

use host::{Fault, How, Operation};
use trust::Clock as _;

use super::{Bench, issue, until};
use crate::compaction::Compaction;
use crate::evidence::Witness;
use crate::index::RowFilter;
use crate::ledger::Ledger;
use crate::row::Row;
use crate::settings::Settings;
use crate::testing::{NOW, applied, row, serial};

/// Far longer than what goes on beside it takes, and far shorter than for ever.
const SOON: Duration = Duration::from_secs(30);

/// Everything that the server asks of its ledger all the time.
async fn everyday(ledger: Arc<Ledger>, number: u64) {
    issue(&ledger, number).await;
    ledger.ack(Witness::Agent("a"), serial(number), applied(2)).await.unwrap();
    ledger.release(Witness::Agent("a"), serial(number)).await.unwrap();
    assert!(ledger.find(&serial(number)).is_some());
    ledger.expire().unwrap();
    ledger.check().unwrap();
    ledger.probe().unwrap();
    assert!(ledger.aggregates().all().rows > 0);
    assert!(!ledger.rows(&RowFilter::default(), None, 10).rows.is_empty());
    assert!(ledger.stats().files > 1 && ledger.files().0.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_that_takes_long_holds_up_neither_issuance_nor_any_question() {
    let settings =
        Settings { file_bytes_max: 1 << 12, compact_below_percent: 50, ..Settings::default() };
    let mut bench = Bench::with(settings);
    let (ledger, disk, _) = bench.start();
    let ledger = Arc::new(ledger);
    let long = NOW.plus(Duration::from_secs(86_400));
    for number in 0..200 {
        let not_after = if number % 10 == 0 { long } else { row(0).not_after };
        ledger.intend(Row { not_after, ..row(number) }).await.unwrap().spend();
    }
    bench.clock.advance(Duration::from_secs(7_200));
    for (step, operation) in (0..).zip([Operation::Read, Operation::Rename]) {
        disk.plan(Fault::next(operation, How::Waits).on(".log"));
        let before = disk.count(operation, ".log");
        let compaction = tokio::task::spawn_blocking({
            let ledger = Arc::clone(&ledger);
            move || ledger.compact()
        });
        until(|| disk.count(operation, ".log") > before).await;
        let beside = tokio::spawn(everyday(Arc::clone(&ledger), 1_000 + step));
        let beside = tokio::time::timeout(SOON, beside).await;
        let waited = !compaction.is_finished();
        disk.heal();
        beside.expect("it waits for the compaction").unwrap();
        assert!(waited, "{operation:?}");
        let done = compaction.await.unwrap().unwrap();
        assert!(step > 0 || done != Compaction::default(), "there was something to do");
        for number in 0..40 {
            let short = Row { not_after: bench.clock.now(), ..row(2_000 + step * 100 + number) };
            ledger.intend(short).await.unwrap().spend();
        }
        bench.clock.advance(Duration::from_secs(600));
    }
}
