//! Holders: kept over a restart of the agent, let go when they are gone.

use super::*;
use crate::fakes::{Pki, bundle_of};

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

fn serial_of(answer: &DiscoveryResponse) -> Vec<u8> {
    u128::from_str_radix(&answer.version_info, 16).unwrap().to_be_bytes().to_vec()
}

#[tokio::test]
async fn a_holder_is_on_the_disk_before_its_leaf_is_out() {
    let bench = Bench::joined().await;
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    roots.next_acked().await;
    let answer = leaf.next().await.unwrap();
    let account = std::fs::read_to_string(bench.dir.path().join("state/holders.json")).unwrap();
    assert!(account.contains(&answer.version_info), "{account}");
}

#[tokio::test]
async fn a_row_stays_held_over_a_restart_until_the_holder_acknowledges_newer() {
    let mut bench = Bench::joined().await;
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    let applied = roots.next_acked().await;
    let first = leaf.next_acked().await;
    bench.until("the holder has both", |status| status.holders[0].applied == Some(1)).await;
    bench.stop().await;
    let (old, new) = (Arc::clone(&bench.ca.desk().signer), Pki::new("second"));
    bench.ca.publish(bundle_of(&[&old, &new], 2));
    bench.start().await;
    bench.until("the newer bundle is in force", |status| status.sequence == 2).await;
    let status = bench.agent().status();
    assert_eq!(
        status.holders[0].serials,
        std::slice::from_ref(&first.version_info),
        "the holder lives, and so does its row"
    );
    let mut leaf = bench.subscribe("default").await;
    assert!(leaf.is_quiet().await, "its validation secret is known, and has not come back yet");
    let mut roots =
        Subscriber::open(bench.sds().await, &["ROOTCA"], &applied.version_info).await.unwrap();
    assert_eq!(certificates_of(&roots.next_acked().await).len(), 2);
    let second = leaf.next_acked().await;
    bench
        .until_heard("the first leaf is released", |desk| {
            desk.released().contains(&serial_of(&first))
        })
        .await;
    assert!(!bench.ca.desk().released().contains(&serial_of(&second)));
}

#[tokio::test]
async fn a_holder_that_ends_releases_its_leaf() {
    let bench = Bench::joined().await;
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    roots.next_acked().await;
    let answer = leaf.next_acked().await;
    drop((leaf, roots));
    bench.until("its streams are gone", |status| !status.holders[0].connected).await;
    assert_eq!(
        bench.ca.desk().released(),
        Vec::<Vec<u8>>::new(),
        "a stream that ended is no process that ended"
    );
    bench.processes.end(own_pid());
    bench
        .until_heard("the leaf is released", |desk| desk.released().contains(&serial_of(&answer)))
        .await;
    let status = bench.until("nobody holds", |status| status.holders.is_empty()).await;
    assert_eq!(status.workloads[0].serial, None, "the key is gone");
}

#[tokio::test]
async fn a_holder_that_ended_while_the_agent_was_down_is_let_go_at_start() {
    let mut bench = Bench::joined().await;
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    roots.next_acked().await;
    let answer = leaf.next_acked().await;
    bench.until("the holder has it", |status| status.holders[0].applied == Some(1)).await;
    bench.stop().await;
    bench.processes.end(own_pid());
    bench.start().await;
    bench
        .until_heard("the leaf is released", |desk| desk.released().contains(&serial_of(&answer)))
        .await;
}

#[tokio::test]
async fn a_disk_that_takes_no_account_lets_no_leaf_out() {
    let bench = Bench::joined().await;
    let account = bench.dir.path().join("state/holders.json");
    // A directory in the file's place: it cannot be replaced.
    let _ = std::fs::remove_file(&account);
    std::fs::create_dir(&account).unwrap();
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    roots.next_acked().await;
    bench.until("the leaf is there", |status| status.workloads[0].serial.is_some()).await;
    bench
        .until("the disk is told of", |status| {
            status.conditions.iter().any(|text| text.starts_with("holders not"))
        })
        .await;
    assert!(leaf.is_quiet().await);
    std::fs::remove_dir(&account).unwrap();
    leaf.next_acked().await;
}
