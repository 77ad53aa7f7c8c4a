//! Onto the root of a SPIRE server, by the identity that an agent of it gives to this process, and away from it.
//!
//! `cargo xtask peers spire-server spire-agent`, then
//! `cargo test -p integration-tests --features real-spire --test external`.

use anyhow::Context as _;
use integration_tests::mesh::{LiveMesh, MeshPlan, SOON};
use proto::banyan::admin::v1::{AttestRootRequest, Rotation};
use trust::{Root, RootId};

#[path = "../../../plugins/spire/tests/real/peer.rs"]
#[expect(dead_code, reason = "the plugin's own tests use the rest")]
mod peer;

use peer::{Agent, Server};

const ID: &str = "spiffe://example.org/banyan";
/// Life of leaves, in seconds: short, since those under a root that others share are waited for to their end.
const LIFE: u64 = 12;

fn signing(mesh: &LiveMesh) -> anyhow::Result<Root> {
    mesh.ca.running().bundle().roots().first().cloned().context("an empty bundle")
}

fn assert_every_leaf_is_of(mesh: &LiveMesh, root: RootId) {
    let held: Vec<_> = mesh.proxies.iter().map(|proxy| proxy.holding().root()).collect();
    assert!(held.iter().all(|found| *found == Some(root)), "{held:?}");
}

/// A root of SPIRE's that is in the bundle which the server shows to operators.
fn is_spire_s(server: &Server, root: &Root) -> anyhow::Result<bool> {
    let shown = pem::parse_many(server.verb(&["bundle", "show"]))?;
    Ok(shown.iter().any(|block| block.contents() == root.der()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_of_a_spire_server_replaces_ours_and_is_replaced_under_traffic()
-> anyhow::Result<()> {
    let mut server = Server::start("17520h");
    server.register(ID, true);
    let agent = Agent::start(&server);
    let sections = format!(
        "[authority.main]\nplugin = \"self-signed\"\n[authority.spire]\nplugin = \"spire\"\n\
         server = \"127.0.0.1:{}\"\nworkload_api = \"unix:{}\"\nlook_secs = 1\nforeign_leaf_max = \"5s\"\n",
        server.port,
        agent.socket().display()
    );
    let mesh =
        LiveMesh::of(&MeshPlan { life: LIFE, agents: 3, sections, ..MeshPlan::default() }, &())
            .await?;
    let first = signing(&mesh)?.id();

    mesh.ca.rotate_to("onto", "spire").await?;
    mesh.over("onto").await?;
    let root = signing(&mesh)?;
    assert!(is_spire_s(&server, &root)?, "{}", root.certificate().subject_text());
    assert_every_leaf_is_of(&mesh, root.id());

    // Neither leaves nor the way back need the server. What it signed itself is not known here: somebody says so.
    server.stop();
    mesh.ca.rotate_to("away", "main").await?;
    let drains = |rotation: &Rotation| rotation.phase == "draining";
    mesh.ca.until_rotation("our root signs, and SPIRE's drains", SOON, drains).await?;
    let (by, id) = ("ann".to_owned(), root.id().as_bytes().to_vec());
    let word = AttestRootRequest { root: id, quiet_seconds: 0, by, ..Default::default() };
    mesh.ca.rotations().attest_root(word).await?;
    mesh.over("away").await?;
    let last = signing(&mesh)?;
    server.resume();
    assert!(last.id() != first && !is_spire_s(&server, &last)?, "a root that is new, and ours");
    assert_every_leaf_is_of(&mesh, last.id());

    let talk = mesh.stop().await?;
    assert!(talk.handshakes > 50, "only {} handshakes", talk.handshakes);
    assert!(talk.failed.is_empty(), "{} failed: {:#?}", talk.failed.len(), talk.failed.first());
    Ok(())
}
