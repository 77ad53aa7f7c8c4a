//! What the rotation machine wants done, done: roots asked for, issuers signed, bundles and signers put in force.
//!
//! Every effect may come again after a crash. A root or key is asked for under the effect's idempotence key; the request
//! for an issuer is stored before it is sent, since a CSR made anew has another signature and would be another request; one
//! that was refused is over (`super::requests`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plugins::checks::{RootsExpectation, Unsafe, check_roots};
use plugins::{CallContext, PluginError, RootAuthority, RootSet, StageRequest, UpstreamState};
use rotation::{Effect, Event, PendingEffect, PreparedRoot, State};
use rotation_driver::{EffectError, Effects};
use trust::{Bundle, Generation, RootId, Sequence};

use crate::bundles::Kept;
use crate::drift;
use crate::issuing::Wanted;
use crate::work::{CaEffects, Shapes, context, plugin, refused, retired, roots_of, unavailable};

/// Wait for the server's own leaf, at a start.
const SIGN_RETRY: Duration = Duration::from_millis(200);
/// Wait for the end of a rotation at the upstream CA.
const UPSTREAM_RETRY: Duration = Duration::from_secs(1);
/// One issuer stands below a root.
const ROOT_PATH_LEN: u8 = 1;

#[async_trait]
impl Effects for CaEffects {
    async fn perform(&self, state: &State, pending: &PendingEffect) -> Result<Event, EffectError> {
        let key = pending.effect.idempotence_key();
        match &pending.effect {
            Effect::StageRoot { request_id, authority } => {
                let root = self.stage_root(state, &key, authority.as_str()).await?;
                let (request_id, replica) = (request_id.clone(), Some(self.replica.clone()));
                Ok(Event::RootPrepared { request_id, root, replica })
            }
            Effect::RequestIssuer { request_id, authority, root, .. } => {
                let wanted = Wanted { state, key: &key, name: authority.as_str(), root: *root };
                let issuer = self.request_issuer(wanted).await?;
                Ok(Event::IssuerSigned { request_id: request_id.clone(), issuer })
            }
            Effect::PublishBundle { sequence } => {
                self.sign_transition(state, *sequence).await?;
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
    /// Asks for a root. A refused attempt is over: the next asks anew, with what is configured then.
    async fn stage_root(
        &self,
        state: &State,
        key: &str,
        name: &str,
    ) -> Result<PreparedRoot, EffectError> {
        // The first root of all has nobody to meet.
        if state.signing_root().is_some() {
            self.rehearsing.ready()?;
        }
        let attempt = self.requests().current(key).await?;
        match self.staged(state, &attempt.id(key), name).await {
            Ok(root) => Ok(root),
            Err(error) => {
                if matches!(error, EffectError::Refused { .. }) {
                    self.requests().over(key, &attempt, None).await?;
                }
                Err(error)
            }
        }
    }

    async fn staged(
        &self,
        state: &State,
        id: &str,
        name: &str,
    ) -> Result<PreparedRoot, EffectError> {
        let authority = self.authority(name)?;
        let context = context(id)?;
        let named = state.phase.rotation().and_then(|rotation| rotation.stage_again);
        let der = match (authority.staging(), named) {
            (Some(staging), None) => {
                let Shapes { root_lifetime, root_key, .. } = self.shapes;
                let request = StageRequest::new(self.trust_domain.clone(), root_lifetime, root_key);
                self.tickets().due(id).await?;
                let staged = staging.stage(&context, &request).await.map_err(plugin)?;
                self.tickets().settle(id, authority.as_ref(), &context, staged).await?
            }
            (None, None) if let Some(upstream) = authority.upstream() => {
                upstream_root(state, &upstream.state(None).await.map_err(plugin)?)?
            }
            _ => self.announced_root(state, authority, named, &context).await?,
        };
        let now = self.clock.now();
        let known = roots_of(state, |entry| !entry.may_return(false));
        let expected = RootsExpectation {
            trust_domain: &self.trust_domain,
            path_len: ROOT_PATH_LEN,
            now,
            covers_until: now.plus(self.shapes.leaf_lifetime_max),
            before: None,
            known: &known,
            retired: &retired(state),
            on_purpose: &named.into_iter().collect(),
        };
        let answer = RootSet::new(vec![der], None, 0);
        let checked = check_roots(&answer, &expected).map_err(PluginError::from).map_err(plugin)?;
        let root = checked
            .roots()
            .first()
            .ok_or_else(|| refused("the authority answered with no root"))?;
        Ok(PreparedRoot::of(root, authority.describe().exclusive))
    }

    /// The root that was named, or the one that the authority signs with, if it may take the place of ours.
    async fn announced_root(
        &self,
        state: &State,
        authority: &Arc<dyn RootAuthority>,
        named: Option<RootId>,
        context: &CallContext,
    ) -> Result<Vec<u8>, EffectError> {
        let set = authority.roots(context).await.map_err(plugin)?;
        let described = authority.describe();
        let whose = drift::Whose { name: &described.name, place: &described.place };
        let der = match named {
            None => signing_root(&set)?,
            Some(root) => {
                let announced = set.roots.iter().find(|der| RootId::of(der) == root).cloned();
                // Where a root is staged, any that is announced signs issuers; elsewhere the signing one alone does.
                let signs = authority.staging().is_some() || set.signing == Some(root);
                let announced = announced.filter(|_| signs);
                announced
                    .ok_or_else(|| refused(&drift::not_that_root(&whose, root, set.signing)))?
            }
        };
        match drift::unfit(state, &whose, &der, named) {
            Some(reason) => Err(refused(&reason)),
            None => Ok(der),
        }
    }

    /// Keeps the bundle with the word of a CA that the bundle before it trusts: whoever is away now comes back by it. The
    /// gate that waits for this bundle waits for that too, so the word is given while both bundles trust the signer.
    async fn sign_transition(&self, state: &State, sequence: Sequence) -> Result<(), EffectError> {
        let found = self.bundles.find(sequence).await.map_err(|error| unavailable(&error))?;
        if found || state.sequence != sequence {
            return Ok(());
        }
        let roots: Vec<_> = state.bundle().into_values().map(|der| der.as_bytes()).collect();
        let bundle = Bundle::from_ders(self.trust_domain.clone(), sequence, &roots);
        let bundle = bundle.map_err(|error| refused(&error.to_string()))?;
        let before = self.bundles.before(sequence);
        let transition = match &before {
            // The first of all, or the first that is known.
            None => None,
            Some(before) => {
                let transition =
                    self.transition_signer.sign(&before.bundle, &bundle, self.clock.now());
                // At a start the server's own leaf comes a moment later.
                let reason = "the server has no leaf yet that the former bundle trusts".to_owned();
                Some(transition.ok_or(EffectError::NotYet { reason, retry_after: SIGN_RETRY })?)
            }
        };
        self.bundles.keep(Kept { bundle, transition }).await.map_err(|error| unavailable(&error))
    }

    /// Waits until requests are served from this generation or a later one, and none from an earlier.
    async fn in_force(&self, generation: Generation) {
        // Without a cell nobody was ever served, so nobody holds anything older.
        if let Some(cell) = self.cell.get() {
            cell.former_gone(generation).await;
        }
    }
}

fn signing_root(set: &RootSet) -> Result<Vec<u8>, EffectError> {
    if set.roots.is_empty() {
        return Err(plugin(Unsafe::NoRootsLeft.into()));
    }
    let Some(signing) = set.signing else {
        return Err(refused("the authority names no signing root"));
    };
    let is_signing = |der: &&Vec<u8>| RootId::of(der) == signing;
    let root = set.roots.iter().find(is_signing).cloned();
    root.ok_or_else(|| plugin(Unsafe::SigningNotAnnounced(signing).into()))
}

/// The root of an upstream CA that is new here. The first root of all is the one that signs there, while it is the only one:
/// whoever begins in the middle of a rotation would trust one of two.
fn upstream_root(state: &State, upstream: &UpstreamState) -> Result<Vec<u8>, EffectError> {
    if state.roots.is_empty() && upstream.roots.len() > 1 {
        let reason =
            "a rotation is under way at the upstream CA; this CA begins when it is over".to_owned();
        return Err(EffectError::NotYet { reason, retry_after: UPSTREAM_RETRY });
    }
    let new = || upstream.roots.iter().filter(|der| !state.roots.contains_key(&RootId::of(der)));
    let signing = new().find(|der| RootId::of(der) == upstream.signing);
    let root = signing.or_else(|| new().next()).cloned();
    root.ok_or_else(|| refused("the upstream CA has no new root: start the rotation there"))
}
