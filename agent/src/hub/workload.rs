//! One configured identity and its leaf.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proto::banyan::agent::v1 as wire;
use trust::{Bundle, SpiffeId};

use crate::backoff::Backoff;
use crate::ca_client::CallError;
use crate::config::AgentConfig;
use crate::first_contact::FirstContactError;
use crate::in_flight::UnderWay;
use crate::key::{KeyError, PrivateKey};
use crate::leaf::Leaf;

/// A leaf that was asked for without a promise is replaced by a promised one, once nobody needs it so, after this time.
const PROMISE_AGAIN: Duration = Duration::from_secs(10);

/// One configured identity.
#[derive(Debug, Default)]
pub(super) struct Workload {
    pub(super) prewarm: bool,
    pub(super) leaf: Option<Arc<Leaf>>,
    /// Whether anybody was ever handed the present leaf.
    pub(super) handed_over: bool,
    pub(super) renew_at_millis: i64,
    pub(super) issuing: bool,
    pub(super) backoff: Backoff,
    /// Uptime before which no attempt is made.
    pub(super) not_before: Duration,
    /// Uptime until which a one-shot caller is expected back.
    pub(super) wanted_until: Duration,
    /// Uptime at which the present leaf came.
    pub(super) came_at: Duration,
    pub(super) received: u64,
    pub(super) last_error: Option<String>,
}

/// What came of asking for a leaf.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) asked: Asked,
    pub(super) result: Result<(Arc<PrivateKey>, wire::IssueResponse), IssueError>,
    /// Kept until the leaf is in its place.
    pub(super) _under_way: UnderWay,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) identity: SpiffeId,
    /// Whether it was promised that the leaf goes only to holders that acknowledged.
    pub(super) promised: bool,
    /// The bundle that was stored then.
    pub(super) stored: Bundle,
    /// What was seen at its holders' listeners, if they have any.
    pub(super) listening: Option<wire::Listening>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum IssueError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Call(#[from] CallError),
    /// What proves the node of the agent cannot be read.
    #[error(transparent)]
    Proof(FirstContactError),
    /// The CA has a newer bundle than was stored when it was asked; this is what the way to it led to.
    #[error("the CA has a newer bundle, and no way leads there from the one that is stored: {}", .0.as_ref().err().map(ToString::to_string).unwrap_or_default())]
    Behind(Result<Bundle, FirstContactError>),
}

pub(super) fn configured(config: &AgentConfig) -> BTreeMap<SpiffeId, Workload> {
    let mut all: BTreeMap<SpiffeId, Workload> = BTreeMap::new();
    for workload in &config.workloads {
        all.entry(workload.spiffe_id.clone()).or_default().prewarm |= workload.prewarm;
    }
    all
}

impl Workload {
    /// Leaves received after the first.
    pub(super) fn renewals(&self) -> u64 {
        self.received.saturating_sub(1)
    }

    /// Whether to ask now, for a leaf that may be promised to trusting holders or for one that may not.
    pub(super) fn due(&self, promise: bool, now_millis: i64, uptime: Duration) -> bool {
        let wanting = match self.leaf.as_ref().map(|leaf| leaf.held().promised) {
            None => true,
            Some(true) if !promise => true,
            Some(false) if promise && uptime >= self.came_at + PROMISE_AGAIN => true,
            Some(_) => now_millis >= self.renew_at_millis,
        };
        wanting && !self.issuing && uptime >= self.not_before
    }

    /// Says once why there is no leaf, and what that means for who wants one.
    pub(super) fn tell(&self, identity: &SpiffeId, error: &str) {
        match (self.last_error.as_deref() == Some(error), &self.leaf) {
            (true, _) => tracing::debug!(%identity, error, "no leaf still"),
            (false, Some(leaf)) => {
                let until = leaf.held().not_after;
                tracing::warn!(%identity, error, %until, "the leaf is not renewed; it is served until it ends");
            }
            (false, None) => tracing::warn!(%identity, error, "no leaf: who wants one waits"),
        }
    }

    pub(super) fn drop_leaf(&mut self) {
        self.leaf = None;
        self.handed_over = false;
    }
}
