//! A root that counts as compromised. Another one signs as soon as the trust gate lets it, its leaves are re-issued, and it goes
//! through the leaf gate, or before by a word that is kept. What is under way is turned so that this happens.

use trust::{RootId, Timestamp};

use super::draft::{Decision, Draft};
use super::{canary, guards, passage, standby, verbs};
use crate::{
    AuthorityName, Canary, Cause, Cut, Draining, Effect, Ending, Mode, Phase, Policy, RequestId,
    RootState, Rotation, Staging, StagingStep, State, Taint,
};

/// What somebody says of a root.
pub(super) struct Told<'a> {
    pub(super) request_id: &'a RequestId,
    pub(super) root: RootId,
    pub(super) authority: &'a AuthorityName,
    pub(super) by: &'a str,
    pub(super) reason: &'a str,
}

/// Who wants something of a root, and why.
pub(super) struct Word<'a> {
    pub(super) request_id: &'a RequestId,
    pub(super) root: RootId,
    pub(super) by: &'a str,
    pub(super) reason: &'a str,
}

pub(super) fn distrusted(
    state: &State,
    told: &Told<'_>,
    now: Timestamp,
    policy: &Policy,
) -> Decision {
    let Told { request_id, root, authority, by, reason } = *told;
    if state.done.contains(request_id) {
        return Ok(None);
    }
    if state.signing_root().is_none() {
        return Err(Cause::NotBootstrapped);
    }
    let entry = state.roots.get(&root).ok_or(Cause::UnknownRoot { root })?;
    if guards::is_in_use(state, request_id) {
        return Err(Cause::RequestIdReused { request_id: request_id.clone() });
    }
    guards::none_open(state)?;
    if let Some(by) = state.further.get(&root).and_then(|further| further.by.first()) {
        return Err(Cause::NamedByOthers { root, authority: by.clone() });
    }
    let others = entry.taint.as_ref().map(|taint| &taint.authority) != Some(authority);
    if entry.tainted && !(others && is_being_replaced(state, root)) {
        return again(state, request_id, now);
    }
    let mut draft = Draft::after(state);
    let (by, reason) = (by.to_owned(), reason.to_owned());
    let taint = Taint { by, reason, since: now, authority: authority.clone(), cut: None };
    if let Some(entry) = draft.state.roots.get_mut(&root) {
        (entry.tainted, entry.taint) = (true, Some(taint));
    }
    turn(&mut draft, state, root, now, policy)?;
    Ok(Some(draft.done(request_id)))
}

/// What could not be begun when it was said first.
fn again(state: &State, request_id: &RequestId, now: Timestamp) -> Decision {
    let mut draft = Draft::after(state);
    at_rest(&mut draft, now);
    let begins = draft.state.phase != state.phase;
    Ok(begins.then(|| draft.done(request_id)))
}

/// Whether a root is being made that takes the place of this one.
fn is_being_replaced(state: &State, root: RootId) -> bool {
    matches!(&state.phase, Phase::Staging(Staging { from, .. }) if *from == root)
}

/// It was a mistake. Nothing else changes: what is under way goes on, and may be given up or rolled back as any other.
pub(super) fn trusted_again(state: &State, request_id: &RequestId, root: RootId) -> Decision {
    if state.done.contains(request_id) {
        return Ok(None);
    }
    let entry = state.roots.get(&root).ok_or(Cause::UnknownRoot { root })?;
    if guards::is_in_use(state, request_id) {
        return Err(Cause::RequestIdReused { request_id: request_id.clone() });
    }
    if !entry.tainted {
        return Ok(None);
    }
    let mut draft = Draft::after(state);
    if let Some(entry) = draft.state.roots.get_mut(&root) {
        (entry.tainted, entry.taint) = (false, None);
    }
    Ok(Some(draft.done(request_id)))
}

/// It leaves the bundle before the leaf gate: whoever has a leaf of it breaks.
pub(super) fn cut(state: &State, word: &Word<'_>, now: Timestamp) -> Decision {
    let Word { request_id, root, by, reason } = *word;
    if state.done.contains(request_id) {
        return Ok(None);
    }
    let entry = state.roots.get(&root).ok_or(Cause::UnknownRoot { root })?;
    if guards::is_in_use(state, request_id) {
        return Err(Cause::RequestIdReused { request_id: request_id.clone() });
    }
    if !entry.tainted {
        return Err(Cause::NotDistrusted { root });
    }
    if entry.state.is_retired() {
        return Ok(None);
    }
    guards::none_open(state)?;
    let phase = match &state.phase {
        Phase::Draining(phase) if phase.from == root && !signer_changes(state) => phase,
        phase => {
            let phase = phase.name().to_owned();
            return Err(Cause::NotReplaced { root, state: entry.state, phase });
        }
    };
    let mut draft = Draft::after(state);
    if let Some(taint) = draft.state.roots.get_mut(&root).and_then(|entry| entry.taint.as_mut()) {
        taint.cut = Some(Cut { by: by.to_owned(), reason: reason.to_owned(), at: now });
    }
    let ending = if phase.rolled_back { Ending::RolledBack } else { Ending::Completed };
    let goes = passage::Goes { from: root, to: phase.to, ending };
    let rotation = Rotation { held_since: None, ..phase.rotation.clone() };
    passage::withdraw(&mut draft, &rotation, goes, now);
    Ok(Some(draft.done(request_id)))
}

/// Requests may still be signed under the former root.
fn signer_changes(state: &State) -> bool {
    let switch = |effect: &Effect| matches!(effect, Effect::SwitchSigner { .. });
    state.pending.iter().any(|pending| switch(&pending.effect))
}

/// Turns what is under way. What cannot be turned goes on, and [`at_rest`] takes it up when it is over.
fn turn(
    draft: &mut Draft,
    former: &State,
    root: RootId,
    now: Timestamp,
    policy: &Policy,
) -> Result<(), Cause> {
    match &former.phase {
        Phase::Uninitialised | Phase::Bootstrapping(_) => {}
        Phase::Steady(_) => at_rest(draft, now),
        // A standby root, or another authority than the one that was asked.
        Phase::Staging(phase) if phase.from == root => {
            let taint = draft.state.roots.get(&root).and_then(|entry| entry.taint.as_ref());
            let others = taint.is_some_and(|taint| taint.authority != phase.rotation.authority);
            match others || draft.state.next_standby(now).is_some() {
                true => verbs::give_up(draft, phase, now),
                false => hasten(draft, now),
            }
        }
        Phase::Staging(phase) if phase.step.root() == Some(root) => {
            verbs::give_up(draft, phase, now);
        }
        Phase::Distributing(phase) if phase.from == root => hasten(draft, now),
        Phase::Distributing(phase) if phase.to == root => {
            let rotation = Rotation { held_since: None, ..phase.rotation.clone() };
            let signed = verbs::has_leaves(former, &root);
            let drains = former.roots.get(&root).is_some_and(|entry| entry.state.is_draining());
            match (signed, drains) {
                (false, _) => {
                    let ending = Ending::Aborted;
                    let goes = passage::Goes { from: root, to: phase.from, ending };
                    passage::withdraw(draft, &rotation, goes, now);
                }
                // It signed before it was rolled back, so its leaves are waited for.
                (true, true) => {
                    draft.state.phase = Phase::Draining(Draining {
                        rotation,
                        from: root,
                        to: phase.from,
                        bundle: phase.bundle,
                        switched: draft.state.generation,
                        rolled_back: true,
                        since: now,
                        settling: None,
                        observer: None,
                    });
                }
                (true, false) => return Err(Cause::MayHaveSigned),
            }
        }
        // It signs for some already, so for all: the trust gate was passed.
        Phase::Canary(phase) if phase.from == root => {
            hasten(draft, now);
            let rotation = draft.state.phase.rotation().unwrap_or(&phase.rotation).clone();
            canary::finish(draft, &Canary { rotation, ..*phase.clone() }, now);
        }
        Phase::Canary(phase) if phase.to == root => {
            hasten(draft, now);
            let rotation = draft.state.phase.rotation().unwrap_or(&phase.rotation).clone();
            canary::back(draft, &Canary { rotation, ..*phase.clone() }, now);
        }
        Phase::Draining(phase) if phase.to == root => {
            hasten(draft, now);
            let other = former.roots.get(&phase.from).filter(|entry| !entry.tainted);
            let until = other.and_then(|entry| entry.signs_until());
            if until.is_some_and(|until| until.since(now) >= policy.leaf_lifetime_min) {
                let rotation = draft.state.phase.rotation().unwrap_or(&phase.rotation).clone();
                let phase = Draining { rotation, ..phase.clone() };
                match phase.rolled_back {
                    false => verbs::back(draft, &phase, now),
                    true => verbs::forward(draft, &phase, now),
                }
            }
        }
        Phase::Draining(phase) if phase.from == root => hasten(draft, now),
        // Nobody's connection depends on the end of this phase.
        Phase::Withdrawing(phase) if phase.to == root => {
            passage::finish(draft, &phase.rotation, phase.ending, now);
        }
        Phase::Staging(_)
        | Phase::Distributing(_)
        | Phase::Canary(_)
        | Phase::Draining(_)
        | Phase::Withdrawing(_) => {}
    }
    Ok(())
}

/// Nobody holds the rotation any more, nobody has to say that the new root signs, and it does for everybody at once.
fn hasten(draft: &mut Draft, now: Timestamp) {
    if let Some(rotation) = draft.state.phase.rotation_mut() {
        (rotation.mode, rotation.held_since, rotation.canary) = (Mode::Auto, None, None);
    }
    super::staging::go_on(draft, now);
}

/// Nothing about roots is under way: a distrusted root is replaced if it signs, and leaves if it is a standby root.
pub(super) fn at_rest(draft: &mut Draft, now: Timestamp) {
    if !draft.state.phase.is_steady() || guards::none_open(&draft.state).is_err() {
        return;
    }
    let goes = |state: RootState| {
        let mut distrusted = draft.state.roots.iter().filter(|(_, entry)| entry.tainted);
        let (id, entry) = distrusted.find(|(_, entry)| entry.state == state)?;
        let authority = entry.taint.as_ref().map_or(&entry.authority, |taint| &taint.authority);
        Some((*id, authority.clone(), entry.signed_since_staged()))
    };
    let name = format!("distrust-{}", draft.state.generation);
    let Ok(request_id) = RequestId::parse(&name) else { return };
    let rotation = |authority: AuthorityName, mode| Rotation {
        request_id,
        authority,
        mode,
        requested_at: now,
        stage_again: None,
        held_since: None,
        canary: None,
    };
    if let Some((from, authority, _)) = goes(RootState::Active) {
        if let Some(root) = draft.state.next_standby(now) {
            let owner = draft.state.roots.get(&root).map(|entry| entry.authority.clone());
            let rotation = rotation(owner.unwrap_or(authority), Mode::Auto);
            return standby::lead_to(draft, rotation, root, now);
        }
        let rotation = rotation(authority, Mode::Auto);
        let (request_id, authority) = (rotation.request_id.clone(), rotation.authority.clone());
        draft.state.phase =
            Phase::Staging(Staging { rotation, from, step: StagingStep::StagingRoot });
        draft.owe(Effect::StageRoot { request_id, authority });
    } else if let Some((root, authority, false)) = goes(RootState::Published) {
        standby::leave(draft, &rotation(authority, Mode::Standby), root, now);
    }
}
