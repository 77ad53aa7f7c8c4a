//! Rotations onto a plugin of another language and away from it, while everybody talks.

use integration_tests::mesh::{LiveMesh, MeshPlan};
use proto::banyan::admin::v1::StartRotationRequest;
use trust::{Root, RootId};

use crate::process::{Language, PluginProcess};

/// Leaves that outlive the test: nobody waits for their end.
const LONG: u64 = 3_600;

fn signing(mesh: &LiveMesh) -> Root {
    mesh.ca.running().bundle().roots()[0].clone()
}

async fn rotate_to(mesh: &LiveMesh, authority: &str, request_id: &str) -> anyhow::Result<Root> {
    let before = signing(mesh).id();
    let (request_id, authority) = (request_id.to_owned(), authority.to_owned());
    let request = StartRotationRequest {
        request_id: request_id.clone(),
        authority,
        ..StartRotationRequest::default()
    };
    mesh.ca.rotations().start_rotation(request).await?;
    mesh.over(&request_id).await?;
    let after = signing(mesh);
    assert_ne!(after.id(), before);
    let held: Vec<Option<RootId>> =
        mesh.proxies.iter().map(|proxy| proxy.holding().root()).collect();
    assert!(
        held.iter().all(|root| *root == Some(after.id())),
        "every leaf is of the new root: {held:?}"
    );
    Ok(after)
}

async fn there_and_back(language: Language, subject: &str) -> anyhow::Result<()> {
    let plugin = PluginProcess::start(language).await?;
    let sections =
        format!("[authority.main]\nplugin = \"self-signed\"\n{}", plugin.section("other"));
    let mesh =
        LiveMesh::of(&MeshPlan { life: LONG, agents: 3, sections, ..MeshPlan::default() }, &())
            .await?;
    let first = signing(&mesh);
    let of_plugin = rotate_to(&mesh, "other", "onto").await?;
    let name = of_plugin.certificate().subject_text();
    assert!(name.contains(subject), "the plugin's own root signs: {name}");
    let last = rotate_to(&mesh, "main", "away").await?;
    assert_ne!(last.id(), first.id(), "a retired root does not come back");
    let talk = mesh.stop().await?;
    assert!(talk.handshakes > 50, "only {} handshakes", talk.handshakes);
    assert!(talk.failed.is_empty(), "{} failed: {:#?}", talk.failed.len(), talk.failed.first());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_of_a_python_plugin_replaces_ours_and_is_replaced_under_traffic()
-> anyhow::Result<()> {
    there_and_back(Language::Python, "Python example root").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_of_a_go_plugin_replaces_ours_and_is_replaced_under_traffic() -> anyhow::Result<()> {
    there_and_back(Language::Go, "Go example root").await
}
