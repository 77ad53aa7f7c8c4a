//! The CA is away, until and beyond the life of a leaf.

use super::*;
use crate::fakes::ca::Misdeed;

#[tokio::test]
async fn leaves_are_renewed_at_half_of_their_life() {
    let bench = Bench::joined().await;
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    roots.next_acked().await;
    let first = leaf.next_acked().await;
    bench.clock.advance(Duration::from_secs(3600 * 44 / 100));
    assert!(leaf.is_quiet().await, "not before its time");
    bench.clock.advance(Duration::from_secs(3600 * 12 / 100));
    let second = leaf.next_acked().await;
    assert_ne!(first.version_info, second.version_info);
    assert_eq!(bench.agent().status().workloads[0].renewals, 1);
}

#[tokio::test]
async fn while_the_ca_is_away_the_last_good_state_is_served_until_the_leaf_expires_and_no_longer() {
    let bench = Bench::joined().await;
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    roots.next_acked().await;
    let first = leaf.next_acked().await;
    bench.ca.desk().misdeed = Misdeed::Away;
    bench.ca.hang_up();
    bench.clock.advance(Duration::from_secs(3000));
    bench.until("the failure is told", |status| status.workloads[0].last_error.is_some()).await;
    let mut late = bench.subscribe("default").await;
    assert_eq!(late.next_acked().await.version_info, first.version_info, "the last good leaf");
    bench.clock.advance(Duration::from_secs(601));
    bench.until("the expired leaf is gone", |status| status.workloads[0].serial.is_none()).await;
    let mut later = bench.subscribe("default").await;
    assert!(later.is_quiet().await, "the secret stays pending");
    let ask = DiscoveryRequest {
        resource_names: vec!["default".to_owned()],
        ..DiscoveryRequest::default()
    };
    assert_eq!(code_of(bench.sds().await.fetch_secrets(ask).await), Code::Unavailable);
    let mut more_roots = bench.subscribe("ROOTCA").await;
    assert_eq!(certificates_of(&more_roots.next_acked().await).len(), 1, "never an empty bundle");
    bench.ca.desk().misdeed = Misdeed::None;
    bench.clock.advance(Duration::from_secs(31));
    assert_ne!(later.next_acked().await.version_info, first.version_info);
}

#[tokio::test]
async fn an_agent_starts_without_its_ca_and_serves_the_roots_it_has() {
    let mut bench = Bench::joined().await;
    bench.stop().await;
    bench.ca.stop();
    bench.start().await;
    let mut roots = bench.subscribe("ROOTCA").await;
    assert_eq!(certificates_of(&roots.next_acked().await).len(), 1);
    bench
        .until("it says that the CA is away", |status| {
            status.conditions.iter().any(|text| text.starts_with("CA away"))
        })
        .await;
}

#[tokio::test]
async fn a_new_stream_hears_everything_again() {
    let bench = Bench::joined().await;
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    roots.next_acked().await;
    leaf.next_acked().await;
    bench.until_heard("two rows are claimed", |desk| desk.claims().len() == 2).await;
    bench.ca.desk().heard.clear();
    bench.ca.hang_up();
    bench.until_heard("they are claimed again", |desk| desk.claims().len() == 2).await;
    let hello = |desk: &crate::fakes::ca::Desk| {
        desk.heard.iter().any(|message| {
        use proto::banyan::agent::v1::agent_message::Message;
        matches!(message, Message::Hello(hello) if hello.highest_sequence == 1 && hello.held_serials.len() == 2)
    })
    };
    bench.until_heard("Hello names the bundle and what is held", hello).await;
}

#[tokio::test]
async fn a_ban_stops_new_leaves_and_says_so() {
    let bench = Bench::joined().await;
    let ban = proto::banyan::agent::v1::Ban { reason: "host was sold".to_owned() };
    bench.ca.tell(&proto::banyan::agent::v1::server_message::Message::Ban(ban));
    bench
        .until("the ban is told", |status| {
            status.conditions.iter().any(|text| text.contains("host was sold"))
        })
        .await;
}
