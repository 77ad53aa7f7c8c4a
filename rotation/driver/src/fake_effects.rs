//! The effects' fake: an authority and a CA in memory, which make one thing per idempotence key.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rotation::{
    Der, Effect, Event, KeyName, PendingEffect, PreparedRoot, ReplicaName, SignedIssuer, State,
};
use tokio::sync::watch;
use trust::{CertificateId, RootId, Timestamp};

use crate::{EffectError, Effects};

/// Performs every effect at once, unless told to hang or fail. It outlives any driver, as an authority does, and
/// checks its callers: an effect that the stored state does not list as pending panics.
#[derive(Debug)]
pub struct FakeEffects {
    now: Timestamp,
    replica: Option<ReplicaName>,
    calls: Mutex<BTreeMap<String, u32>>,
    failures: Mutex<Vec<EffectError>>,
    hanging: watch::Sender<Option<&'static str>>,
}

impl FakeEffects {
    /// Makes certificates that live ten years (roots) and one year (issuers) from `now` on.
    pub fn new(now: Timestamp) -> Self {
        Self {
            now,
            replica: None,
            calls: Mutex::default(),
            failures: Mutex::default(),
            hanging: watch::Sender::new(None),
        }
    }

    /// As one replica of several: it asks for issuers of its own, and for no others.
    #[must_use]
    pub fn of(self, replica: ReplicaName) -> Self {
        Self { replica: Some(replica), ..self }
    }

    /// Lets every attempt at the effect of this name hang until told otherwise.
    pub fn hang(&self, effect: Option<&'static str>) {
        self.hanging.send_replace(effect);
    }

    /// Lets the next attempts fail, the last of the list first.
    pub fn fail(&self, failures: Vec<EffectError>) {
        *lock(&self.failures) = failures;
    }

    /// How often each thing was asked for, by idempotence key.
    pub fn calls(&self) -> BTreeMap<String, u32> {
        lock(&self.calls).clone()
    }

    /// The ids of all roots that were ever made: one for each key asked under.
    pub fn roots_made(&self) -> Vec<RootId> {
        self.calls()
            .keys()
            .filter(|key| key.ends_with(".root"))
            .map(|key| RootId::of(key.as_bytes()))
            .collect()
    }

    fn answer(&self, effect: &Effect) -> Event {
        let key = effect.idempotence_key();
        let lives = |days: u64| self.now.plus(Duration::from_secs(days * 86_400));
        match effect {
            Effect::StageRoot { request_id, .. } => Event::RootPrepared {
                request_id: request_id.clone(),
                root: PreparedRoot {
                    id: RootId::of(key.as_bytes()),
                    der: Der::from(key.as_bytes()),
                    not_after: lives(3_650),
                    exclusive: true,
                },
                replica: self.replica.clone(),
            },
            Effect::RequestIssuer { request_id, root, .. } => Event::IssuerSigned {
                request_id: request_id.clone(),
                issuer: SignedIssuer {
                    id: CertificateId::of(key.as_bytes()),
                    root: *root,
                    chain: vec![Der::from(key.as_bytes())],
                    key: key_name(&key),
                    not_after: lives(365),
                    rehearsal: None,
                },
            },
            Effect::PublishBundle { sequence } => Event::BundlePublished { sequence: *sequence },
            Effect::SwitchSigner { root, issuer } => {
                Event::SignerSwitched { root: *root, issuer: *issuer }
            }
        }
    }
}

#[async_trait]
impl Effects for FakeEffects {
    async fn perform(&self, state: &State, pending: &PendingEffect) -> Result<Event, EffectError> {
        let listed = state.pending.contains(pending);
        assert!(listed, "{pending:?} is performed and not pending in {state:?}");
        *lock(&self.calls).entry(pending.effect.idempotence_key()).or_default() += 1;
        let mut hanging = self.hanging.subscribe();
        // The sender lives in `self`, so waiting ends only by its word.
        let _ = hanging.wait_for(|hanging| *hanging != Some(pending.effect.name())).await;
        if let Some(failure) = lock(&self.failures).pop() {
            return Err(failure);
        }
        Ok(self.answer(&pending.effect))
    }
}

fn key_name(key: &str) -> KeyName {
    let start: String = key.chars().take(rotation::NAME_BYTES_MAX).collect();
    #[expect(clippy::expect_used, reason = "idempotence keys are names, apart from their length")]
    KeyName::parse(&start).expect("idempotence keys are names")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
