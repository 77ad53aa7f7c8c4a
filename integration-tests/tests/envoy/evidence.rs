//! What the CA knows of Envoys: what they applied, and when they are gone.

use integration_tests::mesh::eventually;
use ledger::{EvidenceClass, RowKind};

use super::{CLIENT, SERVER, pair, serial};

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_of_envoy_reach_the_ledger_as_applied_at_the_bundles_sequence()
-> anyhow::Result<()> {
    let pair = pair("", &[SERVER]).await?;
    // A bundle that came after the leaves: what is known of it is what Envoy acknowledged.
    pair.ca.rotate_in_mode("one", "manual").await?;
    eventually("the next bundle", || {
        std::future::ready(pair.ca.running().bundle().roots().len() == 2)
    })
    .await?;
    let sequence = pair.ca.running().bundle().sequence();
    for (agent, identity) in [(&pair.server_agent, SERVER), (&pair.client_agent, CLIENT)] {
        let serial = serial(agent)?.ok_or_else(|| anyhow::anyhow!("no leaf"))?;
        eventually("the row is proven", async || {
            let proof = pair.ca.rows().ok().and_then(|rows| rows.proven.get(&serial).copied());
            proof == Some((EvidenceClass::Applied, sequence))
        })
        .await?;
        let row = pair.ca.rows()?.intents.get(&serial).cloned();
        assert_eq!(row, Some((identity.to_owned(), RowKind::AgentHeld)));
    }
    eventually("and so are the agents' own", async || {
        pair.ca
            .status()
            .await
            .is_ok_and(|status| status.ledger.is_some_and(|rows| rows.unproven_rows == 0))
    })
    .await?;
    let status = pair.ca.status().await?;
    assert!(
        status.agents.iter().all(|agent| agent.sequence == sequence.0 && agent.nacks == 0),
        "{status:#?}"
    );
    pair.ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn when_envoy_is_killed_its_leaf_is_released_at_the_ca_and_that_of_others_is_not()
-> anyhow::Result<()> {
    let pair = pair("", &[SERVER]).await?;
    let gone = serial(&pair.client_agent)?.ok_or_else(|| anyhow::anyhow!("no leaf"))?;
    let stays = serial(&pair.server_agent)?.ok_or_else(|| anyhow::anyhow!("no leaf"))?;
    assert!(!pair.ca.rows()?.ended.contains(&gone));
    pair.client.kill().await?;
    eventually("the leaf is released", async || {
        pair.ca.rows().is_ok_and(|rows| rows.ended.contains(&gone))
    })
    .await?;
    pair.client_agent.until("nobody holds", |status| status.holders.is_empty()).await?;
    assert!(!pair.ca.rows()?.ended.contains(&stays));
    let live = pair.ca.status().await?.agents.into_iter().map(|agent| (agent.id, agent.live_rows));
    let live: Vec<_> = live.collect();
    let id = |name: &str| format!("spiffe://example.org/banyan/agent/{name}");
    assert_eq!(
        live,
        [(id("client"), 1), (id("server"), 2)],
        "the agent's own leaf is left, and the other's"
    );
    pair.ca.stop().await
}
