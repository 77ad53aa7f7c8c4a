//! An Envoy whose roots lie in a file that nobody changes, although somebody said so: with the second net it goes on accepting who has a
//! leaf of the new root, without it every handshake with it fails.

use std::time::Duration;

use integration_tests::mesh::{Envoy, MeshCa, Route, SOON, eventually};
use proto::banyan::admin::v1::{
    AddRelyingPartyRequest, ConfirmRelyingPartyRequest, Rotation, Verb,
};
use trust::SpiffeId;

use super::{CLIENT, agent};

/// The identity with roots of its own.
const OWN: &str = "spiffe://example.org/ns/shop/sa/own";
/// Leaves that are renewed while a test waits, clocks 2 s apart.
const SHORT: &str = "[leaf]\nttl_default = \"30s\"\nttl_max = \"30s\"\nttl_min = \"8s\"\nbackdate = \"2s\"\nskew = \"2s\"\n\
                     [rotation]\nsettle = \"3s\"\nwithdrawal_max = \"5s\"\n";
/// Requests that are sent once the client has its new leaf; each has a connection of its own.
const REQUESTS: usize = 50;

/// How many requests were answered of those that were sent with a leaf of the new root, and how many handshakes failed.
async fn answered(cross_sign: bool) -> anyhow::Result<(usize, u64)> {
    let ca = MeshCa::start("", &format!("{SHORT}cross_sign = {cross_sign}\n")).await?;
    let (own_agent, client_agent) =
        (agent(&ca, "own", OWN).await?, agent(&ca, "client", CLIENT).await?);
    let roots: String =
        ca.running().bundle().roots().iter().map(|root| root.certificate().pem()).collect();
    let own = Envoy::with_own_roots("own", &own_agent.path(""), own_agent.socket(), &roots).await?;
    let route = Route { peer: own.inbound(), identities: vec![SpiffeId::parse(OWN)?] };
    let client =
        Envoy::start("client", &client_agent.path(""), client_agent.socket(), &[route]).await?;
    client.until_answered(0).await?;
    ca.rotate("one").await?;
    let waits = |rotation: &Rotation| {
        rotation.gate.as_ref().is_some_and(|gate| {
            gate.holders_total == 1 && gate.holders.iter().all(|holder| holder.own_trust)
        })
    };
    ca.until_rotation("it alone is waited for", SOON, waits).await?;
    // The word that the gate rests on is false: the file stays as it was.
    let (name, covers) = ("own-roots".to_owned(), vec![OWN.to_owned()]);
    let mut operators = ca.rotations();
    operators
        .add_relying_party(AddRelyingPartyRequest {
            name: name.clone(),
            covers,
            ..Default::default()
        })
        .await?;
    operators
        .confirm_relying_party(ConfirmRelyingPartyRequest { name, ..Default::default() })
        .await?;
    let drains = |rotation: &Rotation| rotation.phase == "draining";
    ca.until_rotation("the old root drains", Duration::from_secs(120), drains).await?;
    ca.decide("hold", Verb::Hold).await?;
    let loaded = async || client.count("sds.default.update_success").await;
    let before = loaded().await?;
    eventually("the client has its new leaf", async || {
        loaded().await.is_ok_and(|now| now > before)
    })
    .await?;
    anyhow::ensure!(ca.rotation().await?.phase == "draining");
    own.reset_counters().await?;
    let mut answered = 0;
    for _ in 0..REQUESTS {
        answered += usize::from(client.get(0).await.is_ok_and(|(status, _)| status == 200));
    }
    let failures = own.tls_failures().await?;
    if cross_sign {
        // The other end of the way: who has the new root alone is not led astray by what comes behind the issuer.
        let all = ca.running().bundle();
        let new: String = all
            .roots()
            .iter()
            .map(|root| root.certificate().pem())
            .filter(|pem| !roots.contains(pem.as_str()))
            .collect();
        own.change_own_roots(&own_agent.path(""), &new).await?;
        for _ in 0..REQUESTS {
            let (status, body) = client.get(0).await?;
            anyhow::ensure!(status == 200, "with the new root alone: {status} {body}");
        }
    }
    ca.stop().await?;
    Ok((answered, failures))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_with_the_old_root_alone_accepts_new_leaves_with_the_second_net()
-> anyhow::Result<()> {
    assert_eq!(answered(true).await?, (REQUESTS, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_second_net_the_same_envoy_refuses_them() -> anyhow::Result<()> {
    let (answered, failures) = answered(false).await?;
    assert!(answered == 0 && failures > 0, "{answered} answered, {failures} failed");
    Ok(())
}
