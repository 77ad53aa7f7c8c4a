//! What acks, releases and successors do to the counts.

use trust::Sequence;

use super::{Bench, issue};
use crate::error::EvidenceError;
use crate::evidence::{Reported, Witness};
use crate::row::{EvidenceClass, Row, RowKind};
use crate::testing::{applied, certificate, row, serial};

const A: Witness<'_> = Witness::Agent("a");

#[tokio::test]
async fn a_row_born_before_s_holds_the_gate_until_its_holder_applied_s() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    issue(&ledger, 1).await;
    ledger.intend(Row { born: Sequence(2), ..row(2) }).await.unwrap().spend();
    let unproven = |s| ledger.aggregates().unproven(Sequence(s)).rows;
    assert_eq!([1, 2, 3].map(unproven), [0, 1, 2]);
    ledger.ack(A, serial(1), applied(2)).await.unwrap();
    assert_eq!([1, 2, 3].map(unproven), [0, 0, 2]);
    let handshakes = |_| EvidenceClass::HandshakeObserved;
    assert_eq!(ledger.aggregates().unproven_by(Sequence(2), handshakes).rows, 1);
    ledger.ack(A, serial(1), applied(3)).await.unwrap();
    ledger.ack(A, serial(2), applied(3)).await.unwrap();
    assert_eq!([1, 2, 3].map(unproven), [0, 0, 0]);
    assert_eq!(ledger.aggregates().under(&row(1).root).rows, 2, "proof of trust ends no row");
}

#[tokio::test]
async fn an_agent_is_heard_about_its_own_live_rows_only_and_takes_nothing_back() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    issue(&ledger, 1).await;
    ledger.intend(Row { agent: None, kind: RowKind::CsrOnly, ..row(2) }).await.unwrap().spend();
    let before = ledger.aggregates();
    let stranger = Witness::Agent("b");
    for (by, number) in [(stranger, 1), (A, 2)] {
        let refused = ledger.ack(by, serial(number), applied(9)).await.unwrap_err();
        assert!(matches!(refused, EvidenceError::NotYours { .. }), "{refused}");
        assert!(ledger.release(by, serial(number)).await.is_err());
    }
    assert_eq!(ledger.ack(A, serial(7), applied(9)).await, Err(EvidenceError::UnknownRow(serial(7))));
    assert_eq!(ledger.aggregates(), before, "a refused report moves nothing");
    assert_eq!(ledger.ack(A, serial(1), applied(5)).await, Ok(Reported::New));
    let after = ledger.aggregates();
    for older in [4, 5] {
        assert_eq!(ledger.ack(A, serial(1), applied(older)).await, Ok(Reported::Known));
    }
    assert_eq!(ledger.aggregates(), after);
    assert_eq!(ledger.release(A, serial(1)).await, Ok(Reported::New));
    assert_eq!(ledger.release(A, serial(1)).await, Ok(Reported::Known));
    assert_eq!(ledger.ack(A, serial(1), applied(6)).await, Err(EvidenceError::Ended(serial(1))));
    assert_eq!(ledger.aggregates().all().rows, 1);
}

#[tokio::test]
async fn a_successor_takes_over_only_when_its_holder_applied_it() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    issue(&ledger, 1).await;
    ledger.intend(Row { born: Sequence(2), ..row(2) }).await.unwrap().spend();
    let other = trust::SpiffeId::parse("spiffe://example.org/other").unwrap();
    ledger.intend(Row { identity: other, ..row(3) }).await.unwrap().spend();
    let refused = async |old, by| ledger.supersede("a", serial(old), serial(by)).await.unwrap_err();
    assert!(matches!(refused(1, 2).await, EvidenceError::NotApplied { .. }));
    ledger.ack(A, serial(1), applied(2)).await.unwrap();
    ledger.ack(A, serial(2), applied(2)).await.unwrap();
    ledger.ack(A, serial(3), applied(2)).await.unwrap();
    for (old, by) in [(1, 1), (1, 3), (2, 1)] {
        assert!(matches!(refused(old, by).await, EvidenceError::NotSuccessor { .. }), "{old} by {by}");
    }
    assert!(ledger.supersede("b", serial(1), serial(2)).await.is_err());
    assert_eq!(ledger.aggregates().all().rows, 3);
    assert_eq!(ledger.supersede("a", serial(1), serial(2)).await, Ok(Reported::New));
    assert_eq!(ledger.supersede("a", serial(1), serial(2)).await, Ok(Reported::Known));
    assert_eq!(ledger.aggregates().all().rows, 2);
    assert!(matches!(refused(2, 1).await, EvidenceError::Ended(_)), "no circle of successors");
}

#[tokio::test]
async fn a_leaf_of_a_client_that_only_sends_csrs_is_delivered_with_its_bundle() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    ledger
        .intend(Row { agent: None, kind: RowKind::CsrOnly, born: Sequence(4), ..row(1) })
        .await
        .unwrap()
        .spend();
    assert_eq!(ledger.find(&serial(1)).unwrap().evidence.applied.newest(), None);
    ledger.issued(serial(1), certificate(9)).await.unwrap();
    let newest = Some((Sequence(4), EvidenceClass::Delivered));
    assert_eq!(ledger.find(&serial(1)).unwrap().evidence.applied.newest(), newest);
    drop(ledger);
    let (ledger, ..) = bench.start();
    let found = ledger.find(&serial(1)).unwrap();
    assert_eq!((found.evidence.applied.newest(), found.certificate), (newest, Some(certificate(9))));
}
