//! Whoever was away while roots came and went.

use integration_tests::mesh::{LiveMesh, TestAgent, eventually};
use trust::Clock as _;

fn present_root(mesh: &LiveMesh) -> trust::RootId {
    mesh.ca.running().bundle().roots()[0].id()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_slept_through_two_rotations_is_a_member_again_without_an_operator()
-> anyhow::Result<()> {
    let mut mesh = LiveMesh::start(3, 0, &()).await?;
    let old = present_root(&mesh);
    mesh.agents[2].stop().await;
    mesh.rotate("one").await?;
    mesh.rotate("two").await?;
    let new = present_root(&mesh);
    assert_ne!(old, new);
    mesh.agents[2].start().await?;
    mesh.agents[2]
        .until("it is back", |status| {
            status.member.is_some() && status.connected && status.roots == [new]
        })
        .await?;
    let proxy = &mesh.proxies[2];
    eventually("its proxy has a leaf of the new root and trusts nothing else", || async {
        let holding = proxy.holding();
        holding.is_live(host::SystemClock.now())
            && holding.root() == Some(new)
            && holding.trusted() == [new]
    })
    .await?;
    let talk = mesh.stop().await?;
    assert!(talk.failed.is_empty(), "{:#?}", talk.failed.first());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_token_that_pins_a_former_bundle_still_lets_its_agent_in() -> anyhow::Result<()> {
    let mesh = LiveMesh::with_leaves_of(3_600, 2, 0, &()).await?;
    let token = mesh.ca.token("late", &["spiffe://example.org/late"]).await?;
    mesh.rotate("one").await?;
    let late = TestAgent::of(mesh.ca.gate().address())?
        .with_token(&token)?
        .with_own_workload("spiffe://example.org/late")
        .joined()
        .await?;
    assert_eq!(late.status()?.roots, [present_root(&mesh)]);
    assert!(mesh.stop().await?.failed.is_empty());
    Ok(())
}
