//! What one run of an emergency came to: who was predicted to break, and who broke.

use std::collections::BTreeSet;

use anyhow::bail;
use proto::banyan::admin::v1::Exposure;
use serde_json::json;
use trust::plain::counted;

use super::observer::{Pair, Seen};

/// Kinds of leaves that no workload talks with.
const NO_WORKLOAD: [&str; 2] = ["own", "agent-identity"];
/// Pairs that are told by name.
const NAMED_MAX: usize = 10;

/// A preview, before anything was done.
#[derive(Debug, Clone)]
pub struct Preview {
    /// Workloads with a leaf of the root, and how many of them can be asked to renew.
    pub workloads: u64,
    /// Those that can be asked to renew.
    pub reachable: u64,
    /// Identities of the workloads that cannot.
    pub stranded: BTreeSet<String>,
}

/// What one run came to.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Whether a standby root was prepared before.
    pub standby: bool,
    /// What was said before the root was distrusted.
    pub preview: Preview,
    /// What was seen from the word on, until everybody who can be reached trusts the next root alone.
    pub seen: Seen,
    /// Identities of all workloads, in the observer's order.
    pub workloads: Vec<String>,
    /// From the word until another root signed.
    pub seconds_to_next_signer: f64,
    /// From the word until the last leaf of the root that could be replaced was replaced.
    pub seconds_to_last_old_leaf: f64,
    /// From the word until nobody who can be reached trusts the root.
    pub seconds_to_cut: f64,
    /// From the word until every pair talks again.
    pub seconds_to_mended: f64,
    /// Transitions of the journal that were replayed.
    pub journal_transitions: u64,
}

impl Preview {
    /// From what the CA said.
    ///
    /// # Errors
    /// If it does not name everybody.
    pub fn of(exposure: &Exposure) -> anyhow::Result<Self> {
        let told = exposure.stranded.len() as u64;
        if told < exposure.stranded_total {
            bail!("the preview names {told} of {} leaves", exposure.stranded_total);
        }
        let workload =
            exposure.stranded.iter().filter(|one| !NO_WORKLOAD.contains(&one.kind.as_str()));
        Ok(Self {
            workloads: exposure.workloads,
            reachable: exposure.reachable,
            stranded: workload.map(|one| one.identity.clone()).collect(),
        })
    }
}

impl Finding {
    /// Pairs of which one side has a leaf that nobody can replace, and the other one does what the bundle says.
    pub fn predicted(&self) -> BTreeSet<Pair> {
        let stranded = |place: usize| {
            self.workloads.get(place).is_some_and(|id| self.preview.stranded.contains(id))
        };
        let all = 0..self.workloads.len();
        all.clone()
            .flat_map(|client| all.clone().map(move |server| Pair { client, server }))
            .filter(|pair| stranded(pair.client) != stranded(pair.server))
            .collect()
    }

    /// Pairs that could not talk at the end.
    pub fn observed(&self) -> BTreeSet<Pair> {
        self.seen.broken.keys().copied().collect()
    }

    /// Connections that failed between members whose agents are connected.
    pub fn failed(&self) -> u64 {
        let reached = |place: usize| {
            self.workloads.get(place).is_some_and(|id| !self.preview.stranded.contains(id))
        };
        let among = |pair: &&Pair| reached(pair.client) && reached(pair.server);
        let failures = self.seen.failures.iter();
        failures.filter(|(pair, _)| among(pair)).map(|(_, count)| count).sum()
    }

    /// Pairs that failed at any time and were not predicted to.
    fn unpredicted(&self) -> Vec<String> {
        let predicted = self.predicted();
        let failed: BTreeSet<_> = self.seen.failures.keys().copied().collect();
        failed.difference(&predicted).map(|pair| self.named(*pair)).collect()
    }

    /// Pairs that were predicted to break and talked.
    fn unbroken(&self) -> Vec<String> {
        self.predicted().difference(&self.observed()).map(|pair| self.named(*pair)).collect()
    }

    fn named(&self, pair: Pair) -> String {
        let name = |place: usize| self.workloads.get(place).map_or("?", String::as_str);
        let why = self.seen.broken.get(&pair).map(|why| format!(": {why}")).unwrap_or_default();
        format!("{} -> {}{why}", name(pair.client), name(pair.server))
    }

    /// Whether what was predicted came, and nothing else.
    ///
    /// # Errors
    /// If a pair broke that was not predicted to, or one that was did not, or nothing was predicted at all.
    pub fn verdict(&self) -> anyhow::Result<()> {
        let (predicted, observed) = (self.predicted().len(), self.observed().len());
        let (unpredicted, unbroken) = (self.unpredicted(), self.unbroken());
        let failed = self.failed();
        if failed > 0 {
            bail!("{failed} connections failed between members behind agents that are connected");
        }
        if !unpredicted.is_empty() || !unbroken.is_empty() {
            bail!(
                "{predicted} pairs were predicted to break, and {observed} broke; not predicted: {}; predicted and whole: {}",
                listed(&unpredicted),
                listed(&unbroken)
            );
        }
        if predicted == 0 {
            bail!("nobody was predicted to break, so nothing was shown");
        }
        Ok(())
    }

    /// For programs.
    pub fn as_json(&self) -> serde_json::Value {
        let tenths = |seconds: f64| (seconds * 10.0).round() / 10.0;
        json!({
            "standby": self.standby,
            "preview": {
                "workloads": self.preview.workloads,
                "reachable": self.preview.reachable,
                "stranded": self.preview.stranded,
            },
            "pairs": self.workloads.len() * self.workloads.len().saturating_sub(1),
            "predicted_broken": self.predicted().len(),
            "observed_broken": self.observed().len(),
            "unpredicted": self.unpredicted(),
            "predicted_and_whole": self.unbroken(),
            "failed": self.failed(),
            "handshakes": self.seen.handshakes,
            "seconds_to_next_signer": tenths(self.seconds_to_next_signer),
            "seconds_to_last_old_leaf": tenths(self.seconds_to_last_old_leaf),
            "seconds_to_cut": tenths(self.seconds_to_cut),
            "seconds_to_mended": tenths(self.seconds_to_mended),
            "journal_transitions": self.journal_transitions,
        })
    }

    /// For people.
    pub fn as_text(&self) -> String {
        let with = if self.standby { "with" } else { "without" };
        let stranded: Vec<_> = self.preview.stranded.iter().map(String::as_str).collect();
        format!(
            "\n{with} a standby root:\n  \
             the preview: {} have leaves of the root, {} can be asked to renew, and these cannot: {}\n  \
             pairs that were predicted to break: {}, that broke: {}, of {}\n  \
             failed between members behind agents that are connected: {} of {} connections in all\n  \
             from the word: another root signed after {:.1} s, the last leaf that could be replaced was after {:.1} s, \
             nobody who can be reached trusted the root after {:.1} s, every pair talked again after {:.1} s",
            counted(self.preview.workloads, "workload", "workloads"),
            self.preview.reachable,
            stranded.join(", "),
            self.predicted().len(),
            self.observed().len(),
            self.workloads.len() * self.workloads.len().saturating_sub(1),
            self.failed(),
            self.seen.handshakes,
            self.seconds_to_next_signer,
            self.seconds_to_last_old_leaf,
            self.seconds_to_cut,
            self.seconds_to_mended,
        )
    }
}

fn listed(pairs: &[String]) -> String {
    match pairs {
        [] => "none".to_owned(),
        pairs => {
            let shown: Vec<_> = pairs.iter().take(NAMED_MAX).map(String::as_str).collect();
            let more = pairs.len().saturating_sub(NAMED_MAX);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{}{more}", shown.join(", "))
        }
    }
}
