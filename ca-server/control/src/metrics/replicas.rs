//! What a scraper is told of the servers of a CA.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// What is so of them now. A server that is the only one of its CA shows itself, and no lease.
#[derive(Default)]
pub struct LiveReplicas {
    /// How many servers stand so.
    pub replicas: Family<StandingLabel, Gauge>,
    /// What is left of this server's lease.
    pub lease_left: Family<ReplicaLabel, Gauge<f64, AtomicU64>>,
    /// Since when the report of a server was seen.
    pub report_age: Family<ReplicaLabel, Gauge<f64, AtomicU64>>,
    /// What agents said of leaves of other servers, and is kept for those.
    pub statements_kept: Gauge,
}

/// Label `standing`: `starting`, `serving`, `draining`, `stopped`, or `silent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StandingLabel {
    /// The word.
    pub standing: &'static str,
}

/// Label `replica`: the name of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReplicaLabel {
    /// The name.
    pub replica: String,
}

impl LiveReplicas {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Servers of this CA that are known, by what they do";
        registry.register("replicas", help, self.replicas.clone());
        let help = "What is left of the lease of this server; absent where it is the only one";
        registry.register_with_unit(
            "replica_lease_left",
            help,
            Unit::Seconds,
            self.lease_left.clone(),
        );
        let help = "Time since the report of another server on its rows was seen to be renewed";
        registry.register_with_unit(
            "replica_report_age",
            help,
            Unit::Seconds,
            self.report_age.clone(),
        );
        let help = "What agents said of leaves of other servers, kept to be passed on";
        registry.register("peer_statements_kept", help, self.statements_kept.clone());
    }
}
