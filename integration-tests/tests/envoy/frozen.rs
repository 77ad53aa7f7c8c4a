//! An Envoy that is stopped in the middle of a rotation: it is named, waited for as long as was said, and costs nobody a
//! connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use integration_tests::mesh::{Envoy, SOON};
use proto::banyan::admin::v1::{Rotation, Verb};

use super::{SERVER, agent, pair};

/// The identity of the one that is frozen.
const IDLE: &str = "spiffe://example.org/ns/shop/sa/idle";
/// Leaves that end while a test waits, and not before it has seen what holds the gate; clocks 2 s apart.
const SHORT: &str = "[leaf]\nttl_default = \"30s\"\nttl_max = \"30s\"\nttl_min = \"8s\"\nbackdate = \"2s\"\nskew = \"2s\"\n\
                     [rotation]\nsettle = \"1s\"\nwithdrawal_max = \"30s\"\n";
/// How late a gate may be seen open after the time that was said, on a machine that is busy.
const LATE_MAX: u64 = 5;

/// The gate waits for one holder only, whose agent is connected.
fn waits_for_one(rotation: &Rotation) -> bool {
    rotation.gate.as_ref().is_some_and(|gate| {
        gate.name == "trust"
            && gate.holds.len() == 2
            && gate.holders_total == 1
            && gate.holders.iter().all(|holder| holder.agent_connected)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_envoy_is_named_and_the_gate_opens_without_it_when_it_was_said()
-> anyhow::Result<()> {
    let pair = pair(SHORT, &[SERVER]).await?;
    let idle_agent = agent(&pair.ca, "idle", IDLE).await?;
    let idle = Envoy::start("idle", &idle_agent.path(""), idle_agent.socket(), &[]).await?;
    // Who has no leaf yet is nobody to wait for, also if it has the bundle.
    idle.until_it_has_its_leaf().await?;
    idle_agent
        .until("the third has both", |status| {
            status
                .holders
                .iter()
                .any(|holder| holder.applied == Some(1) && holder.serials.len() == 1)
        })
        .await?;
    let stop = AtomicBool::new(false);
    let traffic = pair.client.get_until(&stop);
    let rotation = async {
        idle.freeze(true)?;
        pair.ca.rotate("one").await?;
        let waiting = pair
            .ca
            .until_rotation("only the frozen one is waited for", SOON, waits_for_one)
            .await?;
        let gate = waiting.gate.clone().unwrap_or_default();
        let [holder] = gate.holders.as_slice() else { anyhow::bail!("{gate:?}") };
        assert_eq!((holder.identity.as_str(), holder.agent.as_str()), (IDLE, "idle"));
        assert_eq!((holder.evidence_wanted.as_str(), holder.wanted), ("applied", waiting.sequence));
        let early = pair.ca.decide("early", Verb::Activate).await.expect_err("the gate is closed");
        for words in [gate.holds[0].as_str(), IDLE, "it opens by itself at"] {
            assert!(early.message().contains(words), "{words} is missing in: {}", early.message());
        }
        let most = u64::try_from(gate.opens_at_latest - gate.at)? + LATE_MAX;
        let opened = |rotation: &Rotation| rotation.phase != "distributing";
        pair.ca
            .until_rotation("the gate opens by itself", Duration::from_secs(most), opened)
            .await?;
        idle.freeze(false)?;
        let over = |rotation: &Rotation| rotation.phase == "steady";
        pair.ca.until_rotation("the rotation is over", Duration::from_secs(120), over).await?;
        stop.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let (answered, ()) = tokio::try_join!(traffic, rotation)?;
    assert!(answered > 20, "{answered}");
    assert_eq!((pair.client.tls_failures().await?, pair.server.tls_failures().await?), (0, 0));
    idle.kill().await?;
    pair.ca.stop().await
}
