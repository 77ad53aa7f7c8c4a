//! Two CAs of different trust domains, each federated with the other: their Envoys shake hands through rotations of both.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use integration_tests::mesh::{Envoy, MeshCa, TestAgent, eventually};
use proto::banyan::admin::v1::{AddFederationRequest, RemoveFederationRequest};

use super::federation::{OTHER, READ, federations, listed, request};

const OURS: &str = "example.org";
/// How long a rotation may take: the bound of a reader is five hints of five seconds.
const ROTATED_WITHIN: Duration = Duration::from_secs(240);
const QUICK: &str =
    "[leaf]\nskew = \"2s\"\n[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"60s\"\n";

async fn agent(ca: &MeshCa, domain: &str) -> anyhow::Result<TestAgent> {
    let identity = format!("spiffe://{domain}/app");
    let token = ca.token("node", &[&identity]).await?;
    TestAgent::of(ca.gate().address())?
        .in_domain(domain)
        .with_token(&token)?
        .with_own_workload(&identity)
        .joined()
        .await
}

/// Has `ca` believe members of `of`, and waits until it has read the endpoint there.
async fn federate(ca: &MeshCa, of: &MeshCa) -> anyhow::Result<()> {
    federations(ca).add_federation(request(of)?).await?;
    let wanted = of.running().bundle().sequence().0;
    eventually("the endpoint was read", async || {
        let all = listed(ca).await.map(|listed| listed.federations).unwrap_or_default();
        all.first().and_then(|one| one.bundle.clone()).is_some_and(|it| it.sequence == Some(wanted))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn envoys_of_two_trust_domains_shake_hands_through_rotations_of_both() -> anyhow::Result<()> {
    let settings = format!("{READ}{QUICK}");
    let ours = MeshCa::of_domain(OURS, &settings).await?;
    let theirs = MeshCa::of_domain(OTHER, &settings).await?;
    federate(&ours, &theirs).await?;
    federate(&theirs, &ours).await?;
    let (our_agent, their_agent) = (agent(&ours, OURS).await?, agent(&theirs, OTHER).await?);
    let server =
        Envoy::believing("server", &their_agent.path(""), their_agent.socket(), "ALL", &[]).await?;
    let client = Envoy::believing(
        "client",
        &our_agent.path(""),
        our_agent.socket(),
        &format!("spiffe://{OTHER}"),
        &[server.inbound()],
    )
    .await?;
    client.until_answered(0).await?;
    server.reset_counters().await?;

    let stop = AtomicBool::new(false);
    let traffic = client.get_until(&stop);
    let rotations = async {
        for (name, ca) in [("theirs", &theirs), ("ours", &ours)] {
            let before = ca.running().bundle();
            ca.rotate(name).await?;
            let over = ca.until_rotation(name, ROTATED_WITHIN, |it| it.phase == "steady").await;
            over?;
            let after = ca.running().bundle();
            anyhow::ensure!(after.roots().len() == 1, "{after:?}");
            anyhow::ensure!(after.roots() != before.roots(), "{name}: the root is the former one");
        }
        stop.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let (answered, ()) = tokio::try_join!(traffic, rotations)?;
    let failed = client.tls_failures().await? + server.tls_failures().await?;
    println!(
        "{answered} handshakes between two trust domains through two rotations, {failed} failed"
    );
    assert_eq!(failed, 0);
    assert!(answered > 100, "{answered}");

    // A federation that is removed ends the trust, for each kind of secret; one that is added again brings it back.
    let remove = |domain: &str| RemoveFederationRequest {
        trust_domain: domain.to_owned(),
        ..RemoveFederationRequest::default()
    };
    let refuses = async || client.get(0).await.is_ok_and(|(status, _)| status == 503);
    federations(&ours).remove_federation(remove(OTHER)).await?;
    eventually("the client refuses the server", refuses).await?;
    federate(&ours, &theirs).await?;
    client.until_answered(0).await?;
    federations(&theirs).remove_federation(remove(OURS)).await?;
    eventually("the server refuses the client", refuses).await?;
    let again = AddFederationRequest { reads_ours: false, ..request(&ours)? };
    federations(&theirs).add_federation(again).await?;
    client.until_answered(0).await?;
    ours.stop().await?;
    theirs.stop().await
}
