//! What others ask of phases and states of roots. Each answer names every case: whoever adds a phase decides here what it
//! means to everybody else, and nobody takes it for something that it is not.

use trust::Timestamp;

use crate::evidence::GateName;
use crate::{Canary, Draining, Phase, Policy, RootState, Staging, Steady};

impl Phase {
    /// Whether no root was ever asked for.
    pub const fn is_uninitialised(&self) -> bool {
        match self {
            Self::Uninitialised => true,
            Self::Bootstrapping(_)
            | Self::Steady(_)
            | Self::Staging(_)
            | Self::Distributing(_)
            | Self::Canary(_)
            | Self::Draining(_)
            | Self::Withdrawing(_) => false,
        }
    }

    /// Whether a root signs and nothing about roots is under way.
    pub const fn is_steady(&self) -> bool {
        self.steady().is_some()
    }

    /// The rest between two rotations, if nothing about roots is under way.
    pub const fn steady(&self) -> Option<&Steady> {
        match self {
            Self::Steady(steady) => Some(steady),
            Self::Uninitialised
            | Self::Bootstrapping(_)
            | Self::Staging(_)
            | Self::Distributing(_)
            | Self::Canary(_)
            | Self::Draining(_)
            | Self::Withdrawing(_) => None,
        }
    }

    /// When the gate of this phase gives up on whoever does not move, if it ever does.
    pub fn gives_up_at(&self, policy: &Policy) -> Option<Timestamp> {
        match self {
            Self::Withdrawing(withdrawing) => Some(withdrawing.gives_up_at(policy)),
            Self::Uninitialised
            | Self::Bootstrapping(_)
            | Self::Steady(_)
            | Self::Staging(_)
            | Self::Distributing(_)
            | Self::Canary(_)
            | Self::Draining(_) => None,
        }
    }

    /// The making of a new root, if one is being made.
    pub const fn staging(&self) -> Option<&Staging> {
        match self {
            Self::Staging(staging) => Some(staging),
            Self::Uninitialised
            | Self::Bootstrapping(_)
            | Self::Steady(_)
            | Self::Distributing(_)
            | Self::Canary(_)
            | Self::Draining(_)
            | Self::Withdrawing(_) => None,
        }
    }

    /// The wait for the last leaf of the root that goes, if that is what is waited for.
    pub const fn draining(&self) -> Option<&Draining> {
        match self {
            Self::Draining(draining) => Some(draining),
            Self::Uninitialised
            | Self::Bootstrapping(_)
            | Self::Steady(_)
            | Self::Staging(_)
            | Self::Distributing(_)
            | Self::Canary(_)
            | Self::Withdrawing(_) => None,
        }
    }

    /// The time in which the new root signs for a cohort, if that is now.
    pub const fn canary(&self) -> Option<&Canary> {
        match self {
            Self::Canary(canary) => Some(canary),
            Self::Uninitialised
            | Self::Bootstrapping(_)
            | Self::Steady(_)
            | Self::Staging(_)
            | Self::Distributing(_)
            | Self::Draining(_)
            | Self::Withdrawing(_) => None,
        }
    }

    /// Whether the root that goes is the new one, since an operator rolled back.
    pub const fn is_rolled_back(&self) -> bool {
        match self {
            Self::Draining(draining) => draining.rolled_back,
            Self::Uninitialised
            | Self::Bootstrapping(_)
            | Self::Steady(_)
            | Self::Staging(_)
            | Self::Distributing(_)
            | Self::Canary(_)
            | Self::Withdrawing(_) => false,
        }
    }

    /// The gate that it ends at, if it ends at one.
    pub const fn gate_name(&self) -> Option<GateName> {
        match self {
            Self::Distributing(_) => Some(GateName::Trust),
            Self::Canary(_) => Some(GateName::Canary),
            Self::Draining(_) => Some(GateName::Leaves),
            Self::Withdrawing(_) => Some(GateName::Converged),
            Self::Uninitialised | Self::Bootstrapping(_) | Self::Steady(_) | Self::Staging(_) => {
                None
            }
        }
    }

    /// Whether the root that goes and the one that stays are both in the bundle.
    pub const fn trusts_both(&self) -> bool {
        match self {
            Self::Distributing(_) | Self::Canary(_) | Self::Draining(_) => true,
            Self::Uninitialised
            | Self::Bootstrapping(_)
            | Self::Steady(_)
            | Self::Staging(_)
            | Self::Withdrawing(_) => false,
        }
    }

    /// Whether a root that its authority signs with and that is new here is about to be taken over, by a rotation that is
    /// being staged or may begin at once.
    pub const fn takes_over_new_roots(&self) -> bool {
        match self {
            Self::Steady(_) | Self::Staging(_) => true,
            Self::Uninitialised
            | Self::Bootstrapping(_)
            | Self::Distributing(_)
            | Self::Canary(_)
            | Self::Draining(_)
            | Self::Withdrawing(_) => false,
        }
    }
}

impl RootState {
    /// Whether a root in this state has left the bundle, or its rotation was given up before it came in.
    pub const fn is_retired(self) -> bool {
        match self {
            Self::Retired => true,
            Self::Staged | Self::Published | Self::Canary | Self::Active | Self::Draining => false,
        }
    }

    /// Whether a root in this state may come to sign by a rotation, and has not yet.
    pub const fn is_on_its_way_in(self) -> bool {
        match self {
            Self::Staged | Self::Published => true,
            Self::Canary | Self::Active | Self::Draining | Self::Retired => false,
        }
    }

    /// Whether a root in this state is trusted and on its way out.
    pub const fn is_draining(self) -> bool {
        match self {
            Self::Draining => true,
            Self::Staged | Self::Published | Self::Canary | Self::Active | Self::Retired => false,
        }
    }

    /// Whether a root in this state is trusted and not on its way out: what is signed under it now lasts.
    pub const fn stays(self) -> bool {
        match self {
            Self::Published | Self::Canary | Self::Active => true,
            Self::Staged | Self::Draining | Self::Retired => false,
        }
    }
}
