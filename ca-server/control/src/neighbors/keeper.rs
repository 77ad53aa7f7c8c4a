//! One neighbor: it is listened to, its roots are trusted and let go, and it is told what everybody here trusts.

use std::sync::Arc;
use std::time::Duration;

use plugins::{
    CallContext, DownstreamReport, RequestId, RootAuthority, RootSet, UpstreamCa, UpstreamState,
};
use rotation::AuthorityName;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use trust::RootId;

use super::{NeighborTroubles, missing};
use crate::ca::Ca;
use crate::drift::Whose;
use crate::further_roots::FurtherRoots;

/// How often record and evidence are looked at.
const TICK: Duration = Duration::from_millis(500);
/// How often an unchanged report is sent again, in ticks, and how long one may take.
const REPORT_EVERY: u32 = 6;
const REPORT_WITHIN: Duration = Duration::from_secs(5);
/// Wait before a neighbor is asked again after an error; doubled each time.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// A neighbor of the configuration.
pub struct Neighbor {
    /// Its name there.
    pub name: String,
    /// It, as a CA that is asked.
    pub authority: Arc<dyn RootAuthority>,
    /// Brings its roots about. How long one stays that it names no more is in there.
    pub further: FurtherRoots,
    /// Whether the trust in it is to end: its roots are let go whatever it says.
    pub leave: bool,
}

/// What a neighbor said last, and what is in the way of hearing it.
#[derive(Clone, Debug, Default)]
struct Heard {
    state: Option<UpstreamState>,
    trouble: Option<String>,
}

impl Neighbor {
    /// Listens, has its roots trusted and tells it what is; until it is dropped.
    pub async fn keep(self, ca: Arc<Ca>, troubles: Arc<watch::Sender<NeighborTroubles>>) {
        let (told, heard) = watch::channel(Heard::default());
        let authority = Arc::clone(&self.authority);
        let Some(upstream) = authority.upstream() else { return };
        if self.leave {
            let all_gone = UpstreamState::new(0, Vec::new(), RootId::of(&[]), 0);
            told.send_replace(Heard { state: Some(all_gone), trouble: None });
            return self.follow(ca, heard, upstream, troubles).await;
        }
        tokio::select! {
            () = listen(upstream, &told) => {}
            () = self.follow(ca, heard, upstream, troubles) => {}
        }
    }

    async fn follow(
        &self,
        ca: Arc<Ca>,
        mut heard: watch::Receiver<Heard>,
        upstream: &dyn UpstreamCa,
        troubles: Arc<watch::Sender<NeighborTroubles>>,
    ) {
        let (mut changes, mut ticks) = (ca.driver.changes(), tokio::time::interval(TICK));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut last, mut since) = (None, 0_u32);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                changed = changes.changed() => if changed.is_err() { return },
                changed = heard.changed() => if changed.is_err() && !self.leave { return },
            }
            changes.mark_unchanged();
            let Heard { state, trouble } = heard.borrow_and_update().clone();
            let mut said: Vec<_> = trouble.map(|trouble| self.away(&trouble)).into_iter().collect();
            let mut report = None;
            if let Some(theirs) = &state {
                let waits = self.trust(theirs).await;
                if !self.leave {
                    report = Some(self.compose(&ca, theirs, &waits).await);
                }
                said.extend(waits);
            }
            self.tell(&troubles, said);
            since = since.saturating_add(1);
            if let Some(report) = report {
                let word = Some((report.seen_generation, report.applied_sequence));
                if since >= REPORT_EVERY || last != word {
                    (since, last) = (0, word);
                    send(upstream, &self.name, &report).await;
                }
            }
        }
    }

    fn away(&self, trouble: &str) -> String {
        format!(
            "neighbor {} does not tell its roots: {trouble}; those that it told last stay trusted, and its rotations wait until it \
             answers and hears that everybody here trusts its new root",
            self.name
        )
    }

    /// Has its roots trusted, and no longer those that it has let go; answers what is not so yet.
    async fn trust(&self, theirs: &UpstreamState) -> Vec<String> {
        let Ok(name) = AuthorityName::of_neighbor(&self.name) else { return Vec::new() };
        let set =
            RootSet::new(Vec::new(), None, theirs.generation).with_further(theirs.roots.clone());
        let place = &self.authority.describe().place;
        self.further.keep(&Whose { name: name.as_str(), place }, &set).await
    }

    /// What may be told to the neighbor: nothing of it depends on whom it confirmed itself.
    async fn compose(&self, ca: &Ca, theirs: &UpstreamState, waits: &[String]) -> DownstreamReport {
        let state = ca.driver.state();
        let report = DownstreamReport::about(theirs.generation);
        let evidence = match ca.evidence.read_here(&state).await {
            Ok(evidence) => evidence,
            Err(error) => return report.waits_for([error.reason]),
        };
        let missing = missing(&state, theirs, &self.name, &evidence, &ca.policy);
        if missing.is_empty() {
            return report.applied(theirs.sequence);
        }
        report.waits_for(missing.into_iter().chain(waits.iter().cloned()))
    }

    fn tell(&self, troubles: &watch::Sender<NeighborTroubles>, said: Vec<String>) {
        troubles.send_if_modified(|all| {
            let known = all.get(&self.name).cloned().unwrap_or_default();
            if known == said {
                return false;
            }
            // A sentence that counts seconds is said once.
            let news =
                said.iter().filter(|one| !known.iter().any(|known| words(known) == words(one)));
            news.for_each(|one| tracing::warn!(neighbor = self.name, "{one}"));
            if said.is_empty() {
                tracing::info!(neighbor = self.name, "all is as the neighbor says again");
                all.remove(&self.name);
            } else {
                all.insert(self.name.clone(), said);
            }
            true
        });
    }
}

/// Keeps `told` at what the neighbor says, until it is dropped.
async fn listen(upstream: &dyn UpstreamCa, told: &watch::Sender<Heard>) {
    let (mut seen, mut pause) = (None, RETRY);
    loop {
        match upstream.state(seen).await {
            Ok(state) => {
                (seen, pause) = (Some(state.generation), RETRY);
                told.send_replace(Heard { state: Some(state), trouble: None });
            }
            Err(error) => {
                // What it answers next is heard, whether it has changed or not.
                seen = None;
                told.send_modify(|heard| heard.trouble = Some(error.to_string()));
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2).min(RETRY_MAX);
            }
        }
    }
}

fn words(sentence: &str) -> String {
    sentence.chars().filter(|char| !char.is_ascii_digit()).collect()
}

async fn send(upstream: &dyn UpstreamCa, name: &str, report: &DownstreamReport) {
    let Ok(request_id) = RequestId::parse("neighbor-report") else { return };
    let context = CallContext::new(request_id, REPORT_WITHIN);
    let told = tokio::time::timeout(REPORT_WITHIN, upstream.report(&context, report)).await;
    if let Ok(Err(error)) = told {
        tracing::debug!(neighbor = name, %error, "the report was not taken; it is sent again");
    }
}
