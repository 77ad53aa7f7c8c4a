//! What agents see at their holders' listeners, and the leaves that they look with.

use std::time::Duration;

use trust::Sequence;

use super::Bench;
use crate::aggregates::{Required, Tally};
use crate::evidence::{Reported, Witness};
use crate::ledger::Ledger;
use crate::row::{EvidenceClass, Probed, Row, RowKind, Word};
use crate::testing::{NOW, root, row, serial};

const A: Witness<'_> = Witness::Agent("a");
const S: Sequence = Sequence(2);
const PROBED: Required = Required { class: EvidenceClass::Applied, probe: true };

fn listening(number: u64, trusting: u64, seen: Probed) -> Row {
    Row { word: Word::Listening { trusting: Sequence(trusting), seen }, born: S, ..row(number) }
}

fn unproven(ledger: &Ledger) -> (u64, u64) {
    let rows = ledger.aggregates();
    let lacks = |matches: fn(&crate::Standing) -> bool| rows.tally(matches).rows;
    (lacks(|row| row.is_unproven(S, PROBED)), lacks(|row| row.is_unable(S)))
}

async fn says(ledger: &Ledger, number: u64, seen: Probed) -> Reported {
    ledger.probed(A, serial(number), seen, NOW).await.unwrap()
}

#[tokio::test]
async fn what_was_acknowledged_is_not_enough_until_the_listener_was_seen_to_verify() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    ledger.intend(listening(1, 2, Probed::Nothing)).await.unwrap().spend();
    // One without a listener is proven by its word.
    ledger.intend(Row { word: Word::Trusting(S), ..row(2) }).await.unwrap().spend();
    assert_eq!(unproven(&ledger), (1, 0));
    assert_eq!(ledger.aggregates().unproven(S).rows, 0, "where no probe is asked for");
    assert_eq!(says(&ledger, 1, Probed::Observed(Sequence(1))).await, Reported::New);
    assert_eq!(unproven(&ledger), (1, 0), "that was another bundle");
    assert_eq!(says(&ledger, 1, Probed::Unable(S)).await, Reported::New);
    assert_eq!(says(&ledger, 1, Probed::Unable(S)).await, Reported::Known);
    assert_eq!(unproven(&ledger), (1, 1));
    assert_eq!(says(&ledger, 1, Probed::NotProbeable(S)).await, Reported::New);
    assert_eq!(unproven(&ledger), (1, 1), "one that goes away is not believed for that");
    assert_eq!(says(&ledger, 1, Probed::Observed(S)).await, Reported::New);
    assert_eq!(unproven(&ledger), (0, 0));
    assert_eq!(says(&ledger, 1, Probed::Unable(S)).await, Reported::Known);
    assert_eq!(unproven(&ledger), (0, 0), "evidence never gets weaker");
    drop(ledger);
    let (ledger, ..) = bench.start();
    assert_eq!(unproven(&ledger), (0, 0), "and is durable");
}

#[tokio::test]
async fn a_listener_that_cannot_be_probed_leaves_what_was_acknowledged() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    ledger.intend(listening(1, 2, Probed::Nothing)).await.unwrap().spend();
    ledger.intend(listening(2, 1, Probed::Nothing)).await.unwrap().spend();
    for number in [1, 2] {
        says(&ledger, number, Probed::NotProbeable(S)).await;
    }
    assert_eq!(unproven(&ledger), (1, 0), "whoever has not acknowledged is waited for");
    drop(ledger);
    let (ledger, ..) = bench.start();
    assert_eq!(
        unproven(&ledger),
        (2, 0),
        "the agent says it again, and until then it is waited for"
    );
}

#[tokio::test]
async fn what_was_seen_before_a_leaf_was_asked_for_counts_from_its_first_moment() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    let rows = [Probed::Observed(S), Probed::Unable(S), Probed::NotProbeable(S), Probed::Nothing];
    for (number, seen) in (1..).zip(rows) {
        ledger.intend(listening(number, 2, seen)).await.unwrap().spend();
    }
    assert_eq!(unproven(&ledger), (2, 1));
    drop(ledger);
    let (ledger, ..) = bench.start();
    assert_eq!(unproven(&ledger), (2, 1));
}

#[tokio::test]
async fn only_its_own_agent_speaks_of_a_listener() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    ledger.intend(listening(1, 2, Probed::Nothing)).await.unwrap().spend();
    let other = Witness::Agent("b");
    for seen in [Probed::NotProbeable(S), Probed::Observed(S)] {
        ledger.probed(other, serial(1), seen, NOW).await.unwrap_err();
    }
    assert_eq!(unproven(&ledger), (1, 0));
}

#[tokio::test]
async fn a_probe_leaf_is_no_members_and_is_gone_at_its_end() {
    let mut bench = Bench::new();
    let (ledger, ..) = bench.start();
    let probe = Row { kind: RowKind::Probe, root: root(2), ..row(1) };
    ledger.intend(probe).await.unwrap().spend();
    assert_eq!(ledger.aggregates().all(), Tally::default(), "no gate waits for it");
    assert!(ledger.find(&serial(1)).is_some(), "and it is in the books");
    drop(ledger);
    let (ledger, ..) = bench.start();
    assert_eq!(ledger.aggregates().all(), Tally::default());
    assert!(ledger.find(&serial(1)).is_some());
    bench.clock.advance(Duration::from_secs(3_600 + 1_000));
    ledger.expire().unwrap();
    assert!(ledger.find(&serial(1)).is_none());
}
