//! What is counted of calls to other servers.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Counters of one server. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct PeerCounters {
    calls: Family<CallLabel, Counter>,
    forgotten: Counter,
    unmatched: Counter,
}

/// Labels `replica`, `call` and `result`: a server of the CA, and one of few words each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabel {
    replica: String,
    call: &'static str,
    result: &'static str,
}

impl PeerCounters {
    /// Adds them to what a scraper is told.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Calls to other servers of this CA, by what was asked and what became of it";
        registry.register("peer_calls", help, self.calls.clone());
        let help = "Statements of agents about leaves of other servers that were not kept, since there were too many";
        registry.register("peer_statements_forgotten", help, self.forgotten.clone());
        let help = "Leaves issued for one of another server that could not be asked about it";
        registry.register("leaves_issued_unmatched", help, self.unmatched.clone());
    }

    /// Counts a call.
    pub fn called(&self, replica: &str, call: &'static str, result: &'static str) {
        let replica = replica.to_owned();
        self.calls.get_or_create(&CallLabel { replica, call, result }).inc();
    }

    /// Counts a statement that is not passed on.
    pub fn forgot(&self) {
        self.forgotten.inc();
    }

    /// Counts a leaf that was issued for one whose row nobody could be asked for.
    pub fn issued_unmatched(&self) {
        self.unmatched.inc();
    }

    /// Statements that were not passed on.
    pub fn forgotten(&self) -> u64 {
        self.forgotten.get()
    }

    /// Calls to a server that ended so.
    pub fn calls(&self, replica: &str, call: &'static str, result: &'static str) -> u64 {
        let label = CallLabel { replica: replica.to_owned(), call, result };
        self.calls.get(&label).map_or(0, |counter| counter.get())
    }
}
