//! What a rotation takes from phase to phase.

use serde::{Deserialize, Serialize};
use trust::{Cohort, Generation, RootId, Sequence, Timestamp};

use crate::codec;
use crate::{AuthorityName, RequestId, SegmentId};

/// What a rotation keeps from its first phase to its last.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Rotation {
    /// Who requested it. What is asked of the authority carries this id, so that asking again makes nothing twice.
    pub request_id: RequestId,
    /// Who makes and holds the new root.
    pub authority: AuthorityName,
    /// Who lets the new root sign once the trust gate is open.
    pub mode: Mode,
    /// When it was requested.
    #[serde(with = "codec::seconds")]
    pub requested_at: Timestamp,
    /// A root that was named for its return: it may be the new root although it was withdrawn before, or has the key and
    /// the name of a known one.
    #[serde(default, with = "codec::optional_text", skip_serializing_if = "Option::is_none")]
    pub stage_again: Option<RootId>,
    /// Since when it is held, if it is: no phase ends by itself then.
    #[serde(with = "codec::optional_seconds")]
    pub held_since: Option<Timestamp>,
    /// For whom the new root signs first, if not for everybody at once. Records of former releases have none.
    #[serde(default, with = "codec::optional_text", skip_serializing_if = "Option::is_none")]
    pub canary: Option<Cohort>,
}

/// Who lets the new root sign once the trust gate is open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The machine does, as soon as it may.
    Auto,
    /// An operator does, by [`ActivateRequested`](crate::Event::ActivateRequested).
    Manual,
    /// Nobody: once everybody trusts it, it stays trusted and does not sign, for the day on which it is needed. The same for
    /// the removal of such a root.
    Standby,
}

/// Whose uptime a settle time is counted on, while several replicas report.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Observer {
    /// The segment of the driver that saw it begin.
    pub segment: SegmentId,
    /// When that was by the wall clock, for whoever cannot read that uptime.
    #[serde(with = "codec::seconds")]
    pub since: Timestamp,
}

/// A bundle, and the generation of the record that decided it: whoever serves that generation serves that bundle or
/// a later one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct BundleChange {
    /// The bundle's sequence.
    #[serde(with = "codec::sequence")]
    pub sequence: Sequence,
    /// The generation.
    #[serde(with = "codec::generation")]
    pub generation: Generation,
}
