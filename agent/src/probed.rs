//! What is asked of the proxies of this agent, and what was seen of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use proto::banyan::agent::v1 as wire;
use tokio::sync::watch;
use trust::{RootId, Sequence, SpiffeId};

use crate::config::{AdminAddress, Process};
use crate::leaf::Leaf;
use crate::status::ListenerStatus;

/// The leaves of identities that have listeners.
pub(crate) type Listened = BTreeMap<SpiffeId, Arc<Leaf>>;

/// Where Envoys say that they listen, by identity and admin endpoint. One that was not asked yet is not there.
pub(crate) type Found = BTreeMap<(SpiffeId, AdminAddress), Listens>;

/// Where one process listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listens {
    /// Listeners that can be probed.
    pub(crate) targets: Vec<Target>,
    /// Where there are none: why.
    pub(crate) why_none: String,
    /// Whether the process said so itself; else it does not answer.
    pub(crate) is_told: bool,
}

impl Listens {
    /// Of one whose answer is not here yet.
    pub(crate) fn not_asked() -> Self {
        Self::unanswered("it was not asked yet where it listens".to_owned())
    }

    /// Of one that gives no good answer.
    pub(crate) const fn unanswered(why_none: String) -> Self {
        Self { targets: Vec::new(), why_none, is_told: false }
    }

    /// Of one that says that it listens nowhere for us.
    pub(crate) const fn nowhere(why_none: String) -> Self {
        Self { targets: Vec::new(), why_none, is_told: true }
    }
}

/// One listener, and how it is knocked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    /// `host:port`.
    pub(crate) address: String,
    /// The server name to ask for, where it chooses by that.
    pub(crate) server_name: Option<String>,
    /// The protocols to offer, where it chooses by them.
    pub(crate) protocols: Vec<String>,
}

impl Target {
    pub(crate) const fn at(address: String) -> Self {
        Self { address, server_name: None, protocols: Vec::new() }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)?;
        match &self.server_name {
            Some(name) => write!(f, " (server name {name})"),
            None => Ok(()),
        }
    }
}

/// Where the processes of an identity listen, as far as it is known.
pub(crate) fn listeners(
    identity: &SpiffeId,
    processes: &[Process],
    found: &Found,
) -> Vec<ListenerStatus> {
    let of = |process: &Process| match process {
        Process::Listener(address) => {
            vec![ListenerStatus { address: Some(address.clone()), ..ListenerStatus::default() }]
        }
        Process::Envoy(envoy) => {
            let listens = found.get(&(identity.clone(), envoy.admin.clone())).cloned();
            let Listens { targets, why_none, .. } = listens.unwrap_or_else(Listens::not_asked);
            let learnt_from = Some(envoy.admin.to_string());
            let one = |target: Target| ListenerStatus {
                address: Some(target.to_string()),
                learnt_from: learnt_from.clone(),
                why_none: None,
            };
            match targets.is_empty() {
                true => {
                    let why_none = Some(why_none);
                    vec![ListenerStatus { address: None, learnt_from, why_none }]
                }
                false => targets.into_iter().map(one).collect(),
            }
        }
    };
    processes.iter().flat_map(of).collect()
}

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
