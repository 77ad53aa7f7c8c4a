//! The same traffic with a gate that is told lies: it must see what the gate is there for, and whom it would have hurt.

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use ca_server::Embedding;
use integration_tests::mesh::{LiveMesh, SOON, Talk, eventually};
use proto::banyan::admin::v1::{Rotation, Verb};
use rotation::evidence::Tally;
use rotation::{Evidence, State};
use rotation_driver::{EvidenceSource, NoEvidence};

/// Leaves that outlive the test, in seconds: who is not waited for has one all the while.
const LEAF_LIFE: u64 = 600;

/// What the gates are not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hidden {
    /// Holders that have not applied the bundle.
    Unproven,
    /// The last leaf of the root that drains.
    Live,
}

#[derive(Debug)]
struct Liar {
    truth: Arc<dyn EvidenceSource>,
    hidden: Hidden,
}

#[async_trait]
impl EvidenceSource for Liar {
    async fn read(&self, state: &State) -> Result<Evidence, NoEvidence> {
        let truth = self.truth.read(state).await?;
        Ok(match self.hidden {
            Hidden::Unproven => Evidence { unproven: Tally::default(), ..truth },
            Hidden::Live => {
                let live = truth.live.into_iter().filter(|(_, rows)| rows.count > 1).collect();
                Evidence { live, ..truth }
            }
        })
    }
}

impl Embedding for Hidden {
    fn evidence(&self, truth: Arc<dyn EvidenceSource>) -> Arc<dyn EvidenceSource> {
        Arc::new(Liar { truth, hidden: *self })
    }
}

/// A rotation during which the last proxy takes nothing that it is sent, from the start or from the switch on.
async fn with_one_frozen(hidden: Hidden) -> anyhow::Result<Talk> {
    let mesh = LiveMesh::with_leaves_of(LEAF_LIFE, 3, 0, &hidden).await?;
    let frozen = mesh.proxies.last().context("three proxies")?;
    let other = mesh.proxies.first().context("three proxies")?;
    let old = other.holding().root();
    match hidden {
        Hidden::Unproven => {
            frozen.freeze(true);
            mesh.ca.rotate("one").await?;
            eventually("a leaf of the new root", || async {
                other.holding().root().is_some_and(|root| Some(root) != old)
            })
            .await?;
        }
        Hidden::Live => {
            mesh.ca.rotate_in_mode("one", "manual").await?;
            let is_open =
                |rotation: &Rotation| rotation.gate.as_ref().is_some_and(|gate| gate.open);
            mesh.ca.until_rotation("everybody trusts the new root", SOON, is_open).await?;
            frozen.freeze(true);
            let activated = mesh.ca.decide("now", Verb::Activate).await;
            activated.map_err(|status| anyhow::anyhow!("{status}"))?;
            eventually("the old root is trusted no more", || async {
                old.is_some_and(|old| !other.holding().trusted().contains(&old))
            })
            .await?;
        }
    }
    mesh.all_meet().await?;
    mesh.stop().await
}

/// The frozen one is a side of every failure.
fn assert_seen(talk: &Talk) {
    assert!(!talk.failed.is_empty(), "{} handshakes and none failed", talk.handshakes);
    let frozen = LiveMesh::agent_name(2);
    let others: Vec<_> =
        talk.failed.iter().filter(|f| f.client != frozen && f.server != frozen).collect();
    assert!(others.is_empty(), "failures without the frozen one: {others:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_trust_gate_a_proxy_that_was_not_waited_for_fails() -> anyhow::Result<()> {
    assert_seen(&with_one_frozen(Hidden::Unproven).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_leaf_gate_a_leaf_that_was_not_waited_for_fails() -> anyhow::Result<()> {
    assert_seen(&with_one_frozen(Hidden::Live).await?);
    Ok(())
}
