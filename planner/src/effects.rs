//! What the machine orders, done at once and without cryptography: a plan asks what the machine does, not whether an authority
//! can sign.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rotation::{
    Der, Effect, Event, KeyName, NAME_BYTES_MAX, PendingEffect, PreparedRoot, ReplicaName,
    SignedIssuer, State,
};
use rotation_driver::{EffectError, Effects};
use tokio::sync::watch;
use trust::{CertificateId, Clock, Generation, RootId};

/// How long a root or an issuer takes to make. Not a whole tick, so that nothing else happens at the same instant.
const MADE_WITHIN: Duration = Duration::from_millis(37);

/// The authority of a plan, and the server that shows what was decided.
#[derive(Debug)]
pub(crate) struct PlanEffects {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) replica: ReplicaName,
    /// How long the first root lives.
    pub(crate) first_root: Duration,
    /// How long each further one lives.
    pub(crate) next_root: Duration,
    pub(crate) root_bytes: usize,
    /// The generation that requests are served from; `None` until the server serves.
    pub(crate) shown: watch::Receiver<Option<Generation>>,
}

#[async_trait]
impl Effects for PlanEffects {
    async fn perform(&self, state: &State, pending: &PendingEffect) -> Result<Event, EffectError> {
        let key = pending.effect.idempotence_key();
        match &pending.effect {
            Effect::StageRoot { request_id, .. } => {
                tokio::time::sleep(MADE_WITHIN).await;
                let lives = if state.roots.is_empty() { self.first_root } else { self.next_root };
                let der = self.certificate(&key);
                let root = PreparedRoot {
                    id: RootId::of(&der),
                    der: Der::from(der.as_slice()),
                    not_after: self.clock.now().plus(lives),
                    exclusive: true,
                };
                let replica = Some(self.replica.clone());
                Ok(Event::RootPrepared { request_id: request_id.clone(), root, replica })
            }
            Effect::RequestIssuer { request_id, root, .. } => {
                tokio::time::sleep(MADE_WITHIN).await;
                let entry = state.roots.get(root).ok_or_else(gone)?;
                let der = self.certificate(&key);
                let issuer = SignedIssuer {
                    id: CertificateId::of(&der),
                    root: *root,
                    chain: vec![Der::from(der.as_slice())],
                    key: key_name(&key)?,
                    // An issuer is renewed without anybody noticing: only the root's end counts here.
                    not_after: entry.not_after,
                    rehearsal: None,
                };
                Ok(Event::IssuerSigned { request_id: request_id.clone(), issuer })
            }
            Effect::PublishBundle { sequence } => {
                self.in_force(pending.generation).await;
                Ok(Event::BundlePublished { sequence: *sequence })
            }
            Effect::SwitchSigner { root, issuer } => {
                self.in_force(pending.generation).await;
                Ok(Event::SignerSwitched { root: *root, issuer: *issuer })
            }
        }
    }
}

impl PlanEffects {
    /// As many bytes as a certificate has, different for each name.
    fn certificate(&self, name: &str) -> Vec<u8> {
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(self.root_bytes.max(bytes.len()), 0);
        bytes
    }

    /// Waits until requests are served from this generation or a later one.
    async fn in_force(&self, generation: Generation) {
        let mut shown = self.shown.clone();
        // The sender lives as long as the plan.
        let _ = shown.wait_for(|shown| shown.is_none_or(|shown| shown >= generation)).await;
    }
}

fn gone() -> EffectError {
    EffectError::Refused { reason: "the record has no such root".to_owned() }
}

fn key_name(key: &str) -> Result<KeyName, EffectError> {
    let start: String = key.chars().take(NAME_BYTES_MAX).collect();
    KeyName::parse(&start).map_err(|error| EffectError::Refused { reason: error.to_string() })
}
