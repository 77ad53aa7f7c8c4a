//! An issuer is distrusted at a real CA: another one takes its place under the same root, and what it signed is renewed.

use std::time::Duration;

use integration_tests::mesh::{
    MeshCa, Subscriber, admin_channel, certificates, eventually, serial,
};
use proto::banyan::admin::v1::authority_service_client::AuthorityServiceClient;
use proto::banyan::admin::v1::{DistrustIssuerRequest, DistrustIssuerResponse};
use trust::CertificateId;

use super::mesh;

async fn distrust(
    ca: &MeshCa,
    issuer: &[u8],
    more: DistrustIssuerRequest,
) -> Result<DistrustIssuerResponse, tonic::Status> {
    let request = DistrustIssuerRequest {
        request_id: "one".to_owned(),
        issuer: issuer.to_vec(),
        by: "ann".to_owned(),
        reason: "its token was lent out".to_owned(),
        ..more
    };
    let mut client = AuthorityServiceClient::new(admin_channel(&ca.running().admin_socket));
    client.distrust_issuer(request).await.map(tonic::Response::into_inner)
}

/// The issuer that signs.
async fn signing(ca: &MeshCa) -> anyhow::Result<Vec<u8>> {
    let roots = ca.roots().await?;
    let issuers = roots.iter().flat_map(|root| &root.issuers);
    let active = issuers.filter(|issuer| issuer.active).map(|issuer| issuer.id.clone()).next();
    active.ok_or_else(|| anyhow::anyhow!("no issuer signs: {roots:?}"))
}

async fn says(ca: &MeshCa, words: &str) -> bool {
    let status = ca.status().await.unwrap_or_default();
    status.conditions.iter().chain(&status.waiting).any(|line| line.contains(words))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_distrusted_issuer_is_replaced_under_its_root_and_the_end_of_its_last_leaf_is_told()
-> anyhow::Result<()> {
    let (ca, agent) = mesh().await?;
    let mut roots = Subscriber::open(&agent.socket(), "ROOTCA").await?;
    let mut leaf = Subscriber::open(&agent.socket(), "default").await?;
    roots.applied().await?;
    let first = serial(&leaf.applied().await?)?;
    let issuer = signing(&ca).await?;
    let (sequence, root) = (ca.status().await?.sequence, ca.status().await?.active_root);

    let unknown = distrust(&ca, &[7; 32], DistrustIssuerRequest::default()).await.unwrap_err();
    assert!(unknown.message().contains("`banyan root show ROOT`"), "{unknown:?}");
    let again = DistrustIssuerRequest { trust_again: true, ..Default::default() };
    let early = distrust(&ca, &issuer, again.clone()).await.unwrap_err();
    assert!(early.message().contains("there is no ban of issuer"), "{early:?}");
    let dry = DistrustIssuerRequest { dry_run: true, ..Default::default() };
    let preview = distrust(&ca, &issuer, dry).await?;
    let exposure = preview.exposure.unwrap_or_default();
    assert_eq!((exposure.workloads, exposure.reachable), (1, 1));
    assert!(preview.said.iter().any(|line| line.contains("peers do not ask this CA")));
    assert!(!says(&ca, "is distrusted by").await && signing(&ca).await? == issuer);

    distrust(&ca, &issuer, DistrustIssuerRequest::default()).await?;
    eventually("another one signs", async || signing(&ca).await.is_ok_and(|signs| signs != issuer))
        .await?;
    assert!(says(&ca, "is distrusted by ann").await);
    let next = leaf.next().await??;
    assert_ne!(serial(&next)?, first);
    let above = certificates(&next)?.get(1).map(|der| CertificateId::of(der));
    assert_ne!(above.map(|id| id.as_bytes().to_vec()), Some(issuer.clone()));
    leaf.ack(&next).await?;
    let told = eventually("the end of the last one is told", async || {
        says(&ca, "and none of its leaves is left here").await
    });
    tokio::time::timeout(Duration::from_secs(120), told).await??;
    let status = ca.status().await?;
    assert!(status.healthy, "{:?}", status.conditions);
    assert_eq!((status.sequence, status.active_root), (sequence, root), "no bundle changed");

    distrust(&ca, &issuer, again).await?;
    assert!(!says(&ca, "is distrusted by").await);
    ca.stop().await
}
