//! What is seen of the cohort of a canary.

use trust::Timestamp;

use super::draft::Draft;
use super::settling::{Settling, is_free};
use super::{canary, guards};
use crate::evidence::{self, Evidence};
use crate::{Canary, Mode, Phase, Policy, State};

/// Looks at the cohort: trouble holds the canary, and one that was well for long enough ends it.
pub(super) fn watched(
    state: &State,
    phase: &Canary,
    evidence: &Evidence,
    now: Timestamp,
    policy: &Policy,
) -> Option<Draft> {
    let mut draft = Draft::after(state);
    let seen = evidence.cohort.unwrap_or_default();
    if phase.rotation.held_since.is_none() && seen.trouble.is_above(phase.accepted.as_ref(), policy)
    {
        draft.set_held(Some(now));
        draft.set_observing(None);
        if let Phase::Canary(canary) = &mut draft.state.phase {
            canary.trouble = Some(seen.trouble);
        }
        return Some(draft);
    }
    let gate = evidence::canary_gate(state, phase, evidence, policy);
    let trust = evidence::trust_gate_again(state, phase, evidence, policy);
    let settling =
        Settling { began: phase.settling, by: phase.observer.as_ref(), evidence, policy };
    // While it is held nobody watches it: that begins when it goes on.
    let watches = gate.is_met() && phase.rotation.held_since.is_none();
    if !trust.is_met() {
        phase.settling?;
        draft.set_settling(None);
        return Some(draft);
    }
    if settling.begins(state) {
        draft.close_over(&trust.rests_on);
        draft.set_settling(Some(evidence));
        draft.set_observing(watches.then_some(evidence.uptime));
        return Some(draft);
    }
    if !settling.is_counted() {
        return None;
    }
    if watches != phase.observing.is_some() {
        draft.set_observing(watches.then_some(evidence.uptime));
        return Some(draft);
    }
    let by_itself = phase.rotation.mode != Mode::Manual
        && guards::not_distrusted(state, phase.to).is_ok()
        && is_free(state, &phase.rotation);
    if !(by_itself && gate.is_open()) {
        return None;
    }
    draft.close_over(&gate.rests_on);
    canary::finish(&mut draft, phase, now);
    Some(draft)
}
