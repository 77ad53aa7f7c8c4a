//! An operator's word that nobody holds a leaf, and what shows that it was wrong.

use host::{Fault, FaultDisk, How, Operation};
use trust::{Sequence, SpiffeId};

use super::{Bench, issue};
use crate::error::{EvidenceError, LedgerError};
use crate::evidence::{Reported, Witness};
use crate::index::{Cursor, RowFilter};
use crate::testing::{applied, root, row, serial};

const A: Witness<'_> = Witness::Agent("a");

#[tokio::test]
async fn a_forgotten_leaf_holds_no_gate_and_neither_does_it_after_a_kill() {
    let mut bench = Bench::new();
    let (ledger, disk, _) = bench.start();
    for number in 0..3 {
        issue(&ledger, number).await;
    }
    let forgotten = ledger.forget_leaves(&[serial(1), serial(7), serial(1)]).await.unwrap();
    assert_eq!(
        forgotten,
        [serial(1)],
        "one that is not there counts for nothing, and no leaf goes twice"
    );
    disk.power_cut().unwrap();
    let (again, _, _) = bench.start();
    for ledger in [&ledger, &again] {
        let rows = ledger.aggregates();
        assert_eq!((rows.under(&root(1)).rows, rows.unproven(Sequence(2)).rows), (2, 2));
        assert_eq!(ledger.rows_of_agent("a"), 2);
        let live = ledger.find(&serial(1)).unwrap();
        assert!(live.forgotten.stands() && !live.counts(), "the row itself is not forgotten");
        assert_eq!(ledger.forgotten(), [live]);
    }
}

#[tokio::test]
async fn whoever_shows_that_a_forgotten_leaf_is_held_makes_it_count_again_for_good() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    issue(&ledger, 1).await;
    issue(&ledger, 2).await;
    ledger.forget_leaves(&[serial(1), serial(2)]).await.unwrap();
    let other = ledger.ack(Witness::Agent("b"), serial(1), applied(1)).await;
    assert!(
        matches!(other, Err(EvidenceError::NotYours { .. })),
        "only its own agent speaks about it"
    );
    assert!(ledger.held(Witness::Agent("b"), serial(1)).is_err());
    assert_eq!(ledger.aggregates().all().rows, 0);
    // An acknowledgement says as much, and is taken with it.
    assert_eq!(ledger.ack(A, serial(1), applied(4)).await, Ok(Reported::New));
    assert_eq!(ledger.held(A, serial(2)), Ok(Reported::New));
    assert_eq!(ledger.held(A, serial(2)), Ok(Reported::Known));
    ledger.shutdown().await;
    drop(ledger);
    let (ledger, ..) = bench.start();
    let live = ledger.find(&serial(1)).unwrap();
    assert!(live.counts() && live.forgotten.was_wrong());
    assert_eq!(live.evidence.applied.newest().map(|(sequence, _)| sequence), Some(Sequence(4)));
    assert_eq!((ledger.aggregates().all().rows, ledger.forgotten().len()), (2, 2));
    // The operator may say it again, and the holder may give it up.
    assert_eq!(ledger.forget_leaves(&[serial(1)]).await.unwrap(), [serial(1)]);
    assert_eq!(ledger.release(A, serial(1)).await, Ok(Reported::New));
    assert_eq!(ledger.forgotten().len(), 1, "one that was given up is gone in fact");
}

#[tokio::test]
async fn a_word_that_is_not_on_the_disk_lets_nothing_go() {
    let mut bench = Bench::new();
    let disk = FaultDisk::default();
    let (ledger, _) = bench.try_start(&disk).unwrap();
    issue(&ledger, 1).await;
    disk.plan(Fault::next(Operation::Append, How::NotStored));
    let error = ledger.forget_leaves(&[serial(1)]).await.unwrap_err();
    assert!(matches!(error, LedgerError::WriteFailed { .. }), "{error}");
    assert!(ledger.find(&serial(1)).unwrap().counts());
    assert_eq!(ledger.aggregates().all().rows, 1);
}

#[tokio::test]
async fn a_page_goes_on_where_its_bytes_say_and_shows_one_identity_alone() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    for number in 0..5 {
        issue(&ledger, number).await;
    }
    let filter = RowFilter { identity: Some(row(0).identity), ..RowFilter::default() };
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = ledger.rows(&filter, after, 2);
        seen.extend(page.rows.iter().map(|live| live.row.serial));
        let Some(next) = page.next else { break };
        after = Cursor::from_bytes(&next.to_bytes());
        assert_eq!(after, Some(next));
    }
    seen.sort();
    assert_eq!(seen, [0, 1, 2, 3, 4].map(serial));
    assert_eq!(Cursor::from_bytes(&[0; 8]), None);
    let nobody = RowFilter {
        identity: Some(SpiffeId::parse("spiffe://example.org/none").unwrap()),
        ..filter
    };
    assert!(ledger.rows(&nobody, None, 10).rows.is_empty());
}
