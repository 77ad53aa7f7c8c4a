//! Where the machine stands. The phases of a rotation lead from the request for a new root to the bundle without the old one.
//!
//! A phase names the root that signs next (`to`) and the one that drains (`from`); every other root in the record is
//! no concern of this rotation.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use trust::{Generation, RootId, Timestamp};

use crate::codec;
use crate::{AuthorityName, BundleChange, Canary, Observer, RequestId, Rotation};

/// Where the machine stands. Each phase keeps what only it needs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// No root was ever asked for.
    Uninitialised,
    /// First boot: the request for a root is stored, the root is not signing yet.
    // Records have the first name of this phase.
    #[serde(rename = "founding")]
    Bootstrapping(Bootstrapping),
    /// One root signs, and nothing about roots is under way.
    Steady(Steady),
    /// A rotation was asked for; its root is being made.
    Staging(Staging),
    /// The new root is in the bundle, the former one signs.
    Distributing(Distributing),
    /// The new root signs for a cohort, the former one for everybody else.
    Canary(Box<Canary>),
    /// The new root signs, leaves of the former one are alive.
    Draining(Draining),
    /// The former root has left the bundle.
    Withdrawing(Withdrawing),
}

/// The making of the first root. Stored before anything is asked of the authority.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Bootstrapping {
    /// Who requested it. Everything asked of the authority carries this id, so that asking again makes nothing twice.
    pub request_id: RequestId,
    /// Who makes and holds the root.
    pub authority: AuthorityName,
    /// When it was requested.
    #[serde(with = "codec::seconds")]
    pub requested_at: Timestamp,
    /// How far it got.
    pub step: BootstrapStep,
}

/// How far a bootstrap got.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootstrapStep {
    /// The authority was asked for a root.
    StagingRoot,
    /// The root is there; the authority was asked to sign an issuer.
    RequestingIssuer {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
    },
    /// Root and issuer are there; the first bundle is being published.
    Publishing {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
    },
}

/// Nothing about roots is under way.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Steady {
    /// Since when.
    #[serde(with = "codec::seconds")]
    pub since: Timestamp,
    /// What the last rotation came to, if there was one. Records of former releases have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// A rotation that is over.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// Who requested it.
    pub request_id: RequestId,
    /// What it came to.
    pub ending: Ending,
}

/// The new root is being made and verified. May last days at an authority that is offline.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Staging {
    /// The rotation.
    pub rotation: Rotation,
    /// The root that signs.
    #[serde(with = "codec::text")]
    pub from: RootId,
    /// How far it got.
    pub step: StagingStep,
}

/// How far a staging got.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StagingStep {
    /// The authority was asked for a root.
    StagingRoot,
    /// The root is there; the authority was asked to sign an issuer.
    RequestingIssuer {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
    },
    /// Root and issuer are there; the rotation is held.
    Ready {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
    },
}

/// Both roots are in the bundle, `from` signs. Ends at the trust gate.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Distributing {
    /// The rotation.
    pub rotation: Rotation,
    /// The root that signs.
    #[serde(with = "codec::text")]
    pub from: RootId,
    /// The root that shall sign.
    #[serde(with = "codec::text")]
    pub to: RootId,
    /// The bundle of both.
    pub bundle: BundleChange,
    /// When this phase began.
    #[serde(with = "codec::seconds")]
    pub since: Timestamp,
    /// Uptime of the driver at which the gate's conditions were first seen to hold.
    pub settling: Option<Duration>,
    /// Whose uptime that is. Records of former releases have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observer: Option<Observer>,
}

/// Both roots are in the bundle, `to` signs. Ends at the leaf gate.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Draining {
    /// The rotation.
    pub rotation: Rotation,
    /// The root whose leaves are to end.
    #[serde(with = "codec::text")]
    pub from: RootId,
    /// The root that signs.
    #[serde(with = "codec::text")]
    pub to: RootId,
    /// The bundle of both.
    pub bundle: BundleChange,
    /// Generation of the record since which `to` signs.
    #[serde(with = "codec::generation")]
    pub switched: Generation,
    /// Whether the former root signs again and the new one drains.
    pub rolled_back: bool,
    /// When this phase began.
    #[serde(with = "codec::seconds")]
    pub since: Timestamp,
    /// Uptime of the driver at which the gate's conditions were first seen to hold.
    pub settling: Option<Duration>,
    /// Whose uptime that is. Records of former releases have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observer: Option<Observer>,
}

/// How a rotation ends.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The new root signs, the former one is gone.
    #[default]
    Completed,
    /// It was given up: the new root, which never signed, is gone.
    Aborted,
    /// It was rolled back: the former root signs again, the new one is gone.
    RolledBack,
}

impl Ending {
    /// Whether it ends as it was meant to.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes by reference")]
    pub(crate) const fn is_completed(&self) -> bool {
        matches!(self, Self::Completed)
    }
}

/// `from` has left the bundle. Ends when nobody trusts it any more, or at a deadline.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Withdrawing {
    /// The rotation.
    pub rotation: Rotation,
    /// The root that is no longer trusted.
    #[serde(with = "codec::text")]
    pub from: RootId,
    /// The root that signs.
    #[serde(with = "codec::text")]
    pub to: RootId,
    /// The bundle without `from`.
    pub bundle: BundleChange,
    /// When this phase began.
    #[serde(with = "codec::seconds")]
    pub since: Timestamp,
    /// What it comes to. Records of former releases have none.
    #[serde(default, skip_serializing_if = "Ending::is_completed")]
    pub ending: Ending,
}

impl StagingStep {
    /// The root of this staging, once it was made.
    pub const fn root(&self) -> Option<RootId> {
        match self {
            Self::StagingRoot => None,
            Self::RequestingIssuer { root } | Self::Ready { root } => Some(*root),
        }
    }
}

impl Phase {
    /// The phase's name in texts, metrics and documents.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Uninitialised => "uninitialised",
            Self::Bootstrapping(_) => "bootstrapping",
            Self::Steady(_) => "steady",
            Self::Staging(_) => "staging",
            Self::Distributing(_) => "distributing",
            Self::Canary(_) => "canary",
            Self::Draining(_) => "draining",
            Self::Withdrawing(_) => "withdrawing",
        }
    }

    /// The rotation that is under way, if one is.
    pub const fn rotation(&self) -> Option<&Rotation> {
        match self {
            Self::Uninitialised | Self::Bootstrapping(_) | Self::Steady(_) => None,
            Self::Staging(staging) => Some(&staging.rotation),
            Self::Distributing(distributing) => Some(&distributing.rotation),
            Self::Canary(canary) => Some(&canary.rotation),
            Self::Draining(draining) => Some(&draining.rotation),
            Self::Withdrawing(withdrawing) => Some(&withdrawing.rotation),
        }
    }

    /// The root that goes and the one that stays, once both are decided.
    pub const fn changes(&self) -> Option<(RootId, RootId)> {
        match self {
            Self::Uninitialised | Self::Bootstrapping(_) | Self::Steady(_) | Self::Staging(_) => {
                None
            }
            Self::Distributing(distributing) => Some((distributing.from, distributing.to)),
            Self::Canary(canary) => Some((canary.from, canary.to)),
            Self::Draining(draining) => Some((draining.from, draining.to)),
            Self::Withdrawing(withdrawing) => Some((withdrawing.from, withdrawing.to)),
        }
    }

    /// What the last rotation came to, while no other one is under way.
    pub const fn ended(&self) -> Option<&Ended> {
        match self {
            Self::Steady(steady) => steady.ended.as_ref(),
            Self::Uninitialised
            | Self::Bootstrapping(_)
            | Self::Staging(_)
            | Self::Distributing(_)
            | Self::Canary(_)
            | Self::Draining(_)
            | Self::Withdrawing(_) => None,
        }
    }

    /// What the rotation that is under way is certain to come to, if it is not what was asked for.
    pub fn given_up(&self) -> Option<Ending> {
        let ending = match self {
            Self::Uninitialised | Self::Bootstrapping(_) | Self::Steady(_) => return None,
            Self::Staging(_) | Self::Distributing(_) | Self::Canary(_) => Ending::Completed,
            Self::Draining(draining) if draining.rolled_back => Ending::RolledBack,
            Self::Draining(_) => Ending::Completed,
            Self::Withdrawing(withdrawing) => withdrawing.ending,
        };
        Some(ending).filter(|ending| *ending != Ending::Completed)
    }

    /// When this phase began; for the making of a root, when the root was asked for.
    pub const fn since(&self) -> Option<Timestamp> {
        Some(match self {
            Self::Uninitialised => return None,
            Self::Bootstrapping(bootstrap) => bootstrap.requested_at,
            Self::Steady(steady) => steady.since,
            Self::Staging(staging) => staging.rotation.requested_at,
            Self::Distributing(distributing) => distributing.since,
            Self::Canary(canary) => canary.since,
            Self::Draining(draining) => draining.since,
            Self::Withdrawing(withdrawing) => withdrawing.since,
        })
    }

    /// The change after which each segment has to be sealed and read before this phase can end.
    pub const fn decided_at(&self) -> Option<Generation> {
        match self {
            Self::Uninitialised | Self::Bootstrapping(_) | Self::Steady(_) | Self::Staging(_) => {
                None
            }
            Self::Distributing(distributing) => Some(distributing.bundle.generation),
            // Who trusts what is as it was.
            Self::Canary(canary) => Some(canary.bundle.generation),
            Self::Draining(draining) => Some(draining.switched),
            Self::Withdrawing(withdrawing) => Some(withdrawing.bundle.generation),
        }
    }

    pub(crate) const fn rotation_mut(&mut self) -> Option<&mut Rotation> {
        match self {
            Self::Uninitialised | Self::Bootstrapping(_) | Self::Steady(_) => None,
            Self::Staging(staging) => Some(&mut staging.rotation),
            Self::Distributing(distributing) => Some(&mut distributing.rotation),
            Self::Canary(canary) => Some(&mut canary.rotation),
            Self::Draining(draining) => Some(&mut draining.rotation),
            Self::Withdrawing(withdrawing) => Some(&mut withdrawing.rotation),
        }
    }

    /// Where it stands since when a gate's conditions hold and on whose uptime that is counted, in phases that end at a
    /// gate with a settle time.
    pub(crate) const fn settling_mut(
        &mut self,
    ) -> Option<(&mut Option<Duration>, &mut Option<Observer>)> {
        match self {
            Self::Distributing(phase) => Some((&mut phase.settling, &mut phase.observer)),
            Self::Canary(phase) => Some((&mut phase.settling, &mut phase.observer)),
            Self::Draining(phase) => Some((&mut phase.settling, &mut phase.observer)),
            Self::Uninitialised
            | Self::Bootstrapping(_)
            | Self::Steady(_)
            | Self::Staging(_)
            | Self::Withdrawing(_) => None,
        }
    }
}
