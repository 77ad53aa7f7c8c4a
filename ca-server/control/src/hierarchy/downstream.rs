//! What downstream CAs reported, and what gates count of it: a downstream CA is waited for until it proved something, or until all its
//! issuers have ended.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use plugins::DownstreamReport;
use registry::{AgentRegistry, DownstreamIssuer, DownstreamRow};
use rotation::evidence::Tally;
use rotation::{Policy, State};
use trust::{RootId, Sequence, Timestamp};

/// The downstream CAs. Reports are in memory only: after a restart nothing counts as proven until it is reported again.
#[derive(Debug)]
pub struct Downstreams {
    registry: AgentRegistry,
    reports: Mutex<BTreeMap<String, Told>>,
}

/// What a downstream CA reported last, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What it said.
    pub report: DownstreamReport,
    /// When.
    pub at: Timestamp,
}

/// One downstream CA: what it has, and what it said.
#[derive(Clone, Debug)]
pub struct Downstream {
    /// Its name.
    pub name: String,
    /// What is stored of it.
    pub row: DownstreamRow,
    /// What it reported last.
    pub told: Option<Told>,
}

impl Downstreams {
    /// Those of the registry.
    pub fn new(registry: AgentRegistry) -> Self {
        Self { registry, reports: Mutex::default() }
    }

    /// Takes a report in the place of the former one.
    pub fn tell(&self, downstream: &str, report: DownstreamReport, at: Timestamp) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.insert(downstream.to_owned(), Told { report, at });
    }

    /// What the downstream CA reported counts no longer.
    pub fn forget(&self, downstream: &str) {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).remove(downstream);
    }

    /// Every downstream CA.
    pub fn downstreams(&self) -> Vec<Downstream> {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let downstream = |(name, row): (String, DownstreamRow)| Downstream {
            told: reports.get(&name).cloned(),
            name,
            row,
        };
        self.registry.downstreams().into_iter().map(downstream).collect()
    }

    /// The downstream CA of a name.
    pub fn downstream(&self, name: &str) -> Option<Downstream> {
        self.downstreams().into_iter().find(|downstream| downstream.name == name)
    }

    /// Downstream CAs that are not known to have the bundle, as the trust gate counts them.
    pub fn unproven(&self, wanted: Sequence, policy: &Policy, now: Timestamp) -> Tally {
        let downstreams = self.downstreams();
        let lacking = downstreams.iter().filter(|downstream| downstream.lacks(wanted));
        tally(lacking.filter_map(|downstream| downstream.until(policy, now)))
    }

    /// Adds the issuers of downstream CAs to live rows by root, as the leaf gate counts them.
    pub fn add_live(
        &self,
        live: &mut BTreeMap<RootId, Tally>,
        state: &State,
        policy: &Policy,
        now: Timestamp,
    ) {
        for downstream in self.downstreams() {
            for issuer in
                downstream.live(policy, now).filter(|issuer| downstream.uses(&issuer.root, state))
            {
                let sum = live.entry(issuer.root).or_default();
                let latest = sum.latest.max(Some(issuer.ends));
                *sum = Tally { count: sum.count + 1, latest };
            }
        }
    }
}

impl Downstream {
    /// Its issuers that may be alive by somebody's clock.
    pub fn live<'t>(
        &'t self,
        policy: &'t Policy,
        now: Timestamp,
    ) -> impl Iterator<Item = &'t DownstreamIssuer> + 't {
        self.row.issuers.values().filter(move |issuer| !policy.has_passed(issuer.ends, now))
    }

    /// The end of its last issuer; `None` if none is alive, and then nothing waits for it.
    pub fn until(&self, policy: &Policy, now: Timestamp) -> Option<Timestamp> {
        self.live(policy, now).map(|issuer| issuer.ends).max()
    }

    /// Whether it is not known to have this bundle.
    pub fn lacks(&self, wanted: Sequence) -> bool {
        self.told.as_ref().is_none_or(|told| told.report.applied_sequence < wanted.0)
    }

    /// Whether it may use this root. Of a root that drains only a report counts that was made after the switch: before, it
    /// might still have begun to use it.
    pub fn uses(&self, root: &RootId, state: &State) -> bool {
        let drains = state.phase.draining().filter(|phase| phase.from == *root);
        let since = drains.map_or(0, |phase| phase.switched.0);
        let unused =
            |told: &Told| told.report.seen_generation >= since && told.report.unused.contains(root);
        !self.told.as_ref().is_some_and(unused)
    }

    /// The end of its last issuer under a root that it may use.
    pub fn under(
        &self,
        root: &RootId,
        state: &State,
        policy: &Policy,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let under =
            self.live(policy, now).filter(|issuer| issuer.root == *root).map(|issuer| issuer.ends);
        under.max().filter(|_| self.uses(root, state))
    }
}

fn tally(ends: impl Iterator<Item = Timestamp>) -> Tally {
    ends.fold(Tally::default(), |sum, end| Tally {
        count: sum.count + 1,
        latest: sum.latest.max(Some(end)),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use registry::sessions::Sessions;
    use registry::{Limits, Membership};
    use rotation::{Draining, Mode, Phase, Rotation};
    use stores::fake::FakeStore;
    use trust::{Generation, TrustDomain};

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn root(name: &str) -> RootId {
        RootId::of(name.as_bytes())
    }

    fn draining(from: &str, switched: u64) -> State {
        let mut state = State::uninitialised(TrustDomain::parse("example.org").unwrap());
        let rotation = Rotation {
            request_id: "one".parse().unwrap(),
            authority: "main".parse().unwrap(),
            mode: Mode::Auto,
            requested_at: NOW,
            stage_again: None,
            canary: None,
            held_since: None,
        };
        let bundle = rotation::BundleChange { sequence: Sequence(2), generation: Generation(5) };
        state.phase = Phase::Draining(Draining {
            rotation,
            from: root(from),
            to: root("other"),
            bundle,
            switched: Generation(switched),
            rolled_back: false,
            since: NOW,
            settling: None,
            observer: None,
        });
        state
    }

    fn membership() -> Membership {
        let day = Duration::from_secs(86_400);
        Membership {
            replica: "ca-1".to_owned(),
            clock: std::sync::Arc::new(trust::ManualClock::at(NOW)),
            sessions: Sessions::default(),
            limits: Limits { max: 10, per_caller: 10, forget_after: 31 * day, idle_after: day },
        }
    }

    async fn with_issuer() -> Downstreams {
        let store = std::sync::Arc::new(FakeStore::new());
        let (registry, _) = AgentRegistry::open(store, membership()).await.unwrap();
        registry.add_downstream("east".to_owned(), [1; 32], NOW).await.unwrap();
        registry.add_downstream("idle".to_owned(), [2; 32], NOW).await.unwrap();
        let issuer =
            DownstreamIssuer { root: root("a"), ends: NOW.plus(Duration::from_secs(1_000)) };
        registry.count_issuer("east".to_owned(), "one".to_owned(), issuer, NOW).await.unwrap();
        Downstreams::new(registry)
    }

    #[tokio::test]
    async fn a_downstream_ca_is_waited_for_until_its_report_or_the_end_of_its_issuers() {
        let downstreams = with_issuer().await;
        let policy = Policy::default();
        let at = |secs| NOW.plus(Duration::from_secs(secs));
        let unproven = |now| downstreams.unproven(Sequence(3), &policy, now).count;
        assert_eq!(
            downstreams.unproven(Sequence(3), &policy, NOW),
            Tally { count: 1, latest: Some(at(1_000)) }
        );
        assert_eq!(
            (unproven(at(1_120)), unproven(at(1_121))),
            (1, 0),
            "its end, and twice the skew"
        );
        downstreams.tell("east", DownstreamReport::about(1).applied(2), NOW);
        assert_eq!(unproven(NOW), 1, "a former bundle");
        downstreams.tell("east", DownstreamReport::about(1).applied(3), NOW);
        assert_eq!(unproven(NOW), 0);
        downstreams.forget("east");
        assert_eq!(unproven(NOW), 1, "what is not reported is not proven");
    }

    #[tokio::test]
    async fn a_root_is_unused_only_by_a_report_that_saw_the_switch() {
        let downstreams = with_issuer().await;
        let policy = Policy::default();
        let live = |state: &State| {
            let mut live = BTreeMap::new();
            downstreams.add_live(&mut live, state, &policy, NOW);
            live.get(&root("a")).map_or(0, |rows| rows.count)
        };
        let state = draining("a", 9);
        assert_eq!(live(&state), 1);
        downstreams.tell("east", DownstreamReport::about(9), NOW);
        assert_eq!(live(&state), 1, "it did not say so");
        downstreams.tell("east", DownstreamReport::about(8).unused(vec![root("a")]), NOW);
        assert_eq!(live(&state), 1, "it may have begun to use it after that");
        downstreams.tell("east", DownstreamReport::about(9).unused(vec![root("a")]), NOW);
        assert_eq!(live(&state), 0);
    }
}
