//! A root that is renewed with the same key and the same name, as a PKI team does when its life is extended: verifiers that look for
//! issuers by name and key find two.

use std::time::Duration;

use integration_tests::mesh::{Cacerts, LiveMesh, MeshPlan, eventually};

/// The authority is looked at every few seconds; then a rotation with leaves that are renewed early.
const ROTATION_MAX: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_renewed_with_its_key_and_name_replaces_the_former_while_everybody_talks()
-> anyhow::Result<()> {
    let cacerts = Cacerts::make().await?;
    let sections =
        format!("[root]\nauthority = \"istio\"\n{}", cacerts.section("istio", "exclusive = true"));
    let plan = MeshPlan { life: 3_600, agents: 3, sections, ..MeshPlan::default() };
    let mesh = LiveMesh::of(&plan, &()).await?;
    let old = mesh.ca.running().bundle().roots()[0].clone();
    let root = cacerts.renew_root().await?;
    mesh.ca
        .until_rotation("the renewed root alone is trusted", ROTATION_MAX, |rotation| {
            let bundle = mesh.ca.running().bundle();
            rotation.phase == "steady"
                && bundle.roots().len() == 1
                && bundle.roots()[0].der() == root
        })
        .await?;
    let new = mesh.ca.running().bundle().roots()[0].clone();
    assert_eq!(
        (new.certificate().spki_hash(), new.certificate().subject_text()),
        (old.certificate().spki_hash(), old.certificate().subject_text())
    );
    eventually("everybody trusts it alone", || async {
        mesh.proxies.iter().all(|proxy| proxy.holding().trusted() == [new.id()])
    })
    .await?;
    let talk = mesh.stop().await?;
    assert!(talk.handshakes > 100, "only {} handshakes", talk.handshakes);
    assert!(talk.failed.is_empty(), "{} failed: {:#?}", talk.failed.len(), talk.failed.first());
    Ok(())
}
