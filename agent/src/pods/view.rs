//! The Pods of a node, as the API server told them last.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use trust::SpiffeId;

use super::cgroup::PodUid;

/// A Pod that has not ended. Whose it is never changes: one that is made anew has another UID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownPod {
    pub(crate) uid: PodUid,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Of its service account.
    pub(crate) identity: SpiffeId,
}

/// What is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) pods: BTreeMap<PodUid, Arc<KnownPod>>,
    /// Whether a list was ever read.
    pub(crate) listed: bool,
    /// Why what changes is not heard now, and what to do.
    pub(crate) trouble: Option<String>,
}

impl View {
    /// Whether any Pod has this identity.
    pub(crate) fn has(&self, identity: &SpiffeId) -> bool {
        self.pods.values().any(|pod| pod.identity == *identity)
    }
}

impl fmt::Display for KnownPod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
