//! The same traffic with a top that does not wait for its downstream CAs: it must see what the waiting is for, and whom it would hurt.

use std::sync::Arc;

use async_trait::async_trait;
use ca_server::Embedding;
use integration_tests::mesh::eventually;
use rotation::evidence::RelyingParties;
use rotation::{Evidence, State};
use rotation_driver::{EvidenceSource, NoEvidence};

use crate::tier_ca::{Mesh, TierCa};

/// Says that every tier has the bundle.
#[derive(Debug)]
struct Impatient(Arc<dyn EvidenceSource>);

#[async_trait]
impl EvidenceSource for Impatient {
    async fn read(&self, state: &State) -> Result<Evidence, NoEvidence> {
        Ok(Evidence { relying_parties: RelyingParties::default(), ..self.0.read(state).await? })
    }
}

pub(crate) struct Hides;

impl Embedding for Hides {
    fn evidence(&self, truth: Arc<dyn EvidenceSource>) -> Arc<dyn EvidenceSource> {
        Arc::new(Impatient(truth))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_word_of_a_downstream_ca_a_proxy_there_fails_when_the_top_signs_anew()
-> anyhow::Result<()> {
    let top = TierCa::top_in(Arc::new(Hides)).await?;
    let below = TierCa::below(&top, "below").await?;
    let old = top.root();
    let mesh = Mesh::over(&[&top, &below, &below]).await?;
    mesh.proxies.last().unwrap().freeze(true);
    top.rotate("one", "auto").await?;
    top.in_phase("draining").await?;
    let first = mesh.proxies.first().unwrap();
    eventually("a leaf of the new root", || async {
        first.holding().root().is_some_and(|root| root != old)
    })
    .await?;
    let seen = mesh.handshakes();
    eventually("everybody meets it", || async { mesh.handshakes() > seen + 100 }).await?;
    let talk = mesh.talk().await?;
    assert!(!talk.failed.is_empty(), "{} handshakes and none failed", talk.handshakes);
    let others: Vec<_> = talk
        .failed
        .iter()
        .filter(|failed| failed.client != "host-2" && failed.server != "host-2")
        .collect();
    assert!(others.is_empty(), "failures without the frozen one: {others:#?}");
    Ok(())
}
