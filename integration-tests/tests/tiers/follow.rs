//! Rotations that begin at the top and go through every tier.

use std::time::Duration;

use integration_tests::mesh::eventually;
use proto::banyan::admin::v1::Rotation;

use crate::tier_ca::{Mesh, TierCa};

#[tokio::test(flavor = "multi_thread")]
async fn a_root_is_replaced_at_the_top_while_members_of_three_cas_talk() -> anyhow::Result<()> {
    let top = TierCa::top().await?;
    let middle = TierCa::below(&top, "middle").await?;
    let bottom = TierCa::below(&middle, "bottom").await?;
    let old = top.root();
    assert_eq!((middle.root(), bottom.root()), (old, old), "one root in all tiers");
    let mesh = Mesh::over(&[&top, &middle, &bottom, &bottom]).await?;
    top.rotate("one", "auto").await?;
    top.until("over", |rotation| {
        rotation.phase == "steady" && rotation.done.contains(&"one".to_owned())
    })
    .await?;
    let new = top.root();
    assert_ne!(old, new);
    for ca in [&middle, &bottom] {
        ca.settled(new).await?;
    }
    mesh.lives_under(new).await?;
    mesh.stop().await
}

/// What the trust gate at the top says of the downstream CA.
fn names(words: &str) -> impl Fn(&Rotation) -> bool {
    move |rotation| {
        let holders =
            rotation.gate.as_ref().map(|gate| gate.holders.as_slice()).unwrap_or_default();
        let named =
            holders.iter().any(|holder| holder.kind == "downstream" && holder.text.contains(words));
        rotation.phase == "distributing" && named
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_proxy_at_the_bottom_is_named_at_the_top_and_waited_for() -> anyhow::Result<()> {
    let top = TierCa::top().await?;
    let middle = TierCa::below(&top, "middle").await?;
    let bottom = TierCa::below(&middle, "bottom").await?;
    let old = top.root();
    let mesh = Mesh::over(&[&top, &middle, &bottom, &bottom]).await?;
    let frozen = mesh.proxies.last().unwrap();
    frozen.freeze(true);
    top.rotate("one", "auto").await?;
    let named = top.until("the frozen one is named", names(&Mesh::identity(3))).await?;
    let gate = named.gate.unwrap();
    let holder = gate.holders.iter().find(|holder| holder.kind == "downstream").unwrap();
    assert_eq!(holder.identity, "middle");
    assert!(holder.text.contains("downstream CA bottom: waits for"), "{}", holder.text);
    assert!(gate.opens_at_latest > gate.at, "it says when it opens by itself");
    // Settle is 1 s: an open gate would have been passed long before this many handshakes.
    let (before, long) = (mesh.handshakes(), Duration::from_secs(4));
    tokio::time::timeout(long, top.in_phase("draining")).await.expect_err("the gate is closed");
    eventually("everybody talks on", || async { mesh.handshakes() > before + 50 }).await?;
    assert!(!top.rotation().await?.gate.unwrap().open);
    assert_eq!(bottom.rotation().await?.phase, "distributing");
    frozen.freeze(false);
    top.until("over", |rotation| rotation.phase == "steady").await?;
    let new = top.root();
    assert_ne!(old, new);
    for ca in [&middle, &bottom] {
        ca.settled(new).await?;
    }
    mesh.lives_under(new).await?;
    mesh.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_middle_ca_that_restarts_in_a_rotation_takes_it_up_again() -> anyhow::Result<()> {
    let top = TierCa::top().await?;
    let mut middle = TierCa::below(&top, "middle").await?;
    let bottom = TierCa::below(&middle, "bottom").await?;
    let old = top.root();
    let mesh = Mesh::over(&[&top, &middle, &bottom]).await?;
    top.rotate("one", "auto").await?;
    middle.in_phase("distributing").await?;
    middle.down().await?;
    // Without its reports nothing below is proven: the gate above stays closed, and says why.
    middle.up().await?;
    top.until("over", |rotation| rotation.phase == "steady").await?;
    let new = top.root();
    assert_ne!(old, new);
    for ca in [&middle, &bottom] {
        ca.settled(new).await?;
    }
    mesh.lives_under(new).await?;
    mesh.stop().await
}
