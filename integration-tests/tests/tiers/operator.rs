//! What operators do at the top is followed below, and refused there.

use proto::banyan::admin::v1::{Rotation, Verb};
use tonic::Code;
use trust::RootId;

use crate::tier_ca::{Mesh, TierCa};

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_at_the_top_is_followed_and_the_verbs_belong_to_the_top() -> anyhow::Result<()> {
    let top = TierCa::top().await?;
    let below = TierCa::below(&top, "below").await?;
    let old = top.root();
    let mesh = Mesh::over(&[&top, &below]).await?;
    let early = below.rotate("early", "auto").await.expect_err("no new root above");
    assert!(early.message().contains("start the rotation there"), "{early:?}");
    top.rotate("one", "manual").await?;
    top.until("everybody trusts the new root", |rotation| {
        rotation.gate.as_ref().is_some_and(|gate| gate.open)
    })
    .await?;
    below.in_phase("distributing").await?;
    for (id, verb) in [("go", Verb::Activate), ("stop", Verb::Abort), ("back", Verb::Rollback)] {
        let refused = below.decide(id, verb).await.expect_err("it follows the upstream CA");
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("follows the upstream CA"), "{refused:?}");
    }
    top.decide("stop", Verb::Abort).await?;
    for ca in [&top, &below] {
        ca.settled(old).await?;
    }
    mesh.lives_under(old).await?;
    mesh.stop().await
}

/// A top and a downstream CA, both draining the old root, with the top held.
async fn both_draining() -> anyhow::Result<(TierCa, TierCa, Mesh)> {
    let top = TierCa::top().await?;
    let below = TierCa::below(&top, "below").await?;
    let mesh = Mesh::over(&[&top, &below]).await?;
    top.rotate("one", "manual").await?;
    activate_when_open(&top, "go").await?;
    // Held, the old root stays in the bundle above, and so it does below.
    top.decide("hold", Verb::Hold).await?;
    below.in_phase("draining").await?;
    Ok((top, below, mesh))
}

async fn activate_when_open(top: &TierCa, request_id: &str) -> anyhow::Result<()> {
    let open = |rotation: &Rotation| {
        rotation.phase == "distributing" && rotation.gate.as_ref().is_some_and(|gate| gate.open)
    };
    top.until("everybody trusts the new root", open).await?;
    Ok(top.decide(request_id, Verb::Activate).await?)
}

fn rolled_back(rotation: &Rotation) -> bool {
    rotation.phase == "draining" && rotation.rolled_back
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_at_the_top_is_followed() -> anyhow::Result<()> {
    let (top, below, mesh) = both_draining().await?;
    let old = RootId::from_bytes(&top.rotation().await?.from_root).unwrap();
    top.decide("back", Verb::Rollback).await?;
    below.until("rolled back", rolled_back).await?;
    top.decide("resume", Verb::Resume).await?;
    for ca in [&top, &below] {
        ca.settled(old).await?;
    }
    mesh.lives_under(old).await?;
    mesh.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_forward_after_a_rollback_is_followed() -> anyhow::Result<()> {
    let (top, below, mesh) = both_draining().await?;
    let new = RootId::from_bytes(&top.rotation().await?.to_root).unwrap();
    top.decide("back", Verb::Rollback).await?;
    below.until("rolled back", rolled_back).await?;
    top.decide("resume", Verb::Resume).await?;
    // The leaf gate takes a second at least, so the new root is still there.
    top.decide("forward", Verb::Activate).await?;
    activate_when_open(&top, "go-2").await?;
    for ca in [&top, &below] {
        ca.settled(new).await?;
    }
    mesh.lives_under(new).await?;
    mesh.stop().await
}
