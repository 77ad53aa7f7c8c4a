//! The agent of a node: which one, and what it has beside the parts of every agent.

use std::sync::Arc;

use tokio::sync::watch;
use trust::TrustDomain;

use crate::config::NodeConfig;
use crate::pods::{Layout, Place, PodWatch, View, own_place};
use crate::sds::attest::Attestor;
use crate::sds::socket::PodCallers;

/// What an agent of a node has beside the parts of every agent.
#[derive(Debug)]
pub(crate) struct OfNode {
    name: String,
    layout: Layout,
    own: Place,
    pods: watch::Receiver<Arc<View>>,
    pub(crate) watch: PodWatch,
}

impl OfNode {
    /// # Errors
    /// A sentence, where it is not known of which node it is, or where it runs.
    pub(crate) fn of(node: &NodeConfig, trust_domain: &TrustDomain) -> Result<Self, String> {
        let (name, layout) = (node.name()?, node.layout.clone());
        let own = own_place(&layout)
            .map_err(|error| format!("it cannot be read where this agent runs: {error}"))?;
        let (to, pods) = watch::channel(Arc::default());
        let access = node.access.clone();
        let watch = PodWatch::new(name.clone(), trust_domain.clone(), access, to);
        Ok(Self { name, layout, own, pods, watch })
    }

    pub(crate) fn pods(&self) -> watch::Receiver<Arc<View>> {
        self.pods.clone()
    }

    pub(crate) fn callers(&self, connections: usize) -> PodCallers {
        let (layout, own) = (self.layout.clone(), self.own.clone());
        PodCallers { connections, layout, own, pods: self.pods() }
    }

    pub(crate) fn attestor(&self) -> Attestor {
        Attestor::Pods { node: self.name.clone(), pods: self.pods() }
    }
}
