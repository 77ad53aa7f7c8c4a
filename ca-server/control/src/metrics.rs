//! What the CA tells a scraper. Labels come from closed sets, or name a root or issuer of the record.

pub mod canary;
pub mod crl;
pub mod replicas;

use std::fmt::{self, Write as _};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::metered::AuthorityCalls;
use crate::peers::counters::PeerCounters;
use canary::LiveCanary;
use replicas::LiveReplicas;

/// Upper ends of the latency histogram's buckets, in seconds: 0.1 ms to 10 s.
const LATENCY_BUCKETS: [f64; 16] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0,
];

/// Reads the gauges off a server.
type Refresh = Box<dyn Fn(&Live) + Send>;

/// The metrics of one server.
pub struct Metrics {
    registry: Registry,
    issue_seconds: Family<CallerLabel, Histogram, fn() -> Histogram>,
    refused: Family<ReasonLabel, Counter>,
    shortened: Family<LimitLabel, Counter>,
    issued: Counter,
    refused_all: Counter,
    connections_cut: Family<CutLabel, Counter>,
    unsent_bytes: Family<PortLabel, Gauge>,
    distrusted: Counter,
    /// Of calls to other servers.
    pub peers: PeerCounters,
    live: Live,
    /// Brings the gauges of [`Live`] up to date before each scrape.
    refresh: Mutex<Option<Refresh>>,
}

/// Gauges that are read off the server's state at each scrape.
#[derive(Default)]
pub struct Live {
    /// End of each root, in seconds since the epoch.
    pub root_not_after: Family<RootLabel, Gauge>,
    /// End of the cross certificate that is sent with leaves of a root.
    pub cross_not_after: Family<RootLabel, Gauge>,
    /// End of each issuer.
    pub issuer_not_after: Family<IssuerLabel, Gauge>,
    /// 1 for the phase that the record is in.
    pub phase: Family<PhaseLabel, Gauge>,
    /// When that phase began, in seconds since the epoch.
    pub phase_since: Gauge,
    /// Rows whose holders are not known to trust the newest bundle.
    pub unproven_rows: Gauge,
    /// Latest end that a leaf may have now.
    pub horizon: Gauge,
    /// Sequence of the bundle being served.
    pub sequence: Gauge,
    /// Generation of the record being served.
    pub generation: Gauge,
    /// Number of the revocation lists, leaves on them, when the first ends, and whether agents are told to do without.
    pub crl: crl::CrlGauges,
    /// Agents with an open stream.
    pub agents_connected: Gauge,
    /// Agents with an open stream that have not yet taken the newest bundle, by how many sequences they lack.
    pub agents_behind: Family<BehindLabel, Gauge>,
    /// 1 for each authority that would give something else now than what signs.
    pub authority_drift: Family<AuthorityLabel, Gauge>,
    /// Rows of leaves that may live, by root.
    pub live_rows: Family<RootLabel, Gauge>,
    /// Signatures and other calls that wait for a place in the key backend of `[keys]`.
    pub key_backend_waiting: Gauge,
    /// Rows waiting to be written.
    pub ledger_queue: Gauge,
    /// Rows of the last group commit.
    pub ledger_batch: Gauge,
    /// Time of the last group commit.
    pub ledger_commit_seconds: Gauge<f64, AtomicU64>,
    /// The servers of this CA.
    pub replicas: LiveReplicas,
    /// A canary that is under way.
    pub canary: LiveCanary,
}

/// Label `caller`: how the caller of a request proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallerLabel {
    /// The kind.
    pub caller: &'static str,
}

/// Label `reason`: the refusal's reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Label `reason`: why the server ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CutLabel {
    reason: &'static str,
}

/// Label `port`: `grpc`, `plain` or `admin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortLabel {
    port: &'static str,
}

/// Label `limit`: what made a leaf shorter than asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    limit: &'static str,
}

/// Label `authority`: its name in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AuthorityLabel {
    /// The name.
    pub authority: String,
}

/// Label `root`: fingerprint of a root of the record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RootLabel {
    /// The fingerprint.
    pub root: String,
}

/// Label `phase`: a phase of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PhaseLabel {
    /// Its name.
    pub phase: &'static str,
}

/// Labels `root` and `issuer`: fingerprints of an issuer of the record and of its root.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct IssuerLabel {
    /// The fingerprint.
    pub root: String,
    /// The fingerprint of the issuer.
    pub issuer: String,
}

/// Label `sequences`: `1`, `2` or `more`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BehindLabel {
    /// How many, as a word.
    pub sequences: &'static str,
}

impl BehindLabel {
    /// The label for a relying party that lacks so many sequences.
    pub const fn of(lacking: u64) -> Self {
        let sequences = match lacking {
            0 | 1 => "1",
            2 => "2",
            _ => "more",
        };
        Self { sequences }
    }
}

impl Metrics {
    /// With the counters of calls to authorities, which were opened before.
    pub fn new(authorities: &AuthorityCalls) -> Self {
        Self::with(authorities, |_| {})
    }

    /// The same, with what other parts count.
    pub fn with(authorities: &AuthorityCalls, more: impl FnOnce(&mut Registry)) -> Self {
        let mut registry = Registry::with_prefix("banyan");
        let latency: fn() -> Histogram = || Histogram::new(LATENCY_BUCKETS);
        let metrics = Self {
            issue_seconds: Family::new_with_constructor(latency),
            refused: Family::default(),
            shortened: Family::default(),
            issued: Counter::default(),
            refused_all: Counter::default(),
            connections_cut: Family::default(),
            unsent_bytes: Family::default(),
            distrusted: Counter::default(),
            peers: PeerCounters::default(),
            live: Live::default(),
            refresh: Mutex::new(None),
            registry: Registry::default(),
        };
        let help = "Time to issue one leaf, from the decoded request to the reply";
        registry.register_with_unit("issue", help, Unit::Seconds, metrics.issue_seconds.clone());
        registry.register("refused", "Refused requests by reason", metrics.refused.clone());
        let help = "Connections that the server ended to protect itself, by reason";
        registry.register("connections_cut", help, metrics.connections_cut.clone());
        let help = "Bytes of requests under way and of answers that wait to be sent";
        registry.register("unsent_bytes", help, metrics.unsent_bytes.clone());
        let help =
            "Handshakes that clients ended because they do not trust this server's certificate";
        registry.register("handshakes_distrusted", help, metrics.distrusted.clone());
        let help = "Leaves that were issued for a shorter life than asked, by what limited them";
        registry.register("leaves_shortened", help, metrics.shortened.clone());
        registry.register("leaves_issued", "Leaves issued", metrics.issued.clone());
        metrics.live.register(&mut registry);
        authorities.register(&mut registry);
        metrics.peers.register(&mut registry);
        more(&mut registry);
        Self { registry, ..metrics }
    }

    /// Sets what brings the gauges up to date.
    pub fn refresh_with(&self, refresh: impl Fn(&Live) + Send + 'static) {
        *self.refresh.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(refresh));
    }

    /// Counts a leaf that was issued.
    pub fn issued(&self, caller: &'static str, took: Duration, limit: Option<&'static str>) {
        self.issue_seconds.get_or_create(&CallerLabel { caller }).observe(took.as_secs_f64());
        self.issued.inc();
        if let Some(limit) = limit {
            self.shortened.get_or_create(&LimitLabel { limit }).inc();
        }
    }

    /// Counts a refusal.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
        self.refused_all.inc();
    }

    /// Counts a client that ended its handshake because it does not trust this server's certificate.
    pub fn handshake_distrusted(&self) {
        self.distrusted.inc();
    }

    /// How many of those there were since the start.
    pub fn distrusting(&self) -> u64 {
        self.distrusted.get()
    }

    /// Requests refused for this reason since the start.
    pub fn refused_for(&self, reason: &'static str) -> u64 {
        self.refused.get(&ReasonLabel { reason }).map_or(0, |refused| refused.get())
    }

    /// Leaves issued and requests refused since the start.
    pub fn totals(&self) -> (u64, u64) {
        (self.issued.get(), self.refused_all.get())
    }

    /// Counts a connection that the server ended to protect itself.
    pub fn connection_cut(&self, reason: &'static str) {
        self.connections_cut.get_or_create(&CutLabel { reason }).inc();
    }

    /// Bytes that wait for the connections of a port; the same gauge at each call.
    pub fn unsent_bytes(&self, port: &'static str) -> Gauge {
        self.unsent_bytes.get_or_create(&PortLabel { port }).clone()
    }

    /// All of them in the OpenMetrics text format.
    pub fn exposition(&self) -> String {
        if let Some(refresh) = &*self.refresh.lock().unwrap_or_else(PoisonError::into_inner) {
            refresh(&self.live);
        }
        let mut text = String::new();
        if text::encode(&mut text, &self.registry).is_err() {
            // Writing to a string does not fail; a scraper would take a cut answer for the whole one.
            text.clear();
            let _ = writeln!(text, "# EOF");
        }
        text
    }
}

impl Live {
    fn register(&self, registry: &mut Registry) {
        let mut add =
            |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        add("horizon_timestamp_seconds", "Latest end that a leaf may have now", &self.horizon);
        add("bundle_sequence", "Sequence of the bundle being served", &self.sequence);
        add("record_generation", "Generation of the record being served", &self.generation);
        add("agents_connected", "Agents with an open stream", &self.agents_connected);
        self.crl.add(&mut add);
        let help = "Calls that wait for a place in the key backend of the issuers";
        add("key_backend_waiting_calls", help, &self.key_backend_waiting);
        add("ledger_queue_rows", "Rows waiting to be written", &self.ledger_queue);
        add("ledger_batch_rows", "Rows of the last group commit", &self.ledger_batch);
        let help = "When the present phase of the record began";
        add("rotation_phase_since_timestamp_seconds", help, &self.phase_since);
        let help = "Rows whose holders are not known to trust the newest bundle";
        add("ledger_unproven_rows", help, &self.unproven_rows);
        registry.register(
            "rotation_phase",
            "1 for the phase that the record is in",
            self.phase.clone(),
        );
        let help = "Time of the last group commit";
        registry.register_with_unit(
            "ledger_commit",
            help,
            Unit::Seconds,
            self.ledger_commit_seconds.clone(),
        );
        let help = "End of each root";
        registry.register("root_not_after_timestamp_seconds", help, self.root_not_after.clone());
        let help = "End of the cross certificate that is sent with leaves of a root";
        registry.register(
            "cross_certificate_not_after_timestamp_seconds",
            help,
            self.cross_not_after.clone(),
        );
        let help = "End of each issuer";
        registry.register(
            "issuer_not_after_timestamp_seconds",
            help,
            self.issuer_not_after.clone(),
        );
        let help = "Agents that have not taken the newest bundle, by how many sequences they lack";
        registry.register("agents_behind", help, self.agents_behind.clone());
        let help =
            "Whether a root authority would give something else now than what signs: 1, or absent";
        registry.register("authority_drift", help, self.authority_drift.clone());
        registry.register(
            "ledger_live_rows",
            "Rows of leaves that may live",
            self.live_rows.clone(),
        );
        self.replicas.register(registry);
        self.canary.register(registry);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_shows_counters_and_fresh_gauges() {
        let metrics = Metrics::new(&AuthorityCalls::default());
        metrics.issued("jwt", Duration::from_millis(3), Some("maximum"));
        metrics.refused("CSR_KEY_WEAK");
        metrics.refresh_with(|live| {
            live.sequence.set(7);
            live.root_not_after.get_or_create(&RootLabel { root: "ab".to_owned() }).set(99);
        });
        let text = metrics.exposition();
        for line in [
            "banyan_issue_seconds_count{caller=\"jwt\"} 1",
            "banyan_refused_total{reason=\"CSR_KEY_WEAK\"} 1",
            "banyan_leaves_shortened_total{limit=\"maximum\"} 1",
            "banyan_bundle_sequence 7",
            "banyan_root_not_after_timestamp_seconds{root=\"ab\"} 99",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert_eq!(metrics.totals(), (1, 1));
    }
}
