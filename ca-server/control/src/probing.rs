//! Whether proxies can verify the root that shall sign: when that is asked, and the leaves that agents ask with.
//!
//! A proxy acknowledges a bundle whose algorithms it does not know. So where a rotation brings an algorithm, what a holder with a
//! listener acknowledged is not enough: its agent shakes hands with it, with a short leaf of the new root that nobody else gets
//! ([decision 53](../../../docs/decisions/0053-acknowledged-is-not-able.md)).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use issuance::CountedSnapshot;
use issuance::profile::LeafProfile;
use rotation::evidence::GateName;
use rotation::{RootEntry, State};
use tokio::sync::watch;
use trust::{Certificate, KeyKind, PublicKey, RootId, Sequence};

/// Life of a probe leaf, where the profile allows it.
const PROBE_LIFE: Duration = Duration::from_secs(300);

/// When the trust gate asks whether proxies can verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbePolicy {
    /// When the new root or its issuers have keys of an algorithm that those of the root that signs do not have.
    NewAlgorithms,
    /// At each rotation.
    Always,
    /// Never.
    Never,
}

/// What agents are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The bundle in force.
    pub sequence: Sequence,
    /// The root that shall sign.
    pub root: RootId,
}

/// What agents are asked, and what probe leaves are made from.
#[derive(Debug)]
pub struct Allowed {
    /// What is asked.
    pub wanted: Wanted,
    /// The root that shall sign as if it signed, until the end that is on the record.
    pub snapshot: CountedSnapshot,
}

/// Whether probe leaves are issued here, for whoever asks.
#[derive(Debug)]
pub struct Probing(watch::Sender<Option<Arc<Allowed>>>);

impl Default for Probing {
    fn default() -> Self {
        Self(watch::channel(None).0)
    }
}

impl Probing {
    /// What is asked, at every change.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<Allowed>>> {
        self.0.subscribe()
    }

    /// What is asked now.
    pub fn allowed(&self) -> Option<Arc<Allowed>> {
        self.0.borrow().clone()
    }

    /// What is asked from now on; whoever listens hears of it if it is news.
    pub fn set(&self, allowed: Option<Arc<Allowed>>) {
        let is = |one: &Option<Arc<Allowed>>| {
            let horizon = |allowed: &Arc<Allowed>| allowed.snapshot.horizon();
            (one.as_ref().map(|one| one.wanted), one.as_ref().map(horizon))
        };
        self.0.send_if_modified(|present| {
            let news = is(present) != is(&allowed);
            *present = allowed;
            news
        });
    }
}

/// The life of a probe leaf: short, as far as the profile allows.
pub fn life(profile: &LeafProfile) -> Duration {
    let settings = profile.settings();
    PROBE_LIFE.clamp(settings.ttl_min, settings.ttl_max)
}

/// The root that proxies have to be seen to verify before the trust gate opens, if the rotation waits there and policy asks for it.
pub fn wanted(state: &State, policy: ProbePolicy) -> Option<RootId> {
    let (from, to) = state.phase.changes()?;
    if !state.phase.gate_name().is_some_and(GateName::waits_for_activation) {
        return None;
    }
    let asks = match policy {
        ProbePolicy::Never => false,
        ProbePolicy::Always => true,
        ProbePolicy::NewAlgorithms => {
            let [known, brought] = [from, to].map(|root| state.roots.get(&root).map(algorithms));
            !brought.unwrap_or_default().is_subset(&known.unwrap_or_default())
        }
    };
    asks.then_some(to)
}

/// What a peer has to verify under a root: signatures by its key, and by those of its issuers. A certificate that cannot be read is
/// an algorithm of its own, so that it is asked for.
fn algorithms(entry: &RootEntry) -> BTreeSet<Option<KeyKind>> {
    let issuers = entry.issuers.values().filter_map(|issuer| issuer.chain.first());
    let kind = |der: &rotation::Der| {
        let certificate = Certificate::parse(der.as_bytes()).ok()?;
        PublicKey::parse(certificate.spki_der()).ok().map(|key| key.kind())
    };
    std::iter::once(&entry.der).chain(issuers).map(kind).collect()
}
