//! Whether this agent's own proxies can verify the root that shall sign: it shakes hands with their listeners, twice.
//!
//! What is presented first is a leaf that the proxy trusts already, then one of the root that shall sign. Only the difference between
//! the two says anything of the proxy; a listener that does not even take the first tells nothing.

mod handshake;
mod prober;

use proto::banyan::agent::v1 as wire;
use trust::{RootId, Sequence};

pub(crate) use prober::{Listened, Prober};

/// What the CA asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The bundle that brings the root.
    pub(crate) sequence: Sequence,
    /// The root that shall sign.
    pub(crate) root: RootId,
}

/// What was seen at the listeners of one identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The bundle that was in force.
    pub(crate) sequence: Sequence,
    /// What came of it.
    pub(crate) outcome: Outcome,
    /// Which listener, and what it said; empty where all is well.
    pub(crate) detail: String,
}

/// What came of shaking hands with all listeners of an identity; the worst of them, least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// Some took the first leaf and not the second.
    Unable,
    /// Nothing yet.
    #[default]
    Nothing,
    /// Some tell nothing.
    NotProbeable,
    /// All took both.
    Observed,
}

impl Outcome {
    pub(crate) const fn wire(self) -> wire::ProbeOutcome {
        match self {
            Self::Nothing => wire::ProbeOutcome::Unspecified,
            Self::NotProbeable => wire::ProbeOutcome::NotProbeable,
            Self::Unable => wire::ProbeOutcome::Unable,
            Self::Observed => wire::ProbeOutcome::Observed,
        }
    }
}

/// What the CA says that it wants; nothing any more when it says no bundle.
pub(crate) fn wanted(said: &wire::Probe) -> Option<Wanted> {
    let root = RootId::from_bytes(&said.root)?;
    (said.sequence > 0).then_some(Wanted { sequence: Sequence(said.sequence), root })
}
