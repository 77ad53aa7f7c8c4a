//! An agent that is restarted while its Envoy runs on.

use integration_tests::mesh::eventually;

use super::{SERVER, pair, serial};

#[tokio::test(flavor = "multi_thread")]
async fn envoy_serves_on_while_its_agent_restarts_and_its_row_is_held_until_it_has_a_newer_leaf()
-> anyhow::Result<()> {
    let mut pair = pair("", &[SERVER]).await?;
    let before = serial(&pair.server_agent)?.ok_or_else(|| anyhow::anyhow!("no leaf"))?;
    pair.server_agent
        .until("both are applied", |status| status.holders[0].applied == Some(1))
        .await?;

    pair.server_agent.stop().await;
    for _ in 0..5 {
        assert_eq!(pair.client.get(0).await?.0, 200, "Envoy goes on with what it has");
    }
    let account = std::fs::read_to_string(pair.server_agent.path("state/holders.json"))?;
    assert!(account.contains(&before.to_string()), "{account}");
    assert!(!pair.ca.rows()?.ended.contains(&before), "a stream that ended is no proxy that ended");

    // Without its CA the agent has no newer leaf to give: the holder is still accounted for.
    pair.ca.gate().set_open(false);
    pair.server_agent.start().await?;
    let held = pair
        .server_agent
        .until("the holder is known again", |status| {
            status.holders.iter().any(|holder| holder.serials.contains(&before.to_string()))
        })
        .await?;
    assert_eq!(held.holders[0].pid, pair.server.pid().unwrap_or_default());
    assert_eq!(pair.client.get(0).await?.0, 200);
    assert!(!pair.ca.rows()?.ended.contains(&before));

    pair.ca.gate().set_open(true);
    pair.server_agent
        .until("Envoy has the new leaf and nothing else", |status| {
            let serial = status.workloads[0].serial.clone();
            serial.is_some_and(|serial| {
                serial != before.to_string()
                    && status.holders.iter().all(|h| h.serials == [serial.clone()])
            })
        })
        .await?;
    eventually("the former leaf is released", async || {
        pair.ca.rows().is_ok_and(|rows| rows.ended.contains(&before))
    })
    .await?;
    assert_eq!(pair.client.get(0).await?.0, 200);
    assert_eq!((pair.client.tls_failures().await?, pair.server.tls_failures().await?), (0, 0));
    pair.ca.stop().await
}
