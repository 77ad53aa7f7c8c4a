//! Chains of CAs: downstream CAs, for whom its gates wait, and upstream CAs, whose rotations this one follows.
//!
//! Downstream: [`Downstreams`] holds what each downstream CA reported, and makes of it what gates count. Upstream: [`follower`]
//! watches the upstream CA, [`decide`] says what its state asks for here, and [`report`] what may be told there.

pub mod decide;
pub mod downstream;
pub mod follower;
pub mod report;

use std::collections::{BTreeMap, BTreeSet};

use plugins::UpstreamState;
use rotation::{Phase, State};
use tokio::sync::watch;
use trust::RootId;

pub use downstream::Downstreams;

/// What the upstream CAs said last, by the name of their authority; nothing until they answered this process.
#[derive(Clone, Debug, Default)]
pub struct Upstreams(pub BTreeMap<String, watch::Receiver<Option<UpstreamState>>>);

impl Upstreams {
    /// Whether the roots of this authority belong to an upstream CA.
    pub fn has(&self, authority: &str) -> bool {
        self.0.contains_key(authority)
    }

    /// What the upstream CA said last.
    pub fn upstream(&self, authority: &str) -> Option<Upstream> {
        Upstream::of(self.0.get(authority)?.borrow().as_ref()?)
    }

    /// Roots of upstream CAs that are no longer in the bundle there: nobody issues or lives under them any more.
    pub fn let_go(&self, state: &State) -> BTreeSet<RootId> {
        let gone = |(name, upstream): (&String, Upstream)| -> Vec<RootId> {
            let ours = state.roots.iter().filter(|(_, entry)| entry.authority.as_str() == name);
            ours.map(|(id, _)| *id).filter(|id| !upstream.roots.contains(id)).collect()
        };
        self.0.keys().filter_map(|name| Some((name, self.upstream(name)?))).flat_map(gone).collect()
    }

    /// The authority whose rotation the present one follows, if it follows one.
    pub fn followed<'s>(&self, state: &'s State) -> Option<&'s str> {
        let of = |root: &RootId| state.roots.get(root).map(|entry| entry.authority.as_str());
        let name = match &state.phase {
            Phase::Staging(phase) => {
                of(&phase.from).filter(|name| *name == phase.rotation.authority.as_str())
            }
            Phase::Distributing(phase) => {
                of(&phase.from).filter(|name| of(&phase.to) == Some(*name))
            }
            Phase::Canary(phase) => of(&phase.from).filter(|name| of(&phase.to) == Some(*name)),
            Phase::Draining(phase) => of(&phase.from).filter(|name| of(&phase.to) == Some(*name)),
            Phase::Uninitialised
            | Phase::Bootstrapping(_)
            | Phase::Steady(_)
            | Phase::Withdrawing(_) => None,
        };
        name.filter(|name| self.has(name))
    }
}

/// What an upstream CA stands for, by the ids of its roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its bundle.
    pub sequence: u64,
    /// The roots in that.
    pub roots: BTreeSet<RootId>,
    /// The root that signs there.
    pub signing: RootId,
    /// The generation of its record.
    pub generation: u64,
}

impl Upstream {
    fn of(state: &UpstreamState) -> Option<Self> {
        let roots: BTreeSet<_> = state.roots.iter().map(|der| RootId::of(der)).collect();
        let (sequence, signing, generation) = (state.sequence, state.signing, state.generation);
        roots.contains(&signing).then_some(Self { sequence, roots, signing, generation })
    }

    /// Roots that the record here never had.
    pub fn new_roots(&self, state: &State) -> Vec<RootId> {
        self.roots.iter().filter(|id| !state.roots.contains_key(id)).copied().collect()
    }
}
