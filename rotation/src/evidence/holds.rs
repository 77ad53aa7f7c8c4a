//! What keeps a gate closed, what somebody can do about it, and when it ends by itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use trust::{RootId, Timestamp};

use super::words::{
    endless, holders, leaves, limited, own_trust, relying_parties, rounded_up, shown, unable,
};
use crate::codec;
use crate::{ReplicaName, SegmentId};

/// One thing that keeps a gate closed. Each `until` is the time at which it counts as over, by everybody's clock.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// Requests are still served from before the change.
    #[error("the change is not in force yet: {effect} is under way")]
    NotInForce {
        /// Name of the effect that is under way.
        effect: String,
    },
    /// A segment may hold rows that are not known.
    #[error("segment {segment} is not sealed and read since the change, until {until}")]
    Segment {
        /// The segment.
        segment: SegmentId,
        /// The last of its bounds that matters here.
        #[serde(with = "codec::seconds")]
        until: Timestamp,
    },
    /// A replica could not go on issuing under the root that shall sign.
    #[error("replica {replica} has no issuer under root {} yet, until {until}", root.short())]
    Issuer {
        /// The replica.
        replica: ReplicaName,
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// When it counts as gone, or is waited for no longer: then the root signs without it.
        #[serde(with = "codec::seconds")]
        until: Timestamp,
    },
    /// Holders of leaves have not applied the bundle.
    #[error("{} not applied the bundle, until {}", holders(*count), shown(*until))]
    Unproven {
        /// How many leaves.
        count: u64,
        /// The latest end among them.
        #[serde(with = "codec::optional_seconds")]
        until: Option<Timestamp>,
    },
    /// Holders take their leaves from agents, and their trust from elsewhere.
    #[error("{}, which nobody has confirmed{}", own_trust(*count), endless(*until))]
    OwnTrust {
        /// How many leaves.
        count: u64,
        /// When policy assumes their trust, or the gate gives up on them; `None` if neither is ever so.
        #[serde(with = "codec::optional_seconds")]
        until: Option<Timestamp>,
    },
    /// Proxies acknowledged the bundle and cannot verify what the new root signs.
    #[error("{}, and no time ends that", unable(*count))]
    Unable {
        /// How many leaves.
        count: u64,
    },
    /// Too few of those for whom the new root signs first have a leaf of it, or are there.
    #[error(
        "{taken} of {all} leaves of the cohort are of the new root and their holders there, at least half must be"
    )]
    Cohort {
        /// Leaves of the new root whose holders are there.
        taken: u64,
        /// Of how many leaves.
        all: u64,
    },
    /// Relying parties have not confirmed the bundle, and their staleness bounds are not over.
    #[error("{} not confirmed the bundle, until {}", relying_parties(*count, ["has", "have"]), shown(*until))]
    // Journals have the first name of this hold.
    #[serde(rename = "subscribers")]
    RelyingParties {
        /// How many.
        count: u64,
        /// The latest of their bounds.
        #[serde(with = "codec::optional_seconds")]
        until: Option<Timestamp>,
    },
    /// Relying parties that have no staleness bound have not confirmed.
    #[error("{} must confirm the bundle by name{}", relying_parties(*count, ["", ""]).trim_end(), limited(*until))]
    // Journals have the first name of this hold.
    #[serde(rename = "unbounded_subscribers")]
    UnboundedRelyingParties {
        /// How many.
        count: u64,
        /// When the gate gives up on them; `None` if it never does. Entries of former releases have none.
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            with = "codec::optional_seconds"
        )]
        until: Option<Timestamp>,
    },
    /// Leaves live under the root that shall go.
    #[error("{} alive under root {}, until {}", leaves(*count), root.short(), shown(*until))]
    Live {
        /// How many.
        count: u64,
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// The latest end among them.
        #[serde(with = "codec::optional_seconds")]
        until: Option<Timestamp>,
    },
    /// Others issue under the root too: what is known of their leaves is somebody's word that they stopped, and the longest
    /// life that a leaf of theirs has.
    #[error("leaves may be alive under root {}, which others share, until {}", root.short(), shown(*until))]
    Shared {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// The last end of their leaves, as was attested; `None` if nobody attested.
        #[serde(with = "codec::optional_seconds")]
        until: Option<Timestamp>,
    },
    /// Everything else is met, and those for whom the new root signs first are watched for a while.
    #[error("the cohort is well, and is watched for {} s more", rounded_up(*left))]
    Observing {
        /// How long.
        left: Duration,
    },
    /// Everything else is met; handshakes that began before may still be in flight.
    #[error("handshakes in flight, for {} s more", rounded_up(*left))]
    Settling {
        /// How long.
        left: Duration,
    },
}

impl Hold {
    /// What somebody can do about what no time ends; `None` for what ends by itself.
    pub fn way(&self) -> Option<String> {
        if !matches!(self.until(), Until::Never) {
            return None;
        }
        Some(match self {
            Self::Shared { root, .. } => format!(
                "once nobody else issues under root {0} any more, say so with `banyan root attest {0} --by NAME`",
                root.short()
            ),
            Self::OwnTrust { .. } => "let those holders take their roots from their agents, or cover them with `banyan \
                                      relying-party add NAME --covers SPIFFE_ID` and confirm for them with `banyan \
                                      relying-party confirm NAME`; those that a relying party covers already wait for \
                                      its word, and `banyan rotate explain` names it"
                .to_owned(),
            Self::Cohort { .. } => "wait until its members have renewed; if nobody is in it, or they are gone, let the new root sign \
                                    for more with `banyan rotate widen --canary SHARE`, for everybody with `banyan rotate activate`, \
                                    or take it back with `banyan rotate rollback`"
                .to_owned(),
            Self::Unable { .. } => "`banyan rotate explain` names them: replace each of those proxies by a version that verifies \
                                    the new algorithm, and the gate goes on by itself; or give the rotation up with `banyan \
                                    rotate abort`; or go on without them with `banyan waiver add NAME --covers SPIFFE_ID --lasts 7d \
                                    --reason TEXT --force`, and they break when the new root signs"
                .to_owned(),
            _ => "confirm each relying party that has the bundle with `banyan relying-party confirm NAME`, and remove one \
                  that is gone with `banyan relying-party remove NAME`; one named kubernetes/CHANNEL confirms by itself, \
                  and /readyz of `banyan kubernetes` says what it waits for; one named ca/NAME is a neighbor, and `banyan \
                  downstream list` says what that one waits for"
                .to_owned(),
        })
    }

    /// When it ends by itself at the latest.
    pub(super) fn until(&self) -> Until {
        match self {
            Self::NotInForce { .. } | Self::Settling { .. } | Self::Observing { .. } => Until::Soon,
            Self::Segment { until, .. } | Self::Issuer { until, .. } => Until::At(*until),
            Self::Unable { .. } | Self::Cohort { .. } => Until::Never,
            Self::Unproven { until, .. }
            | Self::OwnTrust { until, .. }
            | Self::RelyingParties { until, .. }
            | Self::UnboundedRelyingParties { until, .. }
            | Self::Live { until, .. }
            | Self::Shared { until, .. } => until.map_or(Until::Never, Until::At),
        }
    }
}

/// When it ends by itself at the latest.
pub(super) enum Until {
    /// Work of this process, or the settle time, which is added anyway.
    Soon,
    At(Timestamp),
    Never,
}
