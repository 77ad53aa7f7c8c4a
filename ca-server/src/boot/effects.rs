//! What the rotation machine wants done, done: roots asked for, issuers signed, bundles and signers put in force.
//!
//! Every effect may come again after a crash. A root or key is asked for under the effect's idempotence key; the request
//! for an issuer is stored before it is sent, since a CSR made anew has another signature and would be another request.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use host::Disk;
use issuance::SnapshotCell;
use plugins::ca_certificate::build_issuer_csr;
use plugins::call::shown;
use plugins::checks::{
    IssuerExpectation, RootsExpectation, Unsafe, check_issuer_answer, check_roots, prove_key,
};
use plugins::{
    CallContext, IssuerRequest, KeyBackend, KeySpec, PluginError, RequestId, RootAuthority, RootSet,
    StageRequest, UpperState,
};
use rotation::{Der, Effect, Event, KeyName, PendingEffect, PreparedRoot, RootState, SignedIssuer, State};
use rotation_driver::{EffectError, Effects};
use serde::{Deserialize, Serialize};
use trust::{Bundle, Clock, Generation, Randomness, Root, RootId, Sequence, TrustDomain};

use super::layout::FILE_MODE;
use super::tickets::Tickets;
use crate::bundles::{BundleHistory, Kept, Voice};

/// How long a plugin may take for one answer; the driver gives up after a minute.
const PLUGIN_DEADLINE: Duration = Duration::from_secs(45);
/// Time left between the end of an issuer and that of its root, so that clocks and delays never cross them.
const ROOT_MARGIN: Duration = Duration::from_secs(60);
/// Wait for the server's own leaf, at a start.
const VOUCH_RETRY: Duration = Duration::from_millis(200);
/// Wait for the end of a rotation at the tier above.
const TIER_RETRY: Duration = Duration::from_secs(1);
/// Issuers sign leaves only.
const ISSUER_PATH_LEN: u8 = 0;
/// One issuer stands below a root.
const ROOT_PATH_LEN: u8 = 1;

/// What effects work on.
#[derive(Debug)]
pub(super) struct CaEffects {
    pub(super) trust_domain: TrustDomain,
    pub(super) authorities: BTreeMap<String, Arc<dyn RootAuthority>>,
    pub(super) keys: Arc<dyn KeyBackend>,
    pub(super) shapes: Shapes,
    pub(super) requests: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) randomness: Arc<dyn Randomness>,
    /// What requests are served from; empty until the server has its first signer.
    pub(super) cell: Arc<OnceLock<Arc<SnapshotCell>>>,
    pub(super) bundles: BundleHistory,
    pub(super) voice: Arc<Voice>,
}

/// What new roots and issuers shall be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shapes {
    pub(super) root_lifetime: Duration,
    pub(super) root_key: KeySpec,
    pub(super) issuer_lifetime: Duration,
    pub(super) issuer_key: KeySpec,
    pub(super) leaf_lifetime_max: Duration,
}

/// A request for an issuer as it is stored, so that a repetition sends the same.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRequest {
    root: String,
    ttl_secs: u64,
    csr: Vec<u8>,
}

#[async_trait]
impl Effects for CaEffects {
    async fn perform(&self, state: &State, pending: &PendingEffect) -> Result<Event, EffectError> {
        let key = pending.effect.idempotence_key();
        match &pending.effect {
            Effect::StageRoot { request_id, authority } => {
                let root = self.stage_root(state, &key, authority.as_str()).await?;
                Ok(Event::RootPrepared { request_id: request_id.clone(), root })
            }
            Effect::RequestIssuer { request_id, authority, root } => {
                let issuer = self.request_issuer(state, &key, authority.as_str(), *root).await?;
                Ok(Event::IssuerSigned { request_id: request_id.clone(), issuer })
            }
            Effect::PublishBundle { sequence } => {
                self.vouch(state, *sequence).await?;
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

impl CaEffects {
    async fn stage_root(&self, state: &State, key: &str, name: &str) -> Result<PreparedRoot, EffectError> {
        let authority = self.authority(name)?;
        let context = context(key)?;
        let der = match authority.staging() {
            Some(staging) => {
                let Shapes { root_lifetime, root_key, .. } = self.shapes;
                let request = StageRequest::new(self.trust_domain.clone(), root_lifetime, root_key);
                self.tickets().due(key).await?;
                let staged = staging.stage(&context, &request).await.map_err(plugin)?;
                self.tickets().settle((key, authority.as_ref(), &context), staged).await?
            }
            None if let Some(tier) = authority.tier() => {
                root_above(state, &tier.upper(None).await.map_err(plugin)?)?
            }
            None => signing_root(&authority.roots(&context).await.map_err(plugin)?)?,
        };
        let now = self.clock.now();
        let known = roots_of(state, |_| true);
        let expected = RootsExpectation {
            trust_domain: &self.trust_domain,
            path_len: ROOT_PATH_LEN,
            now,
            covers_until: now.plus(self.shapes.leaf_lifetime_max),
            before: None,
            known: &known,
            retired: &retired(state),
            on_purpose: &BTreeSet::new(),
        };
        let answer = RootSet::new(vec![der], None, 0);
        let checked = check_roots(&answer, &expected).map_err(PluginError::from).map_err(plugin)?;
        let root = checked.roots().first().ok_or_else(|| refused("the authority answered with no root"))?;
        Ok(PreparedRoot::of(root, authority.describe().exclusive))
    }

    async fn request_issuer(
        &self,
        state: &State,
        key: &str,
        name: &str,
        root: RootId,
    ) -> Result<SignedIssuer, EffectError> {
        let authority = self.authority(name)?;
        let context = context(key)?;
        let handle = self.keys.generate(&context.request_id, self.shapes.issuer_key).await;
        let handle = handle.map_err(PluginError::from).map_err(plugin)?;
        let announced = roots_of(state, |state| state != RootState::Retired);
        let request = self.stored_request(key, &announced, root, &handle).await?;
        let signed = match self.tickets().due(key).await? {
            Some(ticket) => match authority.poll(&context, &ticket).await {
                // It forgot the ticket. Asked under the same request id it makes nothing twice.
                Err(PluginError::Denied { .. }) => authority.sign_issuer(&context, &request).await,
                polled => polled,
            },
            None => authority.sign_issuer(&context, &request).await,
        };
        let signed = signed.map_err(plugin)?;
        let answer = self.tickets().settle((key, authority.as_ref(), &context), signed).await?;
        let now = self.clock.now();
        let expected = IssuerExpectation {
            key: &handle.public,
            trust_domain: &self.trust_domain,
            root,
            path_len: ISSUER_PATH_LEN,
            now,
            covers_until: now.plus(self.shapes.leaf_lifetime_max),
            announced: &announced,
            retired: &retired(state),
        };
        let checked = check_issuer_answer(&answer, &expected).map_err(PluginError::from).map_err(plugin)?;
        prove_key(self.keys.as_ref(), &handle.id, &handle.public, self.randomness.as_ref())
            .await
            .map_err(|error| unavailable(&error))?;
        let issuer =
            checked.chain().first().ok_or_else(|| refused("the authority answered with no issuer"))?;
        Ok(SignedIssuer {
            id: issuer.id(),
            root,
            chain: checked.chain().iter().map(|certificate| Der::from(certificate.der())).collect(),
            key: KeyName::parse(handle.id.as_str()).map_err(|error| refused(&error.to_string()))?,
            not_after: checked.not_after(),
        })
    }

    /// The request as it was sent before, or a new one, stored before it is sent.
    async fn stored_request(
        &self,
        key: &str,
        announced: &[Root],
        root: RootId,
        handle: &plugins::KeyHandle,
    ) -> Result<IssuerRequest, EffectError> {
        let path = self.requests.join(format!("{key}.json"));
        let stored = match self.read(path.clone()).await.map_err(|error| unavailable(&error))? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                refused(&format!("{} cannot be read ({error}): restore it from a backup", path.display()))
            })?,
            None => {
                let csr = build_issuer_csr(self.keys.as_ref(), handle).await;
                let csr = csr.map_err(|error| unavailable(&error))?;
                let stored = StoredRequest {
                    root: root.to_string(),
                    ttl_secs: self.issuer_ttl(announced, root)?,
                    csr,
                };
                self.store(path, &stored).await?;
                stored
            }
        };
        if stored.root != root.to_string() {
            return Err(refused("the stored request for this issuer names another root"));
        }
        let ttl = Duration::from_secs(stored.ttl_secs);
        let request = IssuerRequest::new(root, stored.csr, self.trust_domain.clone(), ttl);
        Ok(request.with_path_len(ISSUER_PATH_LEN))
    }

    /// The configured life, or what the root has left.
    fn issuer_ttl(&self, announced: &[Root], root: RootId) -> Result<u64, EffectError> {
        let root = announced.iter().find(|known| known.id() == root);
        let root = root.ok_or_else(|| refused("the root of this issuer is not known"))?;
        let left = root.certificate().validity().not_after().since(self.clock.now().plus(ROOT_MARGIN));
        if left.is_zero() {
            return Err(refused("the root is at its end and can sign no issuer: start a rotation"));
        }
        Ok(left.min(self.shapes.issuer_lifetime).as_secs())
    }

    /// Keeps the bundle with the word of a CA that the bundle before it trusts: whoever is away now comes back by it. The
    /// gate that waits for this bundle waits for that too, so the word is given while both bundles trust the signer.
    async fn vouch(&self, state: &State, sequence: Sequence) -> Result<(), EffectError> {
        if self.bundles.has(sequence) || state.sequence != sequence {
            return Ok(());
        }
        let roots: Vec<_> = state.bundle().map(|(_, entry)| entry.der.as_bytes()).collect();
        let bundle = Bundle::from_ders(self.trust_domain.clone(), sequence, &roots);
        let bundle = bundle.map_err(|error| refused(&error.to_string()))?;
        let before = self.bundles.before(sequence);
        let vouch = match &before {
            // The first of all, or the first that is known.
            None => None,
            Some(before) => {
                let vouch = self.voice.vouch(&before.bundle, &bundle, self.clock.now());
                // At a start the server's own leaf comes a moment later.
                let reason = "the server has no leaf yet that the former bundle trusts".to_owned();
                Some(vouch.ok_or(EffectError::NotYet { reason, retry_after: VOUCH_RETRY })?)
            }
        };
        self.bundles.keep(Kept { bundle, vouch }).await.map_err(|error| unavailable(&error))
    }

    /// Waits until requests are served from this generation or a later one, and none from an earlier.
    async fn in_force(&self, generation: Generation) {
        // Without a cell nobody was ever served, so nobody holds anything older.
        if let Some(cell) = self.cell.get() {
            cell.former_gone(generation).await;
        }
    }

    /// Claims on answers that come later.
    fn tickets(&self) -> Tickets<'_> {
        Tickets { directory: &self.requests, disk: &self.disk, clock: self.clock.as_ref() }
    }

    fn authority(&self, name: &str) -> Result<&Arc<dyn RootAuthority>, EffectError> {
        self.authorities.get(name).ok_or_else(|| {
            refused(&format!("there is no section [authority.{name}] in the configuration; put it back"))
        })
    }

    async fn read(&self, path: PathBuf) -> io::Result<Option<Vec<u8>>> {
        let disk = Arc::clone(&self.disk);
        let read = tokio::task::spawn_blocking(move || disk.read(&path)).await.map_err(io::Error::other)?;
        match read {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn store(&self, path: PathBuf, request: &StoredRequest) -> Result<(), EffectError> {
        let bytes = serde_json::to_vec(request).map_err(|error| unavailable(&error))?;
        let disk = Arc::clone(&self.disk);
        let stored = tokio::task::spawn_blocking(move || disk.replace(&path, &bytes, FILE_MODE)).await;
        stored.map_err(io::Error::other).and_then(|stored| stored).map_err(|error| unavailable(&error))
    }
}

fn context(key: &str) -> Result<CallContext, EffectError> {
    let request_id = RequestId::parse(key).map_err(|error| refused(&error.to_string()))?;
    Ok(CallContext::new(request_id, PLUGIN_DEADLINE))
}

fn signing_root(set: &RootSet) -> Result<Vec<u8>, EffectError> {
    if set.roots.is_empty() {
        return Err(plugin(Unsafe::NoRootsLeft.into()));
    }
    let Some(signing) = set.signing else { return Err(refused("the authority names no signing root")) };
    let is_signing = |der: &&Vec<u8>| RootId::of(der) == signing;
    let root = set.roots.iter().find(is_signing).cloned();
    root.ok_or_else(|| plugin(Unsafe::SigningNotAnnounced(signing).into()))
}

/// The root of a tier above that is new here. The first root of all is the one that signs there, while it is the only one:
/// whoever begins in the middle of a rotation would trust one of two.
fn root_above(state: &State, upper: &UpperState) -> Result<Vec<u8>, EffectError> {
    if state.roots.is_empty() && upper.roots.len() > 1 {
        let reason = "a rotation is under way at the tier above; this tier begins when it is over".to_owned();
        return Err(EffectError::NotYet { reason, retry_after: TIER_RETRY });
    }
    let new = || upper.roots.iter().filter(|der| !state.roots.contains_key(&RootId::of(der)));
    let signing = new().find(|der| RootId::of(der) == upper.signing);
    let root = signing.or_else(|| new().next()).cloned();
    root.ok_or_else(|| refused("the tier above has no new root: start the rotation there"))
}

fn roots_of(state: &State, wanted: impl Fn(RootState) -> bool) -> Vec<Root> {
    let wanted = state.roots.values().filter(|entry| wanted(entry.state));
    // What is in the record was checked before it was stored.
    wanted.filter_map(|entry| Root::parse(entry.der.as_bytes()).ok()).collect()
}

fn retired(state: &State) -> BTreeSet<RootId> {
    let retired = state.roots.iter().filter(|(_, entry)| entry.state == RootState::Retired);
    retired.map(|(id, _)| *id).collect()
}

fn plugin(error: PluginError) -> EffectError {
    let said = shown(&error.to_string());
    match &error {
        PluginError::RateLimited { retry_after } => {
            EffectError::NotYet { reason: said, retry_after: *retry_after }
        }
        // Operators and alarms find it by this word and the reason, which is one of a closed set.
        PluginError::Unsafe(fault) => refused(&format!("PluginInvalid{{{}}}: {said}", fault.reason())),
        error if error.may_be_repeated() => unavailable(&said),
        _ => refused(&said),
    }
}

fn unavailable(error: &dyn std::fmt::Display) -> EffectError {
    EffectError::Unavailable { reason: error.to_string() }
}

fn refused(reason: &str) -> EffectError {
    EffectError::Refused { reason: reason.to_owned() }
}
