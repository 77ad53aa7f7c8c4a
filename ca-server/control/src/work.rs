//! What effects work on, and how a failure of theirs is said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use issuance::SnapshotCell;
use plugins::call::shown;
use plugins::{CallContext, KeyBackend, KeySpec, PluginError, RequestId, RootAuthority};
use rotation::{ReplicaName, RootEntry, State};
use rotation_driver::EffectError;
use stores::SharedStore;
use trust::{Clock, Randomness, Root, RootId, TrustDomain};

use crate::bundles::{BundleHistory, TransitionSigner};
use crate::rehearsing::Rehearsing;
use crate::requests::Requests;
use crate::tickets::Tickets;

/// How long a plugin may take for one answer; the driver gives up after a minute.
const PLUGIN_DEADLINE: Duration = Duration::from_secs(45);

/// What effects work on.
#[derive(Debug)]
pub struct CaEffects {
    /// The name of this replica.
    pub replica: ReplicaName,
    /// The trust domain of new roots.
    pub trust_domain: TrustDomain,
    /// Whom roots and issuers are asked of.
    pub authorities: BTreeMap<String, Arc<dyn RootAuthority>>,
    /// Where keys of issuers are.
    pub keys: Arc<dyn KeyBackend>,
    /// What new roots and issuers shall be.
    pub shapes: Shapes,
    /// What all servers of the CA share: requests as they were sent, and claims on answers.
    pub store: Arc<dyn SharedStore>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Serial numbers and names.
    pub randomness: Arc<dyn Randomness>,
    /// What requests are served from; empty until the server has its first signer.
    pub cell: Arc<OnceLock<Arc<SnapshotCell>>>,
    /// Bundles of the past.
    pub bundles: BundleHistory,
    /// What signs a change of the bundle.
    pub transition_signer: Arc<TransitionSigner>,
    /// How new roots are rehearsed.
    pub rehearsing: Arc<Rehearsing>,
}

/// What new roots and issuers shall be.
#[derive(Debug, Clone, Copy)]
pub struct Shapes {
    /// Life of a root.
    pub root_lifetime: Duration,
    /// Kind of its key.
    pub root_key: KeySpec,
    /// Life of an issuer.
    pub issuer_lifetime: Duration,
    /// The shortest life of an issuer that is taken.
    pub issuer_lifetime_min: Duration,
    /// Kind of its key.
    pub issuer_key: KeySpec,
    /// Longest life of a leaf.
    pub leaf_lifetime_max: Duration,
}

impl CaEffects {
    /// Requests as they were sent.
    pub(crate) fn requests(&self) -> Requests<'_> {
        Requests { store: self.store.as_ref() }
    }

    /// Claims on answers that come later.
    pub(crate) fn tickets(&self) -> Tickets<'_> {
        Tickets { store: self.store.as_ref(), clock: self.clock.as_ref() }
    }

    /// An authority of the configuration.
    pub(crate) fn authority(&self, name: &str) -> Result<&Arc<dyn RootAuthority>, EffectError> {
        self.authorities.get(name).ok_or_else(|| {
            refused(&format!(
                "there is no section [authority.{name}] in the configuration; put it back"
            ))
        })
    }
}

/// What each call of a plugin is made with.
pub(crate) fn context(key: &str) -> Result<CallContext, EffectError> {
    let request_id = RequestId::parse(key).map_err(|error| refused(&error.to_string()))?;
    Ok(CallContext::new(request_id, PLUGIN_DEADLINE))
}

/// Roots of the record that are wanted.
pub(crate) fn roots_of(state: &State, wanted: impl Fn(&RootEntry) -> bool) -> Vec<Root> {
    let wanted = state.roots.values().filter(|entry| wanted(entry));
    // What is in the record was checked before it was stored.
    wanted.filter_map(|entry| Root::parse(entry.der.as_bytes()).ok()).collect()
}

/// Roots that may not come back by themselves. One that never signed is as good as unknown.
pub(crate) fn retired(state: &State) -> BTreeSet<RootId> {
    let gone = |entry: &RootEntry| entry.state.is_retired() && !entry.may_return(false);
    state.roots.iter().filter(|(_, entry)| gone(entry)).map(|(id, _)| *id).collect()
}

/// A failure of a plugin, as the driver has it.
pub(crate) fn plugin(error: PluginError) -> EffectError {
    let said = shown(&error.to_string());
    match &error {
        PluginError::RateLimited { retry_after } => {
            EffectError::NotYet { reason: said, retry_after: *retry_after }
        }
        // Operators and alarms find it by this word and the reason, which is one of a closed set.
        PluginError::Unsafe(fault) => {
            refused(&format!("PluginInvalid{{{}}}: {said}", fault.reason()))
        }
        error if error.may_be_repeated() => unavailable(&said),
        _ => refused(&said),
    }
}

/// It may work the next time.
pub(crate) fn unavailable(error: &dyn std::fmt::Display) -> EffectError {
    EffectError::Unavailable { reason: error.to_string() }
}

/// It does not work until somebody does something.
pub(crate) fn refused(reason: &str) -> EffectError {
    EffectError::Refused { reason: reason.to_owned() }
}
