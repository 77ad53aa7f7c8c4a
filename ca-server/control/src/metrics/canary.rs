//! What a scraper is told of a canary.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// What all servers see of its cohort, as far as this one knows. Without a canary there is nothing.
#[derive(Default)]
pub struct LiveCanary {
    /// The share of all workloads that it is asked for.
    pub share: Family<NewRootLabel, Gauge<f64, AtomicU64>>,
    /// Leaves of the cohort, by where they stand.
    pub leaves: Family<LeavesLabel, Gauge>,
    /// What goes wrong, as a part of what could.
    pub trouble: Family<TroubleLabel, Gauge<f64, AtomicU64>>,
    /// Above which part it is held.
    pub limit: Family<NewRootLabel, Gauge<f64, AtomicU64>>,
    /// Whether it is held for what went wrong.
    pub held: Family<NewRootLabel, Gauge>,
}

/// Label `root`: fingerprint of the root that comes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct NewRootLabel {
    /// The fingerprint.
    pub root: String,
}

/// Label `standing`: `taken`, `waiting` or `silent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LeavesLabel {
    /// The word.
    pub standing: &'static str,
}

/// Label `kind`: `issue_errors`, `refused`, `unable` or `handshakes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TroubleLabel {
    /// The word.
    pub kind: &'static str,
}

impl LiveCanary {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help =
            "The share of all workloads that the canary is asked for; absent without a canary";
        registry.register_with_unit(
            "canary_share",
            help,
            Unit::Other("ratio".to_owned()),
            self.share.clone(),
        );
        let help = "Leaves of the canary's cohort; absent without a canary";
        registry.register("canary_leaves", help, self.leaves.clone());
        let help = "What goes wrong with leaves of the new root, by kind, as a part of what could";
        registry.register_with_unit(
            "canary_trouble",
            help,
            Unit::Other("ratio".to_owned()),
            self.trouble.clone(),
        );
        let help = "Above which part of any kind the canary is held; absent without a canary";
        registry.register_with_unit(
            "canary_limit",
            help,
            Unit::Other("ratio".to_owned()),
            self.limit.clone(),
        );
        let help = "Whether the canary is held for what went wrong; absent without a canary";
        registry.register("canary_held", help, self.held.clone());
    }

    pub(crate) fn clear(&self) {
        self.share.clear();
        self.leaves.clear();
        self.trouble.clear();
        self.limit.clear();
        self.held.clear();
    }
}
