//! The start of a rotation: a new root and its first issuer, asked for and taken; then both roots into the bundle.

use trust::{Cohort, RootId, Timestamp};

use super::draft::{Decision, Draft};
use super::guards;
use super::root::{Prepared, answered_before, stage};
use crate::{
    AuthorityName, Cause, Distributing, Effect, Mode, Phase, RequestId, RootState, Rotation,
    Staging, StagingStep, State,
};

/// What somebody requests.
pub(super) struct Request<'a> {
    pub(super) request_id: &'a RequestId,
    pub(super) authority: &'a AuthorityName,
    pub(super) mode: Mode,
    pub(super) stage_again: Option<RootId>,
    pub(super) canary: Option<&'a Cohort>,
}

pub(super) fn requested(state: &State, request: &Request<'_>, now: Timestamp) -> Decision {
    let Request { request_id, authority, mode, stage_again, canary } = *request;
    if state.done.contains(request_id) {
        return Ok(None);
    }
    if let Some(rotation) = state.phase.rotation() {
        let other = || Cause::RequestIdReused { request_id: request_id.clone() };
        return match rotation.request_id == *request_id {
            true if rotation.authority == *authority
                && rotation.mode == mode
                && rotation.stage_again == stage_again
                && rotation.canary.as_ref() == canary =>
            {
                Ok(None)
            }
            true => Err(other()),
            false => Err(Cause::RotationUnderWay {
                request_id: rotation.request_id.clone(),
                ending: state.phase.given_up().unwrap_or_default(),
            }),
        };
    }
    if !matches!(state.phase, Phase::Steady(_)) {
        return Err(Cause::NotBootstrapped);
    }
    guards::none_open(state)?;
    if guards::is_in_use(state, request_id) {
        return Err(Cause::RequestIdReused { request_id: request_id.clone() });
    }
    let from = state.signing_root().ok_or(Cause::NotBootstrapped)?;
    let mut draft = Draft::after(state);
    let rotation = Rotation {
        request_id: request_id.clone(),
        authority: authority.clone(),
        mode,
        requested_at: now,
        stage_again,
        held_since: None,
        canary: canary.cloned(),
    };
    draft.state.phase = Phase::Staging(Staging { rotation, from, step: StagingStep::StagingRoot });
    draft.owe(Effect::StageRoot { request_id: request_id.clone(), authority: authority.clone() });
    Ok(Some(draft))
}

pub(super) fn root_prepared(
    state: &State,
    staging: &Staging,
    prepared: Prepared<'_>,
    now: Timestamp,
) -> Decision {
    let Rotation { request_id, authority, .. } = &staging.rotation;
    if let Some(former) = staging.step.root() {
        return answered_before(request_id, former, prepared.root);
    }
    let mut draft = Draft::after(state);
    stage(&mut draft, request_id, authority, prepared, now)?;
    let step = StagingStep::RequestingIssuer { root: prepared.root.id };
    draft.state.phase = Phase::Staging(Staging { step, ..staging.clone() });
    Ok(Some(draft))
}

/// The first issuer of the new root is there: it is published at once, unless the rotation is held.
pub(super) fn issuer_is_there(draft: &mut Draft, root: RootId, now: Timestamp) {
    let Phase::Staging(staging) = &mut draft.state.phase else { return };
    staging.step = StagingStep::Ready { root };
    go_on(draft, now);
}

/// Puts the new root into the bundle, if it is ready and the rotation is not held.
pub(super) fn go_on(draft: &mut Draft, now: Timestamp) {
    if draft.state.phase.rotation().is_some_and(|rotation| rotation.held_since.is_none()) {
        distribute(draft, now);
    }
}

/// Puts the new root into the bundle, if it is ready, no other bundle is on its way, and nobody holds one that this record
/// never published.
fn distribute(draft: &mut Draft, now: Timestamp) {
    // A bundle with other further roots goes out first: between two bundles roots are added or removed, never both.
    if guards::none_open(&draft.state).is_err() || draft.state.publishes() {
        return;
    }
    let Phase::Staging(Staging { rotation, from, step: StagingStep::Ready { root } }) =
        &draft.state.phase
    else {
        return;
    };
    let (rotation, from, to) = (rotation.clone(), *from, *root);
    let before = draft.state.bundle_ids();
    draft.set_root(to, RootState::Published);
    let bundle = draft.publish(&before);
    draft.state.phase = Phase::Distributing(Distributing {
        rotation,
        from,
        to,
        bundle,
        since: now,
        settling: None,
        observer: None,
    });
}
