//! Follows an upstream CA: takes over its new roots, lets them sign when they sign there, gives up and goes back when it does,
//! and reports what its gates wait for. It decides nothing that the machine here would not allow an operator.

use std::sync::Arc;
use std::time::Duration;

use plugins::{
    CallContext, DownstreamReport, RequestId as PluginRequestId, RootAuthority, UpstreamState,
};
use rotation::{AuthorityName, Event, Evidence, Mode, RequestId, State, step};
use rotation_driver::EvidenceSource as _;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::decide::{Step, decide};
use super::{Upstream, report};
use crate::ca::Ca;
use crate::explain;

/// How often record and evidence are looked at.
const TICK: Duration = Duration::from_millis(500);
/// How often an unchanged report is sent again, and how long one may take; in ticks, and as time.
const REPORT_EVERY: u32 = 6;
const REPORT_WITHIN: Duration = Duration::from_secs(5);
/// Wait before the upstream CA is asked again after an error; doubled each time.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Who asks for it, in the journal.
const BY: &str = "upstream CA";

/// Keeps `told` at what the upstream CA stands for, until it is dropped.
pub async fn watch(authority: Arc<dyn RootAuthority>, told: watch::Sender<Option<UpstreamState>>) {
    let Some(upstream) = authority.upstream() else { return };
    let name = authority.describe().name;
    let (mut seen, mut pause, mut well) = (None, RETRY, true);
    loop {
        match upstream.state(seen).await {
            Ok(state) => {
                if !well {
                    tracing::info!(authority = name, "the upstream CA answers again");
                }
                (pause, well) = (RETRY, true);
                // The first answer is of a call of its own; whatever comes later is waited for.
                seen = Some(state.generation);
                told.send_replace(Some(state));
            }
            Err(error) => {
                if well {
                    tracing::warn!(authority = name, %error, "the upstream CA does not answer; leaves are issued without it");
                }
                well = false;
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2).min(RETRY_MAX);
            }
        }
    }
}

/// Decides and reports, until it is dropped.
pub async fn follow(ca: Arc<Ca>, name: String, upstream: watch::Receiver<Option<UpstreamState>>) {
    let Some(authority) = ca.authorities.get(&name).map(Arc::clone) else { return };
    let mut follower = Follower { ca, authority, name, last: None, ticks: 0 };
    let (mut changes, mut upstream) = (follower.ca.driver.changes(), upstream);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            changed = changes.changed() => if changed.is_err() { return },
            changed = upstream.changed() => if changed.is_err() { return },
        }
        changes.mark_unchanged();
        let present = upstream.borrow_and_update().as_ref().and_then(Upstream::of);
        if let Some(present) = present {
            follower.look(&present).await;
        }
    }
}

struct Follower {
    ca: Arc<Ca>,
    authority: Arc<dyn RootAuthority>,
    name: String,
    /// The report that the upstream CA has.
    last: Option<DownstreamReport>,
    /// Since it was sent, or since an attempt failed.
    ticks: u32,
}

impl Follower {
    async fn look(&mut self, upstream: &Upstream) {
        let state = self.ca.driver.state();
        let evidence = self.ca.evidence.read(&state).await.ok();
        self.decide(&state, upstream, evidence.as_ref()).await;
        let report = report::compose(&state, upstream, evidence.as_ref(), &self.ca.policy);
        let names = self.waits_for(&state, upstream, &report).await;
        self.report(report.waits_for(names)).await;
    }

    /// Submits what is asked for, if the machine takes it: what it refuses now is asked for again when it may.
    async fn decide(&self, state: &State, upstream: &Upstream, evidence: Option<&Evidence>) {
        let step_wanted = decide(state, upstream, &self.name);
        let Some(event) = self.event(step_wanted, state, upstream, evidence) else { return };
        let (now, policy) = (self.ca.clock.now(), &self.ca.policy);
        if !step(state, &event, now, policy).is_ok_and(|transition| transition.changes(state)) {
            return;
        }
        tracing::info!(
            authority = self.name,
            generation = upstream.generation,
            ?step_wanted,
            "following the upstream CA"
        );
        if let Err(error) = self.ca.driver.submit_by(event, BY).await {
            tracing::warn!(authority = self.name, %error, "the upstream CA could not be followed now; it is tried again");
        }
    }

    fn event(
        &self,
        wanted: Step,
        state: &State,
        upstream: &Upstream,
        evidence: Option<&Evidence>,
    ) -> Option<Event> {
        // One id for each request in each state: a request that was carried out is not taken for the next one.
        let id = |verb: &str| {
            let text = format!("tier-{verb}-{}-{}", upstream.generation, state.generation);
            RequestId::parse(&text).ok()
        };
        Some(match wanted {
            Step::Rest => return None,
            Step::Rotate(root) => Event::RotationRequested {
                request_id: RequestId::parse(&format!(
                    "tier-{}-{}",
                    root.short(),
                    upstream.generation
                ))
                .ok()?,
                authority: AuthorityName::parse(&self.name).ok()?,
                mode: Mode::Manual,
                stage_again: None,
                canary: None,
            },
            Step::Abort => Event::AbortRequested { request_id: id("abort")? },
            Step::Rollback => Event::RollbackRequested { request_id: id("rollback")? },
            Step::Activate => Event::ActivateRequested {
                request_id: id("activate")?,
                evidence: evidence.cloned()?,
            },
            Step::Forward => Event::ActivateRequested {
                request_id: id("forward")?,
                evidence: evidence.cloned()?,
            },
        })
    }

    /// Who is waited for here and below, in words.
    async fn waits_for(
        &self,
        state: &State,
        upstream: &Upstream,
        report: &DownstreamReport,
    ) -> Vec<String> {
        let done = report.applied_sequence == upstream.sequence
            && upstream
                .roots
                .iter()
                .all(|root| *root == upstream.signing || report.unused.contains(root));
        if done {
            return Vec::new();
        }
        let standing = explain::look(&self.ca).await;
        let holders = standing.gate.map(|gate| gate.holders).unwrap_or_default();
        // What this CA waits for above is no news there.
        let holders =
            holders.into_iter().filter(|holder| !matches!(holder.who, explain::Who::Others { .. }));
        let mut names: Vec<_> =
            standing.troubles.into_iter().chain(holders.map(|holder| holder.sentence())).collect();
        if names.is_empty() {
            names.push(format!(
                "it is {} with bundle {} of its own",
                state.phase.name(),
                state.sequence
            ));
        }
        names
    }

    async fn report(&mut self, report: DownstreamReport) {
        self.ticks = self.ticks.saturating_add(1);
        let due = self.ticks >= REPORT_EVERY;
        if !due && self.last.as_ref() == Some(&report) {
            return;
        }
        let Some(downstream) = self.authority.upstream() else { return };
        let Ok(request_id) = PluginRequestId::parse("tier-report") else { return };
        let context = CallContext::new(request_id, REPORT_WITHIN);
        let told = tokio::time::timeout(REPORT_WITHIN, downstream.report(&context, &report)).await;
        self.ticks = 0;
        match told {
            Ok(Ok(())) => self.last = Some(report),
            // As if it had been told: it comes again with the next change, or in a few ticks.
            Ok(Err(error)) => {
                tracing::debug!(authority = self.name, %error, "the report was not taken; it is sent again");
                self.last = Some(report);
            }
            Err(_) => self.last = Some(report),
        }
    }
}
