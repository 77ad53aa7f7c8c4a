//! What operators do at the top is followed below, and refused there.

use proto::banyan::admin::v1::Verb;
use tonic::Code;

use crate::site::{Mesh, Site};

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_at_the_top_is_followed_and_the_verbs_belong_to_the_top() -> anyhow::Result<()> {
    let top = Site::top().await?;
    let below = Site::below(&top, "below").await?;
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
        let refused = below.steer(id, verb).await.expect_err("it follows the tier above");
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("follows the tier above"), "{refused:?}");
    }
    top.steer("stop", Verb::Abort).await?;
    for site in [&top, &below] {
        site.settled(old).await?;
    }
    mesh.lives_under(old).await?;
    mesh.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_at_the_top_is_followed_and_so_is_the_way_forward() -> anyhow::Result<()> {
    let top = Site::top().await?;
    let below = Site::below(&top, "below").await?;
    let old = top.root();
    let mesh = Mesh::over(&[&top, &below]).await?;
    top.rotate("one", "auto").await?;
    // Held, the old root stays in the bundle above, and so it does below.
    top.in_phase("draining").await?;
    top.steer("hold", Verb::Hold).await?;
    below.in_phase("draining").await?;
    top.steer("back", Verb::Rollback).await?;
    below.until("rolled back", |rotation| rotation.phase == "draining" && rotation.rolled_back).await?;
    top.steer("resume", Verb::Resume).await?;
    for site in [&top, &below] {
        site.settled(old).await?;
    }
    mesh.lives_under(old).await?;
    mesh.stop().await
}
