//! Requests between two Envoys.

use std::sync::atomic::{AtomicBool, Ordering};

use integration_tests::mesh::eventually;

use super::{SERVER, pair};

#[tokio::test(flavor = "multi_thread")]
async fn two_envoys_talk_over_mutual_tls_with_secrets_of_their_agents() -> anyhow::Result<()> {
    let pair = pair("", &[SERVER]).await?;
    for _ in 0..10 {
        assert_eq!(pair.client.get(0).await?, (200, "answer of server\n".to_owned()));
    }
    assert_eq!(
        pair.client.count("cluster.peer_0.ssl.handshake").await?,
        10,
        "a connection for each request"
    );
    assert_eq!(pair.client.count(".ssl.session_reused").await?, 0);
    for envoy in [&pair.client, &pair.server] {
        assert_eq!(envoy.tls_failures().await?, 0);
    }
    pair.ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_are_renewed_under_traffic_and_no_request_fails() -> anyhow::Result<()> {
    const RENEWALS: u64 = 2;
    let leaf = "[leaf]\nttl_default = \"20s\"\nttl_max = \"20s\"\nttl_min = \"8s\"\nbackdate = \"2s\"\nskew = \"2s\"\n";
    let pair = pair(leaf, &[SERVER]).await?;
    let stop = AtomicBool::new(false);
    let traffic = pair.client.get_until(&stop);
    let renewals = async {
        for agent in [&pair.server_agent, &pair.client_agent] {
            let enough = |status: &agent::Status| status.workloads[0].renewals >= RENEWALS;
            agent.until("renewed", enough).await?;
        }
        stop.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let (answered, ()) = tokio::try_join!(traffic, renewals)?;
    assert!(answered > 20, "{answered}");
    assert_eq!((pair.client.tls_failures().await?, pair.server.tls_failures().await?), (0, 0));
    for envoy in [&pair.client, &pair.server] {
        assert!(envoy.count(".ssl_context_update_by_sds").await? >= RENEWALS);
    }
    eventually("leaves that were replaced are released", async || {
        let rows = pair.ca.rows().unwrap_or_default();
        rows.of(SERVER).iter().filter(|serial| rows.ended.contains(serial)).count() >= 2
    })
    .await?;
    pair.ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_with_another_identity_is_refused_by_envoy_and_counted() -> anyhow::Result<()> {
    let pair = pair("", &[SERVER, "spiffe://example.org/ns/shop/sa/somebody-else"]).await?;
    let (status, body) = pair.client.get(1).await?;
    assert_eq!(status, 503, "{body}");
    let counters = pair.client.counters().await?;
    assert_eq!(counters.get("cluster.peer_1.ssl.fail_verify_san"), Some(&1), "{counters:#?}");
    assert_eq!(pair.client.get(0).await?.0, 200, "who is who it should be is still let pass");
    pair.ca.stop().await
}
