//! Onto the root of a step-ca, and away from it.

use anyhow::Context as _;
use integration_tests::mesh::{LiveMesh, MeshPlan, SOON};
use proto::banyan::admin::v1::{Rotation, StartRotationRequest};
use trust::{Certificate, Root, RootId};

#[path = "../../../plugins/step-ca/tests/step_ca/server.rs"]
mod server;

use server::{Pki, Setup, StepCaProcess};

/// Leaves that outlive the test: nobody waits for their end.
const LONG: u64 = 3_600;

fn signing(mesh: &LiveMesh) -> anyhow::Result<Root> {
    mesh.ca.running().bundle().roots().first().cloned().context("an empty bundle")
}

/// A mesh on a root of its own, which knows the step-ca too. Nobody else is certified there.
async fn mesh_beside(step: &StepCaProcess) -> anyhow::Result<LiveMesh> {
    let sections = format!(
        "[authority.main]\nplugin = \"self-signed\"\n[authority.step]\nplugin = \"step-ca\"\nexclusive = true\n{}",
        step.section()
    );
    LiveMesh::of(&MeshPlan { life: LONG, agents: 3, sections, ..MeshPlan::default() }, &()).await
}

async fn start(mesh: &LiveMesh, authority: &str, request_id: &str) -> anyhow::Result<()> {
    let (request_id, authority) = (request_id.to_owned(), authority.to_owned());
    let request = StartRotationRequest { request_id, authority, ..StartRotationRequest::default() };
    mesh.ca.rotations().start_rotation(request).await?;
    Ok(())
}

fn assert_every_leaf_is_of(mesh: &LiveMesh, root: RootId) {
    let held: Vec<_> = mesh.proxies.iter().map(|proxy| proxy.holding().root()).collect();
    assert!(held.iter().all(|found| *found == Some(root)), "{held:?}");
}

async fn assert_nobody_noticed(mesh: LiveMesh) -> anyhow::Result<()> {
    let talk = mesh.stop().await?;
    assert!(talk.handshakes > 50, "only {} handshakes", talk.handshakes);
    assert!(talk.failed.is_empty(), "{} failed: {:#?}", talk.failed.len(), talk.failed.first());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_of_a_step_ca_replaces_ours_and_is_replaced_under_traffic() -> anyhow::Result<()> {
    let pki = Pki::new("corporate", 1)?;
    let (root, intermediate) = (RootId::of(pki.root.der()), pki.intermediate.der().to_vec());
    let mut step = StepCaProcess::start(&Setup::of(pki))?;
    let mesh = mesh_beside(&step).await?;
    let first = signing(&mesh)?.id();

    start(&mesh, "step", "onto").await?;
    mesh.over("onto").await?;
    assert_eq!(signing(&mesh)?.id(), root);
    assert_every_leaf_is_of(&mesh, root);
    for proxy in &mesh.proxies {
        let chain = proxy.holding().chain;
        let [_, issuer, above] = chain.as_slice() else {
            anyhow::bail!("{} certificates", chain.len())
        };
        assert_eq!(above, &intermediate, "what the step-ca signs with goes out with the leaf");
        assert_eq!(Certificate::parse(issuer)?.names().uris, ["spiffe://example.org"]);
    }

    // Neither leaves nor the way back need the step-ca.
    step.stop();
    start(&mesh, "main", "away").await?;
    mesh.over("away").await?;
    let last = signing(&mesh)?.id();
    assert!(last != root && last != first, "a root that is new");
    assert_every_leaf_is_of(&mesh, last);
    assert_nobody_noticed(mesh).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_ca_that_is_away_delays_the_rotation_and_nothing_else() -> anyhow::Result<()> {
    let pki = Pki::new("corporate", 1)?;
    let root = RootId::of(pki.root.der());
    let mut step = StepCaProcess::start(&Setup::of(pki))?;
    let mesh = mesh_beside(&step).await?;
    let first = signing(&mesh)?.id();
    step.stop();
    start(&mesh, "step", "onto").await?;
    let waits = |rotation: &Rotation| rotation.troubles.iter().any(|text| text.contains("is down"));
    mesh.ca.until_rotation("the rotation says what it waits for", SOON, waits).await?;
    assert_eq!(signing(&mesh)?.id(), first);
    assert_every_leaf_is_of(&mesh, first);

    step.run()?;
    mesh.over("onto").await?;
    assert_eq!(signing(&mesh)?.id(), root);
    assert_every_leaf_is_of(&mesh, root);
    assert_nobody_noticed(mesh).await
}
