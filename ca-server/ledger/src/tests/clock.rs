//! A wall clock that is not believed: nothing is dropped by it.

use std::sync::Arc;
use std::time::Duration;

use host::RealDisk;
use trust::{Clock, ClockGuard, ManualClock};

use super::{SKEW, contents, issue};
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::segment::SegmentId;
use crate::settings::{OpenOptions, Settings};
use crate::testing::{NOW, row};

const TWO_DAYS: Duration = Duration::from_secs(2 * 86_400);

#[tokio::test]
async fn no_row_ends_by_a_clock_that_jumped_neither_in_memory_nor_at_a_start_nor_on_the_disk() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::at(NOW)));
    let guard = Arc::new(ClockGuard::new(Arc::clone(&clock) as Arc<dyn Clock>, SKEW, None));
    let open = |segment| {
        let opened = Ledger::open(OpenOptions {
            dir: dir.path().to_owned(),
            segment: SegmentId::parse(segment).unwrap(),
            disk: Arc::new(RealDisk),
            clock: Arc::clone(&guard) as Arc<dyn Clock>,
            skew: SKEW,
            settings: Settings { file_bytes_max: 1 << 10, ..Settings::default() },
        });
        Arc::new(opened.unwrap().0)
    };
    let ledger = open("one");
    for number in 0..20 {
        issue(&ledger, number).await;
    }
    let before = contents(&ledger);
    clock.jump_to(NOW.plus(TWO_DAYS));
    assert_eq!(ledger.expire(), Ok(0));
    let compacting = Arc::clone(&ledger);
    let compacted = tokio::task::spawn_blocking(move || compacting.compact()).await.unwrap();
    assert!(matches!(compacted, Err(LedgerError::Clock(_))), "{compacted:?}");
    drop(ledger);
    let ledger = open("two");
    assert_eq!(contents(&ledger), before);
    clock.jump_to(NOW);
    assert_eq!(ledger.expire(), Ok(0));
    assert_eq!(contents(&ledger), before);
    // By both clocks they are over.
    clock.advance(row(0).not_after.since(NOW) + SKEW * 2 + Duration::from_secs(1));
    assert_eq!(ledger.expire(), Ok(20));
}
