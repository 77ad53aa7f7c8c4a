//! What is counted of clusters. Labels are names of the configuration, and words of a closed set.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper ends of the buckets, in seconds: 1 ms to 10 s.
const BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 10.0];

/// What became of a token: `good`, `refused` or `away`; of a saved review `remembered`, `joined` or `forged`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    cluster: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabel {
    cluster: String,
}

/// Counters of all clusters. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    reviews: Family<ResultLabel, Counter>,
    saved: Family<ResultLabel, Counter>,
    seconds: Family<ClusterLabel, Histogram, fn() -> Histogram>,
    key_sets: Family<ResultLabel, Counter>,
    pods: Family<ClusterLabel, Gauge>,
    synced: Family<ClusterLabel, Gauge>,
    relists: Family<ClusterLabel, Counter>,
}

/// Counters of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    all: Counters,
    cluster: String,
}

impl Default for Counters {
    fn default() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(BUCKETS);
        Self {
            reviews: Family::default(),
            saved: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            key_sets: Family::default(),
            pods: Family::default(),
            synced: Family::default(),
            relists: Family::default(),
        }
    }
}

impl Counters {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Tokens that a cluster was asked about, by what it said";
        registry.register("token_reviews", help, self.reviews.clone());
        let help = "Tokens that a cluster was not asked about, since the answer was remembered, another call waits for it, or it is a forgery";
        registry.register("token_reviews_saved", help, self.saved.clone());
        let help = "Time that a cluster took to answer about a token, waiting for a place included";
        registry.register_with_unit("token_review", help, Unit::Seconds, self.seconds.clone());
        let help = "Fetches of the key set of a cluster";
        registry.register("cluster_key_set_fetches", help, self.key_sets.clone());
        let help = "Pods of a cluster that are known to be scheduled";
        registry.register("cluster_pods", help, self.pods.clone());
        let help = "1 while the pods of a cluster are known, 0 while they are not, or too old";
        registry.register("cluster_pods_synced", help, self.synced.clone());
        let help = "Lists of all pods of a cluster, of which one is needed at the start and after each break of the watch";
        registry.register("cluster_pod_lists", help, self.relists.clone());
    }

    pub(crate) fn of(&self, cluster: &str) -> Counted {
        Counted { all: self.clone(), cluster: cluster.to_owned() }
    }
}

impl Counted {
    fn result(&self, result: &'static str) -> ResultLabel {
        ResultLabel { cluster: self.cluster.clone(), result }
    }

    fn label(&self) -> ClusterLabel {
        ClusterLabel { cluster: self.cluster.clone() }
    }

    pub(crate) fn reviewed(&self, result: &'static str, took: Duration) {
        self.all.reviews.get_or_create(&self.result(result)).inc();
        self.all.seconds.get_or_create(&self.label()).observe(took.as_secs_f64());
    }

    pub(crate) fn saved(&self, by: &'static str) {
        self.all.saved.get_or_create(&self.result(by)).inc();
    }

    pub(crate) fn fetched_keys(&self, result: &'static str) {
        self.all.key_sets.get_or_create(&self.result(result)).inc();
    }

    pub(crate) fn pods(&self, pods: usize) {
        self.all.pods.get_or_create(&self.label()).set(pods.try_into().unwrap_or(i64::MAX));
    }

    pub(crate) fn synced(&self, synced: bool) {
        self.all.synced.get_or_create(&self.label()).set(synced.into());
    }

    pub(crate) fn listed(&self) {
        self.all.relists.get_or_create(&self.label()).inc();
    }
}
