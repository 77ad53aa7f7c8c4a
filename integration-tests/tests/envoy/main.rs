//! Real Envoys below real agents: mutual TLS between them, renewals under traffic, restarts and ends.
#![forbid(unsafe_code)]

mod counters;
mod evidence;
mod federated;
mod federation;
mod frozen;
mod host_certificate;
mod listeners;
mod own_trust;
mod renewed;
mod restart;
mod revocation;
mod second_net;
mod traffic;

use integration_tests::mesh::{Envoy, MeshCa, Route, TestAgent};
use trust::{Serial, SpiffeId};

/// The identity that answers.
const SERVER: &str = "spiffe://example.org/ns/shop/sa/server";
/// The identity that asks.
const CLIENT: &str = "spiffe://example.org/ns/shop/sa/client";

/// A CA and two agents, each with an Envoy. The client's Envoy has one way to the server's, for each set of identities.
struct Pair {
    ca: MeshCa,
    server_agent: TestAgent,
    client_agent: TestAgent,
    server: Envoy,
    client: Envoy,
}

/// A pair that has exchanged one request over route 0.
async fn pair(leaf: &str, accepted: &[&str]) -> anyhow::Result<Pair> {
    let ca = MeshCa::start("", leaf).await?;
    let server_agent = agent(&ca, "server", SERVER).await?;
    let client_agent = agent(&ca, "client", CLIENT).await?;
    let server = Envoy::start("server", &server_agent.path(""), server_agent.socket(), &[]).await?;
    let mut routes = Vec::new();
    for identity in accepted {
        routes.push(Route { peer: server.inbound(), identities: vec![SpiffeId::parse(identity)?] });
    }
    let client =
        Envoy::start("client", &client_agent.path(""), client_agent.socket(), &routes).await?;
    client.until_answered(0).await?;
    // The client may have knocked before both had their certificates; the server has counted that too.
    server.reset_counters().await?;
    Ok(Pair { ca, server_agent, client_agent, server, client })
}

async fn agent(ca: &MeshCa, name: &str, identity: &str) -> anyhow::Result<TestAgent> {
    let token = ca.token(name, &[identity]).await?;
    TestAgent::of(ca.gate().address())?
        .with_token(&token)?
        .with_own_workload(identity)
        .joined()
        .await
}

/// The serial of the leaf that an agent's workload has now.
fn serial(agent: &TestAgent) -> anyhow::Result<Option<Serial>> {
    let text = agent.status()?.workloads.first().and_then(|workload| workload.serial.clone());
    let number = text.map(|text| u128::from_str_radix(&text, 16)).transpose()?;
    Ok(number.and_then(|number| Serial::from_bytes(&number.to_be_bytes())))
}
