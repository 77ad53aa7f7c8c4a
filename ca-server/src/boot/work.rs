//! What effects work on, and how a failure of theirs is said.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use host::Disk;
use issuance::SnapshotCell;
use plugins::call::shown;
use plugins::{CallContext, KeyBackend, KeySpec, PluginError, RequestId, RootAuthority};
use rotation::{RootEntry, RootState, State};
use rotation_driver::EffectError;
use trust::{Clock, Randomness, Root, RootId, TrustDomain};

use super::requests::Requests;
use super::tickets::Tickets;
use crate::bundles::{BundleHistory, TransitionSigner};

/// How long a plugin may take for one answer; the driver gives up after a minute.
const PLUGIN_DEADLINE: Duration = Duration::from_secs(45);

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
    pub(super) transition_signer: Arc<TransitionSigner>,
}

/// What new roots and issuers shall be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shapes {
    pub(super) root_lifetime: Duration,
    pub(super) root_key: KeySpec,
    pub(super) issuer_lifetime: Duration,
    pub(super) issuer_lifetime_min: Duration,
    pub(super) issuer_key: KeySpec,
    pub(super) leaf_lifetime_max: Duration,
}

impl CaEffects {
    /// Requests as they were sent.
    pub(super) fn requests(&self) -> Requests<'_> {
        Requests { directory: &self.requests, disk: &self.disk }
    }

    /// Claims on answers that come later.
    pub(super) fn tickets(&self) -> Tickets<'_> {
        Tickets { directory: &self.requests, disk: &self.disk, clock: self.clock.as_ref() }
    }

    pub(super) fn authority(&self, name: &str) -> Result<&Arc<dyn RootAuthority>, EffectError> {
        self.authorities.get(name).ok_or_else(|| {
            refused(&format!("there is no section [authority.{name}] in the configuration; put it back"))
        })
    }
}

pub(super) fn context(key: &str) -> Result<CallContext, EffectError> {
    let request_id = RequestId::parse(key).map_err(|error| refused(&error.to_string()))?;
    Ok(CallContext::new(request_id, PLUGIN_DEADLINE))
}

pub(super) fn roots_of(state: &State, wanted: impl Fn(&RootEntry) -> bool) -> Vec<Root> {
    let wanted = state.roots.values().filter(|entry| wanted(entry));
    // What is in the record was checked before it was stored.
    wanted.filter_map(|entry| Root::parse(entry.der.as_bytes()).ok()).collect()
}

/// Roots that may not come back by themselves. One that never signed is as good as unknown.
pub(super) fn retired(state: &State) -> BTreeSet<RootId> {
    let gone = |entry: &RootEntry| entry.state == RootState::Retired && !entry.may_return(false);
    state.roots.iter().filter(|(_, entry)| gone(entry)).map(|(id, _)| *id).collect()
}

pub(super) fn plugin(error: PluginError) -> EffectError {
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

pub(super) fn unavailable(error: &dyn std::fmt::Display) -> EffectError {
    EffectError::Unavailable { reason: error.to_string() }
}

pub(super) fn refused(reason: &str) -> EffectError {
    EffectError::Refused { reason: reason.to_owned() }
}
