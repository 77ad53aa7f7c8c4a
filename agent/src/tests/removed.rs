//! The CA's operator removed or banned the agent, and the day after.

use super::*;
use crate::fakes::ca::Misdeed;

fn says(status: &Status, condition: &str) -> bool {
    status.conditions.iter().any(|text| text.starts_with(condition))
}

/// A member that has just been removed.
async fn removed() -> Bench {
    let bench = Bench::joined().await;
    bench.ca.desk().misdeed = Misdeed::Removed;
    bench.ca.hang_up();
    bench
}

#[tokio::test]
async fn an_agent_that_was_removed_says_so_and_joins_with_a_new_token_as_soon_as_it_is_there() {
    let bench = removed().await;
    let former = bench.agent().status().member.clone().unwrap();
    let told = bench.until("it says so", |status| says(status, "not a member")).await;
    assert!(!says(&told, "CA away") && !says(&told, "own certificate"), "{:?}", told.conditions);
    let told = told.conditions.join(" ");
    assert!(told.contains("no such agent") && told.contains("was used before"), "{told}");
    let key = std::fs::read(bench.dir.path().join("state/agent.key")).unwrap();
    bench.write_token(&bench.ca.numbered_token(2));
    let well = |status: &Status| status.connected && status.conditions.is_empty();
    let status = bench.until("a member again, with no file deleted", well).await;
    assert_ne!(status.member.as_ref().unwrap().serial, former.serial);
    assert_eq!(bench.ca.desk().registered, 2);
    assert_eq!(std::fs::read(bench.dir.path().join("state/agent.key")).unwrap(), key);
    let mut leaf = bench.subscribe("default").await;
    let mut roots = bench.subscribe("ROOTCA").await;
    roots.next_acked().await;
    leaf.next_acked().await;
}

#[tokio::test]
async fn an_agent_that_was_removed_while_it_was_stopped_joins_with_the_token_that_it_finds() {
    let mut bench = Bench::joined().await;
    bench.stop().await;
    bench.ca.desk().misdeed = Misdeed::Removed;
    bench.write_token(&bench.ca.numbered_token(2));
    bench.start().await;
    bench.until("a member again", |status| status.connected && status.conditions.is_empty()).await;
    assert_eq!(bench.ca.desk().registered, 2);
}

#[tokio::test]
async fn an_agent_that_the_ca_knows_again_needs_no_token() {
    let bench = removed().await;
    bench.until("it says so", |status| says(status, "not a member")).await;
    bench.ca.desk().misdeed = Misdeed::None;
    bench.until("a member again", |status| status.connected && status.conditions.is_empty()).await;
    assert_eq!(bench.ca.desk().registered, 1);
}

#[tokio::test]
async fn while_the_agent_is_no_member_its_workloads_are_served_and_nothing_is_asked_for_in_vain() {
    let bench = Bench::joined().await;
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    roots.next_acked().await;
    let first = leaf.next_acked().await;
    bench.ca.desk().misdeed = Misdeed::Removed;
    bench.ca.hang_up();
    bench.until("it says so", |status| says(status, "not a member")).await;
    bench.ca.desk().asked = 0;
    bench.clock.advance(Duration::from_secs(3000));
    let mut late = bench.subscribe("default").await;
    assert_eq!(late.next_acked().await.version_info, first.version_info, "the last good leaf");
    assert!(late.is_quiet().await);
    assert_eq!(bench.ca.desk().asked, 0, "the CA would refuse it");
}

#[tokio::test]
async fn a_banned_agent_says_who_can_help_and_is_back_soon_after_the_ban_was_lifted() {
    let bench = Bench::joined().await;
    bench.ca.desk().misdeed = Misdeed::Banned;
    bench.ca.hang_up();
    let told = bench.until("it says so", |status| says(status, "banned: an operator banned")).await;
    assert_eq!(told.conditions.len(), 1, "{:?}", told.conditions);
    bench.ca.desk().misdeed = Misdeed::None;
    let again =
        bench.until("served again", |status| status.connected && status.conditions.is_empty());
    tokio::time::timeout(Duration::from_secs(30), again).await.expect("soon");
}
