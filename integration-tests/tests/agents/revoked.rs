//! A leaf is revoked at a real CA: what its agent and its holder do, and what the CA goes on counting.

use integration_tests::mesh::{
    MeshCa, Subscriber, TestAgent, admin_channel, certificates, eventually, serial,
};
use proto::banyan::admin::v1::ban_service_client::BanServiceClient;
use proto::banyan::admin::v1::ban_subject::Subject;
use proto::banyan::admin::v1::leaf_service_client::LeafServiceClient;
use proto::banyan::admin::v1::{
    AddBanRequest, BanSubject, RemoveBanRequest, RevokeLeavesRequest, RevokeLeavesResponse,
};
use tonic_types::StatusExt as _;
use trust::{Certificate, Serial};

use super::{WEB, mesh};

async fn revoke(ca: &MeshCa, serial: Serial) -> Result<RevokeLeavesResponse, tonic::Status> {
    let request = RevokeLeavesRequest {
        serials: vec![serial.as_bytes().to_vec()],
        by: "ann".to_owned(),
        reason: "it was copied".to_owned(),
        dry_run: false,
    };
    let mut client = LeafServiceClient::new(admin_channel(&ca.running().admin_socket));
    client.revoke_leaves(request).await.map(tonic::Response::into_inner)
}

fn web() -> Option<BanSubject> {
    Some(BanSubject { subject: Some(Subject::Identity(WEB.to_owned())) })
}

async fn ban(ca: &MeshCa) -> anyhow::Result<()> {
    let reason = "it was taken over".to_owned();
    let request = AddBanRequest { subject: web(), reason, ..AddBanRequest::default() };
    BanServiceClient::new(admin_channel(&ca.running().admin_socket)).add_ban(request).await?;
    Ok(())
}

async fn has_ended(ca: &MeshCa, serial: Serial) -> anyhow::Result<()> {
    eventually("its row has ended", async || {
        ca.rows().is_ok_and(|rows| rows.ended.contains(&serial))
    })
    .await
}

/// A holder that has its leaf.
async fn holder(agent: &TestAgent) -> anyhow::Result<(Subscriber, Subscriber, Serial)> {
    let mut roots = Subscriber::open(&agent.socket(), "ROOTCA").await?;
    let mut leaf = Subscriber::open(&agent.socket(), "default").await?;
    roots.applied().await?;
    let serial = serial(&leaf.applied().await?)?;
    Ok((roots, leaf, serial))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_leaf_is_replaced_at_its_holder_and_its_row_ends_when_the_holder_says_so()
-> anyhow::Result<()> {
    let (ca, agent) = mesh().await?;
    let (_roots, mut leaf, first) = holder(&agent).await?;
    let told = revoke(&ca, first).await?.leaves;
    assert!(told[0].said.contains("takes it from its holders at once"), "{told:?}");
    assert!(told[0].said.contains("is believed until"), "{told:?}");
    let answer = leaf.next().await??;
    let second = serial(&answer)?;
    assert_ne!(second, first);
    assert!(!ca.rows()?.ended.contains(&first), "being revoked is not being gone");
    leaf.ack(&answer).await?;
    has_ended(&ca, first).await?;
    let again = revoke(&ca, first).await.unwrap_err();
    let reason = again.get_details_error_info().map(|info| info.reason);
    assert_eq!(reason.as_deref(), Some("LEAF_UNKNOWN"), "nobody has it any more");
    assert!(leaf.is_quiet().await);
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_banned_loses_a_revoked_leaf_for_nothing_and_gets_one_again_after_the_ban()
-> anyhow::Result<()> {
    let (ca, agent) = mesh().await?;
    let (_roots, mut leaf, first) = holder(&agent).await?;
    ban(&ca).await?;
    let told = revoke(&ca, first).await?.leaves;
    assert!(told[0].said.contains("a certificate that nobody believes"), "{told:?}");
    let answer = leaf.next().await??;
    let certificate = Certificate::parse(&certificates(&answer)?[0])?;
    assert!(certificate.spiffe_id().is_err(), "it names nobody");
    assert!(!ca.rows()?.ended.contains(&first));
    leaf.ack(&answer).await?;
    has_ended(&ca, first).await?;
    let told = agent.until("it says why", |status| {
        status.workloads[0]
            .last_error
            .as_ref()
            .is_some_and(|error| error.contains("banned identity"))
    });
    told.await?;
    let reason = "clean again".to_owned();
    let lift = RemoveBanRequest { subject: web(), reason, ..RemoveBanRequest::default() };
    BanServiceClient::new(admin_channel(&ca.running().admin_socket)).remove_ban(lift).await?;
    let next = leaf.next().await??;
    assert_ne!(serial(&next)?, first);
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_away_hears_of_it_when_it_is_back() -> anyhow::Result<()> {
    let (ca, mut agent) = mesh().await?;
    let (_roots, leaf, first) = holder(&agent).await?;
    agent.crash();
    eventually("the CA sees that it is away", || async {
        ca.status().await.is_ok_and(|status| status.agents_connected == 0)
    })
    .await?;
    let told = revoke(&ca, first).await?.leaves;
    assert!(told[0].said.contains("told when it is back"), "{told:?}");
    let again = revoke(&ca, first).await?.leaves;
    assert!(
        again[0].said.contains("revoked before") && !again[0].former_by.is_empty(),
        "{again:?}"
    );
    assert!(!ca.rows()?.ended.contains(&first), "its holder has it");
    drop(leaf);
    agent.start().await?;
    // The holder comes back with what it had.
    let (_roots, _leaf, second) = holder(&agent).await?;
    assert_ne!(second, first);
    has_ended(&ca, first).await?;
    ca.stop().await
}
