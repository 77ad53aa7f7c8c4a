//! One neighbor: it is listened to, its roots are trusted and let go, and it is told what everybody here trusts.

use std::sync::Arc;
use std::time::Duration;

use plugins::{DownstreamReport, RootAuthority, RootSet, UpstreamCa, UpstreamState};
use rotation::AuthorityName;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use trust::RootId;

use super::line::{Heard, listen, send};
use super::{Look, NeighborTroubles, tell};
use crate::ca::Ca;
use crate::drift::Whose;
use crate::further_roots::FurtherRoots;

/// How often record and evidence are looked at.
const TICK: Duration = Duration::from_millis(500);
/// How often an unchanged report is sent again, in ticks.
const REPORT_EVERY: u32 = 6;

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
        let mut untaken: Option<String> = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                changed = changes.changed() => if changed.is_err() { return },
                changed = heard.changed() => if changed.is_err() && !self.leave { return },
            }
            changes.mark_unchanged();
            let Heard { state, trouble } = heard.borrow_and_update().clone();
            // Who is away takes no word either: that is said once.
            let wrong = match trouble {
                Some(trouble) => Some(self.away(&trouble)),
                None => untaken.as_deref().map(|why| self.untaken(why)),
            };
            let mut said: Vec<_> = wrong.into_iter().collect();
            let mut report = None;
            if let Some(theirs) = &state {
                let waits = self.trust(theirs).await;
                if !self.leave {
                    report = Some(self.compose(&ca, theirs, &waits).await);
                }
                said.extend(waits);
            }
            tell(&troubles, &self.name, said);
            since = since.saturating_add(1);
            if let Some(report) = report {
                let word = Some((report.seen_generation, report.applied_sequence));
                if since >= REPORT_EVERY || last != word {
                    (since, last) = (0, word);
                    untaken = send(upstream, &report).await.err();
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

    fn untaken(&self, why: &str) -> String {
        format!(
            "neighbor {} does not take the word of what everybody here trusts: {why}; its rotations wait until it does",
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
        let evidence = ca.evidence.read_here(&state).await.map_err(|error| error.reason);
        let look = Look { state: &state, theirs, name: &self.name, policy: &ca.policy };
        look.word(evidence, waits)
    }
}
