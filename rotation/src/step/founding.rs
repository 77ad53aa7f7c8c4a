//! First boot: from nothing to one root that signs.
//!
//! The wish is stored before anything is asked of the authority, so that whoever comes back after a crash asks under
//! the same request id and gets the same root.

use trust::{RootId, Timestamp};

use super::{Decision, Draft};
use crate::{
    AuthorityName, Cause, Effect, Founding, FoundingStep, Phase, PreparedRoot, RequestId, RootEntry,
    RootState, State, Steady,
};

pub(super) fn requested(
    state: &State,
    request_id: &RequestId,
    authority: &AuthorityName,
    now: Timestamp,
) -> Decision {
    match &state.phase {
        Phase::Uninitialised => {}
        Phase::Founding(founding) if founding.request_id != *request_id => {
            return Err(Cause::FoundingUnderWay { request_id: founding.request_id.clone() });
        }
        Phase::Founding(founding) if founding.authority != *authority => {
            return Err(Cause::RequestIdReused { request_id: request_id.clone() });
        }
        Phase::Founding(_) => return Ok(None),
        Phase::Steady(_) if state.done.contains(request_id) => return Ok(None),
        Phase::Steady(_) => return Err(Cause::AlreadyFounded),
    }
    let mut draft = Draft::after(state);
    draft.state.phase = Phase::Founding(Founding {
        request_id: request_id.clone(),
        authority: authority.clone(),
        requested_at: now,
        step: FoundingStep::StagingRoot,
    });
    draft.owe(Effect::StageRoot { request_id: request_id.clone(), authority: authority.clone() });
    Ok(Some(draft))
}

pub(super) fn root_prepared(
    state: &State,
    request_id: &RequestId,
    root: &PreparedRoot,
    now: Timestamp,
) -> Decision {
    let not_asked = || Cause::NotAsked { request_id: request_id.clone() };
    let founding = match &state.phase {
        Phase::Founding(founding) if founding.request_id == *request_id => founding,
        Phase::Steady(_) if state.done.contains(request_id) && state.roots.contains_key(&root.id) => {
            return Ok(None);
        }
        _ => return Err(not_asked()),
    };
    if let Some(former) = founding.step.root() {
        return if former == root.id {
            Ok(None)
        } else {
            Err(Cause::AnsweredOtherwise { request_id: request_id.clone(), former: former.to_string() })
        };
    }
    if root.not_after <= now {
        return Err(Cause::Expired { not_after: root.not_after });
    }
    if state.roots.contains_key(&root.id) {
        return Err(Cause::RootKnown { root: root.id });
    }
    let mut draft = Draft::after(state);
    draft.state.roots.insert(root.id, staged(root, founding.authority.clone()));
    draft.settle(|effect| matches!(effect, Effect::StageRoot { request_id: owed, .. } if owed == request_id));
    draft.owe(Effect::RequestIssuer {
        request_id: request_id.clone(),
        authority: founding.authority.clone(),
        root: root.id,
    });
    let step = FoundingStep::RequestingIssuer { root: root.id };
    draft.state.phase = Phase::Founding(Founding { step, ..founding.clone() });
    Ok(Some(draft))
}

/// The first issuer is there: the root is published, and signs once its bundle is out.
pub(super) fn issuer_is_there(draft: &mut Draft, root: RootId) {
    if let Some(entry) = draft.state.roots.get_mut(&root) {
        entry.state = RootState::Published;
    }
    draft.state.sequence = draft.state.sequence.next();
    draft.owe(Effect::PublishBundle { sequence: draft.state.sequence });
    if let Phase::Founding(founding) = &mut draft.state.phase {
        founding.step = FoundingStep::Publishing { root };
    }
}

/// The first bundle is out: trust comes before the first signature, so the root may sign from here on.
pub(super) fn bundle_is_out(draft: &mut Draft, now: Timestamp) {
    let Phase::Founding(Founding { request_id, step: FoundingStep::Publishing { root }, .. }) =
        &draft.state.phase
    else {
        return;
    };
    let (request_id, root) = (request_id.clone(), *root);
    let Some(entry) = draft.state.roots.get_mut(&root) else { return };
    let Some(issuer) = entry.active_issuer else { return };
    entry.state = RootState::Active;
    draft.owe(Effect::SwitchSigner { root, issuer });
    draft.state.phase = Phase::Steady(Steady { since: now });
    draft.state.done.remember(request_id);
}

impl FoundingStep {
    /// The root of this founding, once it was made.
    pub(crate) const fn root(&self) -> Option<RootId> {
        match self {
            Self::StagingRoot => None,
            Self::RequestingIssuer { root } | Self::Publishing { root } => Some(*root),
        }
    }
}

fn staged(root: &PreparedRoot, authority: AuthorityName) -> RootEntry {
    RootEntry {
        state: RootState::Staged,
        tainted: false,
        authority,
        exclusive: root.exclusive,
        der: root.der.clone(),
        not_after: root.not_after,
        horizon: None,
        issuers: std::collections::BTreeMap::new(),
        active_issuer: None,
        renewal: None,
    }
}
