//! What an operator may ask of a rotation. A request id that was carried out is not carried out again.

use trust::{Cohort, RootId, Sequence, Timestamp};

use super::draft::{Decision, Draft};
use super::{canary, guards, passage, staging};
use crate::evidence::{self, Evidence, Gate};
use crate::{
    Cause, Distributing, Draining, Effect, Ending, LOST_REPLICA, Mode, Phase, Policy, RequestId,
    Rotation, Staging, State,
};

/// Lets the new root sign by the same gate as the machine would. After a rollback it goes back to the wait for that
/// gate, since who relies on the bundle may have changed meanwhile.
pub(super) fn activate(
    state: &State,
    request_id: &RequestId,
    evidence: &Evidence,
    now: Timestamp,
    policy: &Policy,
) -> Decision {
    let Some(rotation) = fresh(state, request_id)? else { return Ok(None) };
    guards::none_open(state)?;
    let mut draft = Draft::after(state);
    match &state.phase {
        Phase::Distributing(phase) if rotation.mode != Mode::Standby => {
            guards::not_distrusted(state, phase.to)?;
            passage::not_ahead(evidence, now)?;
            free(rotation)?;
            about(evidence, phase.bundle.sequence)?;
            let gate = evidence::trust_gate(state, phase, evidence, policy);
            draft.close_over(&open(gate)?.rests_on);
            passage::activate(&mut draft, phase, now);
        }
        Phase::Canary(phase) => {
            guards::not_distrusted(state, phase.to)?;
            passage::not_ahead(evidence, now)?;
            free(rotation)?;
            about(evidence, phase.bundle.sequence)?;
            let gate = evidence::trust_gate_again(state, phase, evidence, policy);
            draft.close_over(&open(gate)?.rests_on);
            canary::finish(&mut draft, phase, now);
        }
        Phase::Draining(phase) if phase.rolled_back => {
            guards::not_distrusted(state, phase.from)?;
            free(rotation)?;
            forward(&mut draft, phase, now);
        }
        _ => return Err(Cause::NothingToActivate),
    }
    Ok(Some(draft.done(request_id)))
}

/// Evidence about another bundle opens no gate.
fn about(evidence: &Evidence, wanted: Sequence) -> Result<(), Cause> {
    match evidence.sequence == wanted {
        true => Ok(()),
        false => Err(Cause::EvidenceStale { sequence: evidence.sequence, wanted }),
    }
}

fn open(gate: Gate) -> Result<Gate, Cause> {
    if gate.is_open() {
        return Ok(gate);
    }
    let Gate { name: gate, holds, opens_at_latest, .. } = gate;
    Err(Cause::GateClosed { gate, holds, opens_at_latest })
}

/// Lets it sign for more.
pub(super) fn widened(state: &State, request_id: &RequestId, cohort: &Cohort) -> Decision {
    let Some(rotation) = fresh(state, request_id)? else { return Ok(None) };
    let Phase::Canary(phase) = &state.phase else {
        return Err(Cause::NoCanary { phase: state.phase.name().to_owned() });
    };
    guards::none_open(state)?;
    guards::not_distrusted(state, phase.to)?;
    if *cohort == phase.cohort {
        return Ok(None);
    }
    if !cohort.includes(&phase.cohort) {
        let (asked, present) = (cohort.clone(), phase.cohort.clone());
        return Err(Cause::CohortNarrower { asked, present });
    }
    free(rotation)?;
    let mut draft = Draft::after(state);
    draft.set_observing(None);
    if let Phase::Canary(canary) = &mut draft.state.phase {
        canary.cohort = cohort.clone();
    }
    Ok(Some(draft.done(request_id)))
}

/// Holding what is held already is done.
pub(super) fn hold(state: &State, request_id: &RequestId, now: Timestamp) -> Decision {
    let Some(rotation) = fresh(state, request_id)? else { return Ok(None) };
    if rotation.held_since.is_some() {
        return Ok(None);
    }
    let mut draft = Draft::after(state);
    draft.set_held(Some(now));
    Ok(Some(draft.done(request_id)))
}

/// Lets phases end again; a root that became ready meanwhile goes into the bundle.
pub(super) fn resume(state: &State, request_id: &RequestId, now: Timestamp) -> Decision {
    let Some(rotation) = fresh(state, request_id)? else { return Ok(None) };
    if rotation.held_since.is_none() {
        return Ok(None);
    }
    let mut draft = Draft::after(state);
    draft.set_held(None);
    canary::resumed(&mut draft);
    staging::go_on(&mut draft, now);
    Ok(Some(draft.done(request_id)))
}

/// Gives a rotation up while no leaf of its root exists: a root that never signed leaves the bundle without a gate.
pub(super) fn abort(state: &State, request_id: &RequestId, now: Timestamp) -> Decision {
    let Some(rotation) = fresh(state, request_id)? else { return Ok(None) };
    let mut draft = Draft::after(state);
    draft.set_held(None);
    match &state.phase {
        Phase::Staging(Staging { from, .. }) | Phase::Distributing(Distributing { from, .. })
            if guards::not_distrusted(state, *from).is_err() =>
        {
            return Err(Cause::Distrusted { root: *from });
        }
        Phase::Staging(staging) => give_up(&mut draft, staging, now),
        Phase::Distributing(phase) if !has_leaves(state, &phase.to) => {
            guards::none_open(state)?;
            let rotation = Rotation { held_since: None, ..rotation.clone() };
            let goes = passage::Goes { from: phase.to, to: phase.from, ending: Ending::Aborted };
            passage::withdraw(&mut draft, &rotation, goes, now);
        }
        Phase::Distributing(phase) if may_have_leaves(state, &phase.to) => {
            return Err(Cause::MayHaveSigned);
        }
        // Giving up what was given up is done; whoever holds it lets it go on by resuming it.
        Phase::Withdrawing(phase) if phase.ending == Ending::Aborted => return Ok(None),
        _ => return Err(Cause::TooLateToAbort),
    }
    Ok(Some(draft.done(request_id)))
}

/// Lets the former root sign again while both are trusted; the new one drains.
pub(super) fn rollback(
    state: &State,
    request_id: &RequestId,
    now: Timestamp,
    policy: &Policy,
) -> Decision {
    if fresh(state, request_id)?.is_none() {
        return Ok(None);
    }
    guards::none_open(state)?;
    let root = match &state.phase {
        Phase::Draining(phase) if !phase.rolled_back => phase.from,
        Phase::Canary(phase) => phase.from,
        phase => return Err(no_way_back(phase)),
    };
    let entry = state.roots.get(&root).ok_or(Cause::UnknownRoot { root })?;
    let not_after = entry.signs_until().ok_or(Cause::UnknownRoot { root })?;
    guards::not_distrusted(state, root)?;
    if not_after.since(now) < policy.leaf_lifetime_min {
        return Err(Cause::LifeTooShort { root, not_after, min: policy.leaf_lifetime_min });
    }
    let mut draft = Draft::after(state);
    match &state.phase {
        Phase::Draining(phase) => back(&mut draft, phase, now),
        Phase::Canary(phase) => canary::back(&mut draft, phase, now),
        phase => return Err(no_way_back(phase)),
    }
    Ok(Some(draft.done(request_id)))
}

/// The former root signs again, the new one drains.
pub(super) fn back(draft: &mut Draft, phase: &Draining, now: Timestamp) {
    draft.switch(phase.to, phase.from);
    draft.state.phase = Phase::Draining(Draining {
        from: phase.to,
        to: phase.from,
        switched: draft.state.generation,
        rolled_back: true,
        since: now,
        settling: None,
        observer: None,
        ..phase.clone()
    });
}

/// Forward again after a rollback: to the wait for the trust gate, which is judged anew.
pub(super) fn forward(draft: &mut Draft, phase: &Draining, now: Timestamp) {
    let Draining { rotation, from, to, bundle, .. } = phase.clone();
    draft.state.phase = Phase::Distributing(Distributing {
        rotation,
        from: to,
        to: from,
        bundle,
        since: now,
        settling: None,
        observer: None,
    });
}

/// Nothing is asked for the new root any more, which nobody trusts yet.
pub(super) fn give_up(draft: &mut Draft, staging: &Staging, now: Timestamp) {
    draft.settle(|effect| matches!(effect, Effect::StageRoot { .. }));
    if let Some(root) = staging.step.root() {
        draft.retire(root);
    }
    passage::finish(draft, &staging.rotation, Ending::Aborted, now);
}

/// Why there is nothing to roll back.
fn no_way_back(phase: &Phase) -> Cause {
    match (phase, phase.given_up()) {
        (_, Some(Ending::RolledBack)) => Cause::RolledBackBefore,
        (Phase::Withdrawing(_), None | Some(Ending::Completed)) => Cause::FormerRootLeft,
        _ => Cause::NothingToRollBack,
    }
}

/// The rotation that a verb is about; `None` when the verb was carried out before.
fn fresh<'a>(state: &'a State, request_id: &RequestId) -> Result<Option<&'a Rotation>, Cause> {
    if state.done.contains(request_id) {
        return Ok(None);
    }
    let rotation = state.phase.rotation().ok_or(Cause::NoRotation)?;
    if guards::is_in_use(state, request_id) {
        return Err(Cause::RequestIdReused { request_id: request_id.clone() });
    }
    Ok(Some(rotation))
}

fn free(rotation: &Rotation) -> Result<(), Cause> {
    rotation.held_since.map_or(Ok(()), |since| Err(Cause::Held { since }))
}

/// Whether a leaf under this root may ever have been released.
pub(super) fn has_leaves(state: &State, root: &RootId) -> bool {
    state.roots.get(root).is_none_or(|entry| entry.signed_since_staged())
}

/// Whether leaves under this root are counted that nobody knows: the record was restored.
fn may_have_leaves(state: &State, root: &RootId) -> bool {
    let lost = state.segments.values().filter(|one| one.replica.as_str() == LOST_REPLICA);
    lost.into_iter().any(|one| one.bounds.contains_key(root))
}

impl Draft {
    pub(super) fn set_held(&mut self, since: Option<Timestamp>) {
        if let Some(rotation) = self.state.phase.rotation_mut() {
            rotation.held_since = since;
        }
    }

    pub(super) fn done(mut self, request_id: &RequestId) -> Self {
        self.state.done.remember(request_id.clone());
        self
    }
}
