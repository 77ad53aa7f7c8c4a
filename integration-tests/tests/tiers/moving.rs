//! A mesh that stands alone moves below an upstream CA, and away from it again.

use std::time::Duration;

use anyhow::Context as _;
use integration_tests::mesh::{LiveMesh, MeshPlan, SOON, eventually, write_private};
use proto::banyan::admin::v1::{AttestRootRequest, Rotation};
use trust::RootId;

use crate::tier_ca::TierCa;

/// Life of leaves, in seconds: short, since those under a root that others share are waited for to their end.
const LIFE: u64 = 12;

fn signing(mesh: &LiveMesh) -> anyhow::Result<RootId> {
    Ok(mesh.ca.running().bundle().roots().first().context("an empty bundle")?.id())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_moves_below_an_upstream_ca_and_away_from_it_while_everybody_talks()
-> anyhow::Result<()> {
    let top = TierCa::top().await?;
    let home = tempfile::tempdir()?;
    let (token, roots) = (home.path().join("token"), home.path().join("upper.pem"));
    write_private(&token, &top.add_downstream("joiner").await?)?;
    std::fs::write(&roots, top.bundle().pem().as_bytes())?;
    let sections = format!(
        "[authority.main]\nplugin = \"self-signed\"\n[authority.upper]\nplugin = \"banyan\"\naddress = \"{}\"\n\
         ca_file = {roots:?}\ntoken_file = {token:?}\nforeign_leaf_max = \"5s\"\n",
        top.address()
    );
    let mesh =
        LiveMesh::of(&MeshPlan { life: LIFE, agents: 3, sections, ..MeshPlan::default() }, &())
            .await?;
    let first = signing(&mesh)?;

    mesh.ca.rotate_to("onto", "upper").await?;
    mesh.over("onto").await?;
    assert_eq!(signing(&mesh)?, top.root());
    mesh.lives_under(top.root()).await?;

    // Below the upstream CA now: its rotations are followed.
    top.rotate("above", "auto").await?;
    let over = |rotation: &Rotation| {
        rotation.phase == "steady" && rotation.done.contains(&"above".to_owned())
    };
    top.until("over", over).await?;
    let above = top.root();
    eventually("the lower CA is on the new root above", || async {
        signing(&mesh).is_ok_and(|now| now == above)
    })
    .await?;
    let steady = |rotation: &Rotation| rotation.phase == "steady";
    mesh.ca.until_rotation("steady below the new root", Duration::from_secs(60), steady).await?;

    mesh.ca.rotate_to("away", "main").await?;
    let drains = |rotation: &Rotation| rotation.phase == "draining";
    mesh.ca
        .until_rotation("our root signs, and that of the upstream CA drains", SOON, drains)
        .await?;
    let word = AttestRootRequest {
        root: above.as_bytes().to_vec(),
        quiet_seconds: 0,
        by: "ann".to_owned(),
        ..Default::default()
    };
    mesh.ca.rotations().attest_root(word).await?;
    mesh.over("away").await?;
    let last = signing(&mesh)?;
    assert!(last != first && last != above, "a root that is new, and ours");
    mesh.lives_under(last).await?;

    let talk = mesh.stop().await?;
    assert!(talk.handshakes > 50, "only {} handshakes", talk.handshakes);
    assert!(talk.failed.is_empty(), "{} failed: {:#?}", talk.failed.len(), talk.failed.first());
    Ok(())
}
