//! Meshes of several clusters: the file of roots holds the root of another cluster, too, and everybody trusts it as long as it
//! does.

use integration_tests::mesh::{Cacerts, Holding, LiveMesh, MeshPlan, Pki, eventually, shake};
use proto::banyan::admin::v1::StartRotationRequest;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use trust::{Root, RootId};

use crate::links::{LIFE, link};

const ROOTS: &str = "root-cert.pem";

/// A workload of the other cluster, which trusts the roots of both.
fn peer(other: &Pki, mesh: &LiveMesh) -> anyhow::Result<Holding> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&key)?;
    let roots = mesh.ca.running().bundle().roots().iter().map(|root| root.der().to_vec()).collect();
    let chain = other.leaf(csr.der(), "spiffe://example.org/ns/far/sa/peer")?;
    Ok(Holding { chain, key: key.serialize_der(), roots })
}

fn ids(mesh: &LiveMesh) -> Vec<RootId> {
    mesh.ca.running().bundle().roots().iter().map(Root::id).collect()
}

/// Whether every proxy trusts exactly these roots.
async fn everybody_trusts(mesh: &LiveMesh, mut wanted: Vec<RootId>) -> anyhow::Result<()> {
    wanted.sort();
    eventually("everybody trusts these roots", || async {
        mesh.proxies.iter().all(|proxy| {
            let mut trusted = proxy.holding().trusted();
            trusted.sort();
            trusted == wanted
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_another_cluster_is_trusted_while_the_file_has_its_root_and_no_member_loses_a_handshake()
-> anyhow::Result<()> {
    let (cacerts, other) = (Cacerts::make().await?, Pki::new("Root of the other cluster")?);
    let own = cacerts.read(ROOTS)?;
    let write = |text: &str| std::fs::write(cacerts.directory().join(ROOTS), text);
    let further = trust::certificate::pem_block(other.root().der());
    write(&format!("{own}{further}"))?;
    let declared = "foreign_leaf_max = \"1h\"\nfurther_roots = \"trust\"";
    let sections = format!("[root]\nauthority = \"istio\"\n{}", cacerts.section("istio", declared));
    let mesh = LiveMesh::of(
        &MeshPlan { life: 3_600, agents: 2, clients: 1, sections, ..MeshPlan::default() },
        &(),
    )
    .await?;
    let (signing, far) = (Root::parse(&pem::parse(&own)?.into_contents())?.id(), other.root().id());
    everybody_trusts(&mesh, vec![signing, far]).await?;

    let (peer, member) = (peer(&other, &mesh)?, mesh.proxies[0].holding());
    shake(("peer", &peer), ("member", &member)).map_err(|failed| anyhow::anyhow!("{failed:?}"))?;
    shake(("member", &member), ("peer", &peer)).map_err(|failed| anyhow::anyhow!("{failed:?}"))?;

    let roots = mesh.ca.roots().await?;
    let listed = roots.iter().find(|root| root.id == far.as_bytes());
    let listed =
        listed.map(|root| (root.state.as_str(), root.further_by.as_slice(), root.issuers.len()));
    assert_eq!(listed, Some(("published", ["istio".to_owned()].as_slice(), 0)));
    let status = mesh.ca.status().await?;
    assert!(status.healthy, "{:#?}", status.conditions);
    let request =
        StartRotationRequest { request_id: "look".to_owned(), dry_run: true, ..Default::default() };
    let said = mesh.ca.rotations().start_rotation(request).await?.into_inner().forecast;
    assert!(said.iter().any(|text| text.contains("further roots stay trusted")), "{said:#?}");

    // The PKI team takes the other cluster's root out.
    write(&own)?;
    eventually("the bundle loses it", || async { ids(&mesh) == [signing] }).await?;
    everybody_trusts(&mesh, vec![signing]).await?;
    assert!(
        shake(("peer", &peer), ("member", &mesh.proxies[0].holding())).is_err(),
        "it is trusted no more"
    );

    // And puts it back.
    write(&format!("{further}{own}"))?;
    everybody_trusts(&mesh, vec![signing, far]).await?;
    let sequence = mesh.ca.running().bundle().sequence().0;
    assert_eq!(sequence, 4, "bootstrapped, added, removed, added: each a bundle of its own");
    let talk = mesh.stop().await?;
    assert!(
        talk.handshakes > 20 && talk.failed.is_empty(),
        "{} handshakes, {:#?}",
        talk.handshakes,
        talk.failed.first()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_rotates_to_a_further_root_under_the_bundle_that_everybody_has_and_no_handshake_fails()
-> anyhow::Result<()> {
    let (near, far) = (Cacerts::make().await?, Cacerts::make().await?);
    let both = [near.read(ROOTS)?, far.read(ROOTS)?];
    std::fs::write(near.directory().join(ROOTS), both.concat())?;
    let sections = [
        "[root]\nauthority = \"near\"\n".to_owned(),
        near.section("near", "exclusive = true\nfurther_roots = \"trust\""),
        far.section("far", "exclusive = true"),
    ];
    let plan =
        MeshPlan { life: LIFE, agents: 2, sections: sections.concat(), ..MeshPlan::default() };
    let mesh = LiveMesh::of(&plan, &()).await?;
    let id = |text: &str| pem::parse(text).map(|block| RootId::of(block.contents()));
    let (near, far) = (id(&both[0])?, id(&both[1])?);
    everybody_trusts(&mesh, vec![near, far]).await?;
    let sequence = || mesh.ca.running().bundle().sequence().0;
    let before = sequence();
    assert_eq!(link(&mesh, "far").await?, far);
    assert_eq!(sequence(), before + 1, "nothing came, and the former root went");
    let talk = mesh.stop().await?;
    assert!(talk.handshakes > 20, "only {} handshakes", talk.handshakes);
    assert!(talk.failed.is_empty(), "{:#?}", talk.failed.first());
    Ok(())
}
