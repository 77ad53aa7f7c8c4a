//! Figures for Prometheus. Labels are names of the configuration, and closed lists.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::board::Standing;

/// A part of this process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabel {
    part: String,
}

/// A channel, and what came of something.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChannelLabels {
    channel: String,
    outcome: &'static str,
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChannelLabel {
    channel: String,
}

/// A kind of request for a certificate, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    kind: &'static str,
    outcome: &'static str,
}

/// What came of a Pod that was asked about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

type Number = Gauge<u64, AtomicU64>;

/// Every figure.
pub struct Metrics {
    registry: Registry,
    ready: Family<PartLabel, Number>,
    sequence: Number,
    writes: Family<ChannelLabels, Counter>,
    objects: Family<ChannelLabel, Number>,
    published: Family<ChannelLabel, Number>,
    confirmed: Family<ChannelLabel, Number>,
    unproven: Family<ChannelLabel, Number>,
    requests: Family<RequestLabels, Counter>,
    admissions: Family<OutcomeLabel, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("banyan_kubernetes");
        let ready = Family::<PartLabel, Number>::default();
        registry.register("part_ready", "Whether a part can do its work", ready.clone());
        let sequence = Number::default();
        registry.register(
            "bundle_sequence",
            "Bundle of the CA that this process saw last",
            sequence.clone(),
        );
        let writes = Family::<ChannelLabels, Counter>::default();
        registry.register("writes", "Writes of a channel to the API server", writes.clone());
        let objects = Family::<ChannelLabel, Number>::default();
        registry.register("objects", "Objects that a channel keeps up", objects.clone());
        let published = Family::<ChannelLabel, Number>::default();
        let text = "Bundle that every object of a channel was read back with";
        registry.register("published_sequence", text, published.clone());
        let confirmed = Family::<ChannelLabel, Number>::default();
        let text = "Bundle that a channel confirmed to the CA";
        registry.register("confirmed_sequence", text, confirmed.clone());
        let unproven = Family::<ChannelLabel, Number>::default();
        let text =
            "Readers through the Gateway API that may take one certificate of the bundle only";
        registry.register("unproven_readers", text, unproven.clone());
        let requests = Family::<RequestLabels, Counter>::default();
        registry.register(
            "requests",
            "Requests for certificates that were worked on",
            requests.clone(),
        );
        let admissions = Family::<OutcomeLabel, Counter>::default();
        registry.register(
            "admissions",
            "Pods that the webhook was asked about",
            admissions.clone(),
        );
        Self {
            registry,
            ready,
            sequence,
            writes,
            objects,
            published,
            confirmed,
            unproven,
            requests,
            admissions,
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// The bundle of the CA.
    pub fn sequence(&self, sequence: u64) {
        self.sequence.set(sequence);
    }

    /// One write of a channel: `"done"`, `"refused"` or `"failed"`.
    pub fn wrote(&self, channel: &str, outcome: &'static str) {
        let labels = ChannelLabels { channel: channel.to_owned(), outcome };
        self.writes.get_or_create(&labels).inc();
    }

    /// How many objects a channel keeps up.
    pub fn objects(&self, channel: &str, objects: usize) {
        let objects = u64::try_from(objects).unwrap_or(u64::MAX);
        self.objects.get_or_create(&label(channel)).set(objects);
    }

    /// The bundle that every object of a channel was read back with.
    pub fn published(&self, channel: &str, sequence: u64) {
        self.published.get_or_create(&label(channel)).set(sequence);
    }

    /// The bundle that a channel confirmed.
    pub fn confirmed(&self, channel: &str, sequence: u64) {
        self.confirmed.get_or_create(&label(channel)).set(sequence);
    }

    /// Readers of a channel through the Gateway API that may take one certificate of the bundle only.
    pub fn unproven(&self, channel: &str, readers: usize) {
        let readers = u64::try_from(readers).unwrap_or(u64::MAX);
        self.unproven.get_or_create(&label(channel)).set(readers);
    }

    /// One request for a certificate: `"signed"`, `"refused"` or `"later"`.
    pub fn signed(&self, kind: &'static str, outcome: &'static str) {
        self.requests.get_or_create(&RequestLabels { kind, outcome }).inc();
    }

    /// One Pod that the webhook was asked about: `"injected"`, `"complete"`, `"left"`, `"refused"` or `"malformed"`.
    pub fn admitted(&self, outcome: &'static str) {
        self.admissions.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// All of it as text, with how each part is.
    pub(crate) fn exposition(
        &self,
        lines: &BTreeMap<String, Standing>,
    ) -> Result<String, fmt::Error> {
        for (part, standing) in lines {
            let label = PartLabel { part: part.clone() };
            self.ready.get_or_create(&label).set(u64::from(standing.ready));
        }
        let mut exposed = String::new();
        text::encode(&mut exposed, &self.registry)?;
        Ok(exposed)
    }
}

fn label(channel: &str) -> ChannelLabel {
    ChannelLabel { channel: channel.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_channels_have_figures_by_name() {
        let metrics = Metrics::default();
        metrics.sequence(7);
        metrics.wrote("mesh", "done");
        let standing = Standing { ready: false, text: "is starting".to_owned() };
        let lines = BTreeMap::from([("ca".to_owned(), standing)]);
        let exposed = metrics.exposition(&lines).unwrap();
        for line in [
            "banyan_kubernetes_part_ready{part=\"ca\"} 0",
            "banyan_kubernetes_bundle_sequence 7",
            "banyan_kubernetes_writes_total{channel=\"mesh\",outcome=\"done\"} 1",
        ] {
            assert!(exposed.contains(line), "{exposed}");
        }
    }
}
