//! Through the gates: from one phase of a rotation to the next, by evidence only.

use std::collections::BTreeSet;

use trust::{RootId, Timestamp};

use super::draft::{Decision, Draft};
use super::settling::{Settling, is_free};
use super::switch::Passes;
use super::{canary, guards, switch, watch};
use crate::evidence::{self, Evidence, Gate};
use crate::{
    Cause, Contents, Distributing, Effect, Ended, Ending, Mode, Observer, Phase, Policy, RootState,
    Rotation, SegmentId, SegmentState, State, Steady, Withdrawing,
};

/// Looks at the gate of the present phase. Evidence about a former bundle changes nothing.
pub(super) fn evidence_reported(
    state: &State,
    evidence: &Evidence,
    now: Timestamp,
    policy: &Policy,
) -> Decision {
    not_ahead(evidence, now)?;
    match &state.phase {
        Phase::Distributing(phase) if evidence.sequence == phase.bundle.sequence => {
            let gate = evidence::trust_gate(state, phase, evidence, policy);
            let by_itself = phase.rotation.mode != Mode::Manual
                && guards::not_distrusted(state, phase.to).is_ok();
            let free = by_itself && is_free(state, &phase.rotation);
            let pass = |draft: &mut Draft| match phase.rotation.mode {
                Mode::Auto | Mode::Manual => activate(draft, phase, now),
                Mode::Standby => finish(draft, &phase.rotation, Ending::Completed, now),
            };
            let (began, by) = (phase.settling, phase.observer.as_ref());
            let settling = Settling { began, by, evidence, policy };
            Ok(watched(state, &gate, settling, free.then_some(pass)))
        }
        Phase::Canary(phase) if evidence.sequence == phase.bundle.sequence => {
            Ok(watch::watched(state, phase, evidence, now, policy))
        }
        Phase::Draining(phase) => {
            let gate = evidence::leaf_gate(state, phase, evidence, policy);
            // After a rollback too: what drains goes, and the rotation is over.
            let free = is_free(state, &phase.rotation);
            let ending = if phase.rolled_back { Ending::RolledBack } else { Ending::Completed };
            let goes = Goes { from: phase.from, to: phase.to, ending };
            let pass = |draft: &mut Draft| withdraw(draft, &phase.rotation, goes, now);
            let (began, by) = (phase.settling, phase.observer.as_ref());
            let settling = Settling { began, by, evidence, policy };
            Ok(watched(state, &gate, settling, free.then_some(pass)))
        }
        Phase::Withdrawing(phase) if evidence.sequence == phase.bundle.sequence => {
            let gate = evidence::converged_gate(state, phase, evidence, policy);
            let passes = gate.is_open() && is_free(state, &phase.rotation);
            Ok(passes.then(|| {
                let mut draft = Draft::after(state);
                finish(&mut draft, &phase.rotation, phase.ending, now);
                draft
            }))
        }
        Phase::Uninitialised
        | Phase::Bootstrapping(_)
        | Phase::Steady(_)
        | Phase::Staging(_)
        | Phase::Distributing(_)
        | Phase::Canary(_)
        | Phase::Withdrawing(_) => Ok(None),
    }
}

/// Evidence that its own reader dates after the time of the step mixes two clocks.
pub(super) fn not_ahead(evidence: &Evidence, now: Timestamp) -> Result<(), Cause> {
    if evidence.at > now { Err(Cause::EvidenceAhead { at: evidence.at, now }) } else { Ok(()) }
}

/// Starts, restarts or ends the settle time of a gate.
///
/// It starts in the record, together with the end of every segment that counts as over: what is not over between
/// here and the opening cannot come back unseen.
fn watched(
    state: &State,
    gate: &Gate,
    settling: Settling<'_>,
    pass: Option<impl FnOnce(&mut Draft)>,
) -> Option<Draft> {
    let mut draft = Draft::after(state);
    if !gate.is_met() {
        settling.began?;
        draft.set_settling(None);
        return Some(draft);
    }
    match pass {
        // Between two observers nobody may have looked: each lets pass only what it has seen from the beginning to the end.
        Some(pass) if gate.is_open() && settling.is_counted() => {
            draft.close_over(&gate.rests_on);
            pass(&mut draft);
        }
        _ if settling.begins(state) => {
            draft.close_over(&gate.rests_on);
            draft.set_settling(Some(settling.evidence));
        }
        _ => return None,
    }
    Some(draft)
}

/// The trust gate is open: the new root signs, for a cohort first if the rotation asks for that.
pub(super) fn activate(draft: &mut Draft, phase: &Distributing, now: Timestamp) {
    let Distributing { rotation, from, to, bundle, .. } = phase.clone();
    match rotation.canary.clone() {
        Some(cohort) => canary::begin(draft, phase, cohort, now),
        None => switch::switch(draft, Passes { rotation, from, to, bundle }, now),
    }
}

/// A root that goes, the one that stays, and why.
#[derive(Clone, Copy)]
pub(super) struct Goes {
    pub(super) from: RootId,
    pub(super) to: RootId,
    pub(super) ending: Ending,
}

/// No leaf of the root that goes is alive, or it never signed: it leaves the bundle.
pub(super) fn withdraw(draft: &mut Draft, rotation: &Rotation, goes: Goes, now: Timestamp) {
    let Goes { from, to, ending } = goes;
    let before = draft.state.bundle_ids();
    draft.retire(from);
    let bundle = draft.publish(&before);
    let rotation = rotation.clone();
    draft.state.phase =
        Phase::Withdrawing(Withdrawing { rotation, from, to, bundle, since: now, ending });
}

/// The rotation is over.
pub(super) fn finish(draft: &mut Draft, rotation: &Rotation, ending: Ending, now: Timestamp) {
    let ended = Some(Ended { request_id: rotation.request_id.clone(), ending });
    draft.state.phase = Phase::Steady(Steady { since: now, ended });
    draft.state.done.remember(rotation.request_id.clone());
}

/// What was counted on the uptime of a former driver counts for nothing. Where it is known whose uptime that was, its
/// segment tells whether it goes on.
pub(super) fn driver_started(state: &State) -> Decision {
    let mut draft = Draft::after(state);
    match draft.state.phase.settling_mut() {
        Some((settling, None)) if settling.is_some() => {
            draft.set_settling(None);
            Ok(Some(draft))
        }
        _ => Ok(None),
    }
}

impl Draft {
    /// Lets `to` sign in the place of `from`.
    pub(super) fn switch(&mut self, from: RootId, to: RootId) {
        self.set_root(from, RootState::Draining);
        self.set_root(to, RootState::Active);
        self.settle(|effect| matches!(effect, Effect::SwitchSigner { .. }));
        let Some(entry) = self.state.roots.get(&to).filter(|entry| entry.has_signer()) else {
            return;
        };
        let issuer = entry.ownerless_signer();
        self.owe(Effect::SwitchSigner { root: to, issuer });
    }

    /// Takes a root out of use: nothing is asked for under it any more.
    pub(super) fn retire(&mut self, root: RootId) {
        self.settle(
            |effect| matches!(effect, Effect::RequestIssuer { root: under, .. } if *under == root),
        );
        if let Some(entry) = self.state.roots.get_mut(&root) {
            entry.state = RootState::Retired;
            entry.renewal = None;
            entry.renewals.clear();
        }
    }

    /// Has the settle time begin with this report, or says that it has not begun.
    pub(super) fn set_settling(&mut self, with: Option<&Evidence>) {
        if let Some((settling, observer)) = self.state.phase.settling_mut() {
            *settling = with.map(|evidence| evidence.uptime);
            *observer = with.and_then(|evidence| {
                let segment = evidence.observer.clone()?;
                Some(Observer { segment, since: evidence.at })
            });
        }
        self.set_observing(None);
    }

    /// Closes every segment that the gate takes for over.
    pub(super) fn close_over(&mut self, segments: &BTreeSet<SegmentId>) {
        for id in segments {
            if let Some(segment) = self.state.segments.get_mut(id) {
                segment.state = SegmentState::Closed(Contents::Unread);
            }
        }
    }
}
