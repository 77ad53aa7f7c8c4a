//! What the agent promises of a leaf, and what it answers when it is asked about leaves that it does not know.

use std::collections::BTreeSet;

use proto::banyan::agent::v1 as wire;
use proto::banyan::agent::v1::server_message::Message as Down;
use trust::Serial;

use super::*;
use crate::fakes::{Pki, bundle_of};

fn serial_of(answer: &DiscoveryResponse) -> Vec<u8> {
    u128::from_str_radix(&answer.version_info, 16).unwrap().to_be_bytes().to_vec()
}

fn doubt(rows: &[(u8, i64)], last: bool) -> Down {
    let row = |(number, after): &(u8, i64)| wire::DoubtedRow {
        serial: unknown(*number),
        not_after: NOW.as_secs() + after,
    };
    Down::Doubt(wire::Doubt { rows: rows.iter().map(row).collect(), last })
}

/// A serial that no leaf of this agent has.
fn unknown(number: u8) -> Vec<u8> {
    vec![0x60 + number; Serial::LEN]
}

#[tokio::test]
async fn a_holder_without_validation_secret_gets_a_leaf_that_was_not_promised_and_nothing_is_claimed_of_it()
 {
    let bench = Bench::joined().await;
    let mut leaf = bench.subscribe("default").await;
    bench.until("a leaf is there", |status| status.workloads[0].serial.is_some()).await;
    assert!(leaf.is_quiet().await, "its validation secret may still come");
    bench.clock.advance(Duration::from_secs(3));
    let own = leaf.next_acked().await;
    assert_eq!(bench.ca.desk().promises, [true, false]);
    bench.until_heard("the promised one is released", |desk| !desk.released().is_empty()).await;
    assert!(!bench.ca.desk().released().contains(&serial_of(&own)));
    assert!(
        !bench.ca.desk().claims().contains_key(&serial_of(&own)),
        "nothing tells what it trusts"
    );

    let mut roots = bench.subscribe("ROOTCA").await;
    roots.next_acked().await;
    let applied = Some((1, wire::EvidenceClass::Applied));
    bench
        .until_heard("it takes its trust from here", |desk| {
            desk.claims().get(&serial_of(&own)).copied() == applied
        })
        .await;
    bench.clock.advance(Duration::from_secs(10));
    let promised = leaf.next_acked().await;
    assert_ne!(promised.version_info, own.version_info);
    assert_eq!(bench.ca.desk().promises, [true, false, true]);
}

#[tokio::test]
async fn a_validation_secret_that_stays_away_beside_another_is_missed_until_it_is_back() {
    let bench = Bench::joined().await;
    let mut roots = bench.subscribe("ROOTCA").await;
    let mut all = bench.subscribe("ALL").await;
    roots.next_acked().await;
    all.next_acked().await;
    let mut leaf = bench.subscribe("default").await;
    let first = serial_of(&leaf.next_acked().await);
    let applied = Some((1, wire::EvidenceClass::Applied));
    let proven = |serial: Vec<u8>| {
        move |desk: &crate::fakes::ca::Desk| desk.claims().get(&serial).copied() == applied
    };
    bench.until_heard("both are acknowledged", proven(first)).await;
    assert_eq!(bench.ca.desk().promises, [true]);

    drop(all);
    assert!(leaf.is_quiet().await, "a stream may break for a moment");
    bench.clock.advance(Duration::from_secs(120));
    let own = serial_of(&leaf.next_acked().await);
    assert_eq!(bench.ca.desk().promises, [true, false], "nobody promises for what is missed");
    assert!(
        !bench.ca.desk().claims().contains_key(&own),
        "the other secret does not answer for it"
    );

    let mut all = bench.subscribe("ALL").await;
    all.next_acked().await;
    bench.until_heard("it is back", proven(own)).await;
}

#[tokio::test]
async fn the_only_validation_secret_that_stays_away_while_the_leaf_s_stream_is_up_is_missed_until_it_is_back()
 {
    let bench = Bench::joined().await;
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    roots.next_acked().await;
    let first = serial_of(&leaf.next_acked().await);
    let said = |serial: &Vec<u8>, sequence: u64| {
        let (serial, claim) = (serial.clone(), Some((sequence, wire::EvidenceClass::Applied)));
        move |desk: &crate::fakes::ca::Desk| desk.claims().get(&serial).copied() == claim
    };
    bench.until_heard("it is acknowledged", said(&first, 1)).await;
    assert_eq!(bench.ca.desk().promises, [true]);

    drop(roots);
    assert!(leaf.is_quiet().await, "a stream may break for a moment");
    bench.clock.advance(Duration::from_secs(120));
    let own = serial_of(&leaf.next_acked().await);
    assert_eq!(bench.ca.desk().promises, [true, false], "nobody promises for what is missed");
    let (old, new) = (Arc::clone(&bench.ca.desk().signer), Pki::new("second"));
    bench.ca.publish(bundle_of(&[&old, &new], 2));
    bench.until("the agent has it", |status| status.sequence == 2).await;
    // Its next leaf comes with the newer bundle, and says no more of what the holder trusts.
    bench.clock.advance(Duration::from_secs(2_100));
    let later = serial_of(&leaf.next_acked().await);
    assert!(later != own && bench.ca.desk().promises.last() == Some(&false));
    bench.until_heard("the former is given up", |desk| desk.released().contains(&own)).await;
    assert!(!bench.ca.desk().claims().contains_key(&own), "nothing tells what it trusts");
    assert!(!bench.ca.desk().claims().contains_key(&later), "nothing tells what it trusts still");

    let mut roots = bench.subscribe("ROOTCA").await;
    assert_eq!(certificates_of(&roots.next_acked().await).len(), 2);
    bench.until_heard("it is back", said(&later, 2)).await;
}

#[tokio::test]
async fn a_promised_leaf_that_waits_for_its_holder_is_claimed_for_the_newest_bundle() {
    let bench = Bench::joined().await;
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    roots.next().await.unwrap();
    let status =
        bench.until("a leaf is there", |status| status.workloads[0].serial.is_some()).await;
    let serial = u128::from_str_radix(status.workloads[0].serial.as_ref().unwrap(), 16).unwrap();
    let serial = serial.to_be_bytes().to_vec();
    let claims = |sequence: u64| {
        let serial = serial.clone();
        move |desk: &crate::fakes::ca::Desk| {
            desk.claims().get(&serial).copied() == Some((sequence, wire::EvidenceClass::Applied))
        }
    };
    bench.until_heard("nobody holds it", claims(1)).await;
    let (old, new) = (Arc::clone(&bench.ca.desk().signer), Pki::new("second"));
    bench.ca.publish(bundle_of(&[&old, &new], 2));
    bench.until_heard("nobody holds it still", claims(2)).await;
    assert!(leaf.is_quiet().await, "and nobody gets it before the acknowledgement");
}

#[tokio::test]
async fn a_refusal_is_told_for_as_long_as_it_lasts() {
    let bench = Bench::joined().await;
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    roots.next_acked().await;
    let held = serial_of(&leaf.next_acked().await);
    let (old, new) = (Arc::clone(&bench.ca.desk().signer), Pki::new("second"));
    bench.ca.publish(bundle_of(&[&old, &new], 2));
    let answer = roots.next().await.unwrap();
    roots.nack(&answer, "cannot load the second").await;
    bench
        .until_heard("the refusal is told", |desk| {
            desk.refusals().is_some_and(|refused| {
                refused.len() == 1
                    && refused[0].serial == held
                    && refused[0].reason == "cannot load the second"
            })
        })
        .await;
    bench.ca.publish(bundle_of(&[&old, &Pki::new("third")], 3));
    while certificates_of(&roots.next_acked().await).len() != 2 {}
    bench
        .until_heard("its end is told too", |desk| {
            desk.refusals().is_some_and(|refused| refused.is_empty())
        })
        .await;
}

#[tokio::test]
async fn an_orderly_stop_releases_what_nobody_holds_and_nothing_else() {
    let mut bench = Bench::empty().await;
    bench.more =
        "[[workload]]\nuid = 4242\nspiffe_id = \"spiffe://example.org/warm\"\nprewarm = true\n"
            .to_owned();
    bench.start().await;
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    roots.next_acked().await;
    let held = serial_of(&leaf.next_acked().await);
    let status = bench
        .until("both are there", |status| {
            status.workloads.iter().all(|workload| workload.serial.is_some())
        })
        .await;
    let serials: BTreeSet<Vec<u8>> = status
        .workloads
        .iter()
        .filter_map(|workload| u128::from_str_radix(workload.serial.as_ref()?, 16).ok())
        .map(|serial| serial.to_be_bytes().to_vec())
        .collect();
    bench.stop().await;
    let released: BTreeSet<Vec<u8>> = bench.ca.desk().released().into_iter().collect();
    assert_eq!(released, serials.into_iter().filter(|serial| *serial != held).collect());
}

#[tokio::test]
async fn unknown_leaves_are_released_unless_holders_of_a_former_account_may_have_them() {
    let mut bench = Bench::joined().await;
    let own = bench.agent().status().member.as_ref().unwrap().serial.clone();
    let own = u128::from_str_radix(&own, 16).unwrap().to_be_bytes().to_vec();
    // The first time the CA asks, it asks about what there was before this account of holders.
    bench.ca.tell(&doubt(&[(1, 100)], true));
    let account = bench.dir.path().join("state/holders.json");
    let begun = format!("\"silent_until\": {}", NOW.as_secs() + 100);
    let has_begun = |_: &crate::fakes::ca::Desk| {
        std::fs::read_to_string(&account).is_ok_and(|text| text.contains(&begun))
    };
    bench.until_heard("the account has begun", has_begun).await;
    bench.ca.tell(&doubt(&[(1, 100), (2, 100), (3, 200)], true));
    bench.ca.tell(&Down::Doubt(wire::Doubt {
        rows: vec![wire::DoubtedRow { serial: own.clone(), not_after: NOW.as_secs() + 300 }],
        last: true,
    }));
    bench
        .until_heard("what is of this account", |desk| desk.released().contains(&unknown(3)))
        .await;
    bench.stop().await;
    bench.start().await;
    bench.until("it is back", |status| status.connected).await;
    bench.ca.tell(&doubt(&[(4, 100), (5, 300)], true));
    bench.until_heard("after a restart too", |desk| desk.released().contains(&unknown(5))).await;
    let released: BTreeSet<Vec<u8>> = bench.ca.desk().released().into_iter().collect();
    assert_eq!(released, [unknown(3), unknown(5)].into(), "neither its own nor one of before");
}

#[tokio::test]
async fn a_bundle_that_changes_while_a_leaf_is_asked_for_is_stored_first_and_no_renewal_fails() {
    let bench = Bench::joined().await;
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    roots.next_acked().await;
    leaf.next_acked().await;
    let (old, new) = (Arc::clone(&bench.ca.desk().signer), Pki::new("second"));
    bench.ca.publish_unheard(bundle_of(&[&old, &new], 2));
    bench.clock.advance(Duration::from_secs(2_100));
    let status =
        bench.until("the leaf is renewed", |status| status.workloads[0].renewals == 1).await;
    assert_eq!((status.sequence, status.workloads[0].last_error.clone()), (2, None));
    assert_eq!(bench.ca.desk().behind, 1, "asked once too early, and once more");
    assert_eq!(
        certificates_of(&roots.next_acked().await).len(),
        2,
        "the holder has it before the leaf"
    );
    leaf.next_acked().await;
}

#[tokio::test]
async fn the_agents_own_certificate_is_renewed_over_a_change_of_the_bundle_too() {
    let bench = Bench::joined().await;
    let (old, new) = (Arc::clone(&bench.ca.desk().signer), Pki::new("second"));
    bench.ca.publish_unheard(bundle_of(&[&old, &new], 2));
    bench.clock.advance(Duration::from_secs(50_000));
    bench.until_heard("it is renewed", |desk| desk.renewed == 1).await;
    let status = bench.until("under the new bundle", |status| status.sequence == 2).await;
    assert_eq!((bench.ca.desk().behind, status.conditions.clone()), (1, Vec::new()));
}
