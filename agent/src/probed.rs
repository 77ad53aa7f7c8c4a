//! What is asked of the proxies of this agent, and what was seen of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::banyan::agent::v1 as wire;
use tokio::sync::watch;
use trust::{RootId, Sequence, SpiffeId};

use crate::leaf::Leaf;

/// The leaves of identities that have listeners.
pub(crate) type Listened = BTreeMap<SpiffeId, Arc<Leaf>>;

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

/// Takes what the CA says that it wants; nothing any more when it says no bundle.
pub(crate) fn heard(said: &wire::Probe, present: &watch::Sender<Option<Wanted>>) {
    let root = RootId::from_bytes(&said.root).filter(|_| said.sequence > 0);
    let wanted = root.map(|root| Wanted { sequence: Sequence(said.sequence), root });
    present.send_if_modified(|present| std::mem::replace(present, wanted) != wanted);
}
