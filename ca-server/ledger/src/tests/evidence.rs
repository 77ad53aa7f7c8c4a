//! What acks, releases and successors do to the counts.

use trust::Sequence;

use super::{Bench, issue};
use crate::error::EvidenceError;
use crate::evidence::{Reported, Witness};
use crate::row::{EvidenceClass, Row, RowKind, Word};
use crate::testing::{applied, certificate, row, serial};

const A: Witness<'_> = Witness::Agent("a");

#[tokio::test]
async fn a_row_behind_an_agent_holds_the_gate_until_its_holder_applied_s_whenever_it_was_born() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    issue(&ledger, 1).await;
    ledger.intend(Row { born: Sequence(2), ..row(2) }).await.unwrap().spend();
    let identity = Row { kind: RowKind::AgentIdentity, born: Sequence(2), ..row(3) };
    ledger.intend(identity).await.unwrap().spend();
    let unproven = |s| ledger.aggregates().unproven(Sequence(s)).rows;
    assert_eq!([1, 2, 3].map(unproven), [3, 3, 3], "an agent may refuse a bundle and renew");
    ledger.ack(A, serial(1), applied(2)).await.unwrap();
    assert_eq!([1, 2, 3].map(unproven), [2, 2, 3]);
    let handshakes = |_| EvidenceClass::HandshakeObserved;
    assert_eq!(ledger.aggregates().unproven_by(Sequence(2), handshakes).rows, 3);
    for number in 1..=3 {
        ledger.ack(A, serial(number), applied(3)).await.unwrap();
    }
    assert_eq!([1, 2, 3].map(unproven), [0, 0, 0]);
    assert_eq!(ledger.aggregates().under(&row(1).root).rows, 3, "proof of trust ends no row");
}

#[tokio::test]
async fn only_a_client_that_installs_leaf_and_bundle_itself_is_proven_by_birth() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    for (number, kind) in (1..).zip([
        RowKind::CsrOnly,
        RowKind::Own,
        RowKind::AgentHeld,
        RowKind::AgentIdentity,
        RowKind::ChannelTrusted,
    ]) {
        ledger.intend(Row { kind, born: Sequence(2), ..row(number) }).await.unwrap().spend();
        let counts = ledger.aggregates();
        let unproven = |s| counts.unproven(Sequence(s)).rows;
        let of_birth = u64::from(kind.is_proven_by_birth());
        assert_eq!((unproven(2), unproven(3)), (number.saturating_sub(2), number), "{kind:?}");
        assert_eq!(of_birth, u64::from(number <= 2));
    }
}

#[tokio::test]
async fn a_word_given_in_advance_counts_from_the_first_moment_and_over_a_restart() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    let word = |word, number| Row { word, born: Sequence(2), ..row(number) };
    ledger.intend(word(Word::Trusting(Sequence(2)), 1)).await.unwrap().spend();
    ledger.intend(word(Word::OwnTrust, 2)).await.unwrap().spend();
    let check = |ledger: &crate::Ledger| {
        let counts = ledger.aggregates();
        assert_eq!([2, 3].map(|s| counts.unproven(Sequence(s)).rows), [1, 2]);
        let own = |s| {
            counts
                .tally(|row| row.own_trust && row.is_unproven(Sequence(s), EvidenceClass::Applied))
        };
        assert_eq!((own(2).rows, own(3).rows), (1, 1));
        let named: Vec<_> =
            ledger.own_trust(9, |_| true).iter().map(|live| live.row.serial).collect();
        assert_eq!(named, [serial(2)]);
        let identity = row(2).identity;
        let (all, of) = ledger.aggregates_with(|one| (*one == identity).then(|| one.clone()));
        assert_eq!((all, of[&identity].all().rows), (counts, 1));
    };
    check(&ledger);
    drop(ledger);
    let (ledger, ..) = bench.start();
    check(&ledger);
    ledger.release(A, serial(2)).await.unwrap();
    assert!(ledger.own_trust(9, |_| true).is_empty());
    assert!(ledger.aggregates_with(|one| Some(one.clone())).1.is_empty());
}

#[tokio::test]
async fn rows_that_an_agent_does_not_know_are_listed_page_by_page_and_none_of_others() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    for number in 1..=9 {
        let agent = Some(if number == 5 { "b" } else { "a" }.to_owned());
        ledger.intend(Row { agent, ..row(number) }).await.unwrap().spend();
    }
    ledger.release(A, serial(9)).await.unwrap();
    let known = [serial(1), serial(7)].into();
    let page = |after| -> Vec<_> {
        ledger.rows_beyond("a", &known, after, 3).into_iter().map(|(serial, _)| serial).collect()
    };
    assert_eq!(page(None), [2, 3, 4].map(serial));
    assert_eq!(page(Some(serial(4))), [6, 8].map(serial));
    assert!(
        page(Some(serial(8))).is_empty() && ledger.rows_beyond("c", &known, None, 3).is_empty()
    );
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
    assert_eq!(
        ledger.ack(A, serial(7), applied(9)).await,
        Err(EvidenceError::UnknownRow(serial(7)))
    );
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
    assert_eq!(
        (found.evidence.applied.newest(), found.certificate),
        (newest, Some(certificate(9)))
    );
}
