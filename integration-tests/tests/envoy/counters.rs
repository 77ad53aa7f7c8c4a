//! What Envoys count of handshakes, as operators see it.

use integration_tests::mesh::{MeshCa, TestAgent, admin_channel, eventually};
use proto::banyan::admin::v1::agent_admin_service_client::AgentAdminServiceClient;
use proto::banyan::admin::v1::{HandshakeTally, ListAgentsRequest};

use super::{CLIENT, SERVER, pair};

async fn tally(ca: &MeshCa, identity: &str) -> anyhow::Result<Option<HandshakeTally>> {
    let mut operator = AgentAdminServiceClient::new(admin_channel(&ca.running().admin_socket));
    let agents = operator.list_agents(ListAgentsRequest::default()).await?.into_inner().agents;
    let mut tallies = agents.into_iter().flat_map(|agent| agent.handshakes);
    Ok(tallies.find(|tally| tally.spiffe_id == identity))
}

/// Waits until the numbers that were counted for an identity are these: succeeded, and peers refused.
async fn until_counted(ca: &MeshCa, identity: &str, counted: [u64; 2]) -> anyhow::Result<()> {
    let is = async || {
        let tally = tally(ca, identity).await.ok().flatten();
        tally.is_some_and(|tally| [tally.handshakes, tally.refused_peers] == counted)
    };
    let outcome = eventually(&format!("{identity}: {counted:?}"), is).await;
    match outcome {
        Ok(()) => Ok(()),
        Err(error) => Err(error.context(format!("{:?}", tally(ca, identity).await?))),
    }
}

async fn reads(agent: &mut TestAgent, admin: &str) -> anyhow::Result<()> {
    agent.stop().await;
    agent.reads_counters_at(admin);
    agent.start().await?;
    agent.until("connected", |status| status.connected).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_of_real_envoys_are_told_by_identity_through_resets_and_silence()
-> anyhow::Result<()> {
    let mut pair = pair("", &[SERVER, "spiffe://example.org/ns/shop/sa/somebody-else"]).await?;
    assert_eq!(tally(&pair.ca, SERVER).await?, None, "nobody said where counters are");
    reads(&mut pair.server_agent, &pair.server.admin().to_string()).await?;
    reads(&mut pair.client_agent, &pair.client.admin().to_string()).await?;
    // What was counted before the agent looked is not known to be of this time.
    for identity in [SERVER, CLIENT] {
        until_counted(&pair.ca, identity, [0, 0]).await?;
    }

    for _ in 0..10 {
        assert_eq!(pair.client.get(0).await?.0, 200);
    }
    until_counted(&pair.ca, SERVER, [10, 0]).await?;
    until_counted(&pair.ca, CLIENT, [10, 0]).await?;

    pair.client.reset_counters().await?;
    assert_eq!(pair.client.get(0).await?.0, 200);
    until_counted(&pair.ca, CLIENT, [11, 0]).await?;

    assert_eq!(pair.client.get(1).await?.0, 503, "somebody else was expected there");
    until_counted(&pair.ca, CLIENT, [11, 1]).await?;

    pair.client.kill().await?;
    pair.client_agent.until_it_says("counters of Envoy not read").await?;
    let silent = async || {
        let tally = tally(&pair.ca, CLIENT).await.ok().flatten();
        tally.is_some_and(|tally| (tally.endpoints, tally.silent_endpoints) == (1, 1))
    };
    eventually("the CA knows that it is not told", silent).await?;
    let tally = tally(&pair.ca, CLIENT).await?;
    assert_eq!(tally.map(|tally| tally.handshakes), Some(11), "what is known stays");
    pair.ca.stop().await
}
