//! Tiers: CAs below this one, for whom its gates wait, and a CA above it, whose rotations it follows.
//!
//! Towards below: [`Below`] holds what each tier reported, and makes of it what gates count. Towards above: [`follower`]
//! watches the tier above, [`steer`] says what its state asks for here, and [`report`] what may be told there.

pub(crate) mod below;
pub(crate) mod follower;
pub(crate) mod report;
pub(crate) mod steer;

use std::collections::{BTreeMap, BTreeSet};

use plugins::UpperState;
use rotation::{Phase, State};
use tokio::sync::watch;
use trust::RootId;

pub(crate) use below::Below;

/// What the tiers above said last, by the name of their authority; nothing until they answered this process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Above(pub(crate) BTreeMap<String, watch::Receiver<Option<UpperState>>>);

impl Above {
    /// Whether the roots of this authority belong to a tier above.
    pub(crate) fn has(&self, authority: &str) -> bool {
        self.0.contains_key(authority)
    }

    /// What the tier above said last.
    pub(crate) fn upper(&self, authority: &str) -> Option<Upper> {
        Upper::of(self.0.get(authority)?.borrow().as_ref()?)
    }

    /// Roots of tiers above that are no longer in the bundle there: nobody issues or lives under them any more.
    pub(crate) fn let_go(&self, state: &State) -> BTreeSet<RootId> {
        let gone = |(name, upper): (&String, Upper)| -> Vec<RootId> {
            let ours = state.roots.iter().filter(|(_, entry)| entry.authority.as_str() == name);
            ours.map(|(id, _)| *id).filter(|id| !upper.roots.contains(id)).collect()
        };
        self.0.keys().filter_map(|name| Some((name, self.upper(name)?))).flat_map(gone).collect()
    }

    /// The authority whose rotation the present one follows, if it follows one.
    pub(crate) fn followed<'s>(&self, state: &'s State) -> Option<&'s str> {
        let of = |root: &RootId| state.roots.get(root).map(|entry| entry.authority.as_str());
        let name = match &state.phase {
            Phase::Staging(phase) => {
                of(&phase.from).filter(|name| *name == phase.rotation.authority.as_str())
            }
            Phase::Distributing(phase) => of(&phase.from).filter(|name| of(&phase.to) == Some(*name)),
            Phase::Draining(phase) => of(&phase.from).filter(|name| of(&phase.to) == Some(*name)),
            _ => None,
        };
        name.filter(|name| self.has(name))
    }
}

/// What a tier above stands for, by the ids of its roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upper {
    pub(crate) sequence: u64,
    pub(crate) roots: BTreeSet<RootId>,
    pub(crate) signing: RootId,
    pub(crate) generation: u64,
}

impl Upper {
    fn of(state: &UpperState) -> Option<Self> {
        let roots: BTreeSet<_> = state.roots.iter().map(|der| RootId::of(der)).collect();
        let (sequence, signing, generation) = (state.sequence, state.signing, state.generation);
        roots.contains(&signing).then_some(Self { sequence, roots, signing, generation })
    }

    /// Roots that the record here never had.
    pub(crate) fn new_roots(&self, state: &State) -> Vec<RootId> {
        self.roots.iter().filter(|id| !state.roots.contains_key(id)).copied().collect()
    }
}
