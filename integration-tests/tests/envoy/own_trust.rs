//! An Envoy that takes its certificate from the agent and its roots from a file: nothing tells what it trusts, so somebody
//! must, and nobody loses a connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use integration_tests::mesh::{Envoy, MeshCa, Route, SOON};
use proto::banyan::admin::v1::{
    AddRelyingPartyRequest, ConfirmRelyingPartyRequest, Rotation, Verb,
};
use trust::SpiffeId;

use super::{CLIENT, agent};

/// The identity with roots of its own.
const OWN: &str = "spiffe://example.org/ns/shop/sa/own";
/// Leaves that are renewed while a test waits, clocks 2 s apart.
const SHORT: &str = "[leaf]\nttl_default = \"30s\"\nttl_max = \"30s\"\nttl_min = \"8s\"\nbackdate = \"2s\"\nskew = \"2s\"\n\
                     [rotation]\nsettle = \"1s\"\nwithdrawal_max = \"5s\"\n";

fn roots(ca: &MeshCa) -> String {
    ca.running().bundle().roots().iter().map(|root| root.certificate().pem()).collect()
}

/// The gate waits for the one with roots of its own only, and no time opens it.
fn waits_for_a_word(rotation: &Rotation) -> bool {
    rotation.gate.as_ref().is_some_and(|gate| {
        gate.name == "trust"
            && gate.holders_total == 1
            && gate.opens_at_latest == 0
            && gate.holders.iter().all(|holder| holder.own_trust && holder.identity == OWN)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_with_roots_of_its_own_is_waited_for_until_somebody_answers_for_it()
-> anyhow::Result<()> {
    let ca = MeshCa::start("", SHORT).await?;
    let (own_agent, client_agent) =
        (agent(&ca, "own", OWN).await?, agent(&ca, "client", CLIENT).await?);
    let home = own_agent.path("");
    let own = Envoy::with_own_roots("own", &home, own_agent.socket(), &roots(&ca)).await?;
    let route = Route { peer: own.inbound(), identities: vec![SpiffeId::parse(OWN)?] };
    let client =
        Envoy::start("client", &client_agent.path(""), client_agent.socket(), &[route]).await?;
    client.until_answered(0).await?;
    own.reset_counters().await?;
    let stop = AtomicBool::new(false);
    let traffic = async {
        let mut answered = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            let (status, body) = client.get(0).await?;
            anyhow::ensure!(status == 200, "after {answered} requests: {status} {body}");
            answered += 1;
        }
        anyhow::Ok(answered)
    };
    let rotation = async {
        ca.rotate("one").await?;
        ca.until_rotation(
            "only the one with roots of its own is waited for",
            SOON,
            waits_for_a_word,
        )
        .await?;
        let renewals = own_agent.status()?.workloads[0].renewals;
        own_agent
            .until("its leaf is renewed", |status| status.workloads[0].renewals > renewals)
            .await?;
        let still = ca.until_rotation("and nothing has changed", SOON, waits_for_a_word).await?;
        anyhow::ensure!(still.phase == "distributing", "{still:?}");
        let early = ca.decide("early", Verb::Activate).await.expect_err("the gate is closed");
        for words in [OWN, "no validation secret", "banyan relying-party add NAME --covers"] {
            anyhow::ensure!(
                early.message().contains(words),
                "{words} is missing in: {}",
                early.message()
            );
        }
        let (name, covers) = ("own-roots".to_owned(), vec![OWN.to_owned()]);
        let mut operators = ca.rotations();
        operators
            .add_relying_party(AddRelyingPartyRequest {
                name: name.clone(),
                covers,
                ..Default::default()
            })
            .await?;
        own.change_own_roots(&home, &roots(&ca)).await?;
        operators
            .confirm_relying_party(ConfirmRelyingPartyRequest { name, ..Default::default() })
            .await?;
        let over = |rotation: &Rotation| rotation.phase == "steady";
        ca.until_rotation("the rotation is over", Duration::from_secs(180), over).await?;
        stop.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let (answered, ()) = tokio::try_join!(traffic, rotation)?;
    assert!(answered > 20, "{answered}");
    assert_eq!((client.tls_failures().await?, own.tls_failures().await?), (0, 0));
    ca.stop().await
}
