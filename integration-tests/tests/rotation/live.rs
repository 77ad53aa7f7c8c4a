//! Rotations that nobody notices.

use std::collections::BTreeSet;

use integration_tests::mesh::{LiveMesh, Talk, eventually};
use trust::{Clock as _, RootId};

fn assert_nothing_failed(talk: &Talk) {
    assert!(talk.handshakes > 100, "only {} handshakes", talk.handshakes);
    assert!(
        talk.failed.is_empty(),
        "{} of {} failed: {:#?}",
        talk.failed.len(),
        talk.handshakes,
        talk.failed.first()
    );
}

fn trusted(mesh: &LiveMesh) -> Vec<BTreeSet<RootId>> {
    mesh.proxies.iter().map(|proxy| proxy.holding().trusted().into_iter().collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_is_replaced_while_everybody_talks() -> anyhow::Result<()> {
    let mesh = LiveMesh::start(3, 0, &()).await?;
    let old = mesh.ca.running().bundle().roots()[0].id();
    mesh.rotate("one").await?;
    let new = mesh.ca.running().bundle().roots()[0].id();
    assert_ne!(old, new);
    assert!(trusted(&mesh).iter().all(|roots| roots.contains(&new)));
    mesh.lives_under(new).await?;
    eventually("nobody trusts the old root", || async {
        trusted(&mesh).iter().all(|roots| !roots.contains(&old))
    })
    .await?;
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_only_send_csrs_are_waited_for() -> anyhow::Result<()> {
    let mesh = LiveMesh::start(2, 2, &()).await?;
    let old = mesh.ca.running().bundle().roots()[0].id();
    mesh.rotate("one").await?;
    for client in &mesh.clients {
        eventually(&format!("{} is not left behind", client.name()), || async {
            let holding = client.holding();
            holding.is_live(host::SystemClock.now()) && holding.root() != Some(old)
        })
        .await?;
    }
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_of_an_hour_are_renewed_early_and_nobody_waits_an_hour() -> anyhow::Result<()> {
    let mesh = LiveMesh::with_leaves_of(3_600, 3, 0, &()).await?;
    mesh.rotate("one").await?;
    let new = mesh.ca.running().bundle().roots()[0].id();
    mesh.lives_under(new).await?;
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}
