//! First boot: from nothing to one root that signs.
//!
//! The request is stored before anything is asked of the authority, so that whoever comes back after a crash asks under
//! the same request id and gets the same root.

use trust::{RootId, Timestamp};

use super::draft::{Decision, Draft};
use super::root::{Prepared, answered_before, stage};
use crate::{
    AuthorityName, BootstrapStep, Bootstrapping, Cause, Effect, Phase, RequestId, RootState, State,
    Steady,
};

pub(super) fn requested(
    state: &State,
    request_id: &RequestId,
    authority: &AuthorityName,
    now: Timestamp,
) -> Decision {
    match &state.phase {
        Phase::Uninitialised => {}
        Phase::Bootstrapping(bootstrap) if bootstrap.request_id != *request_id => {
            return Err(Cause::BootstrapUnderWay { request_id: bootstrap.request_id.clone() });
        }
        Phase::Bootstrapping(bootstrap) if bootstrap.authority != *authority => {
            return Err(Cause::RequestIdReused { request_id: request_id.clone() });
        }
        Phase::Bootstrapping(_) => return Ok(None),
        _ if state.done.contains(request_id) => return Ok(None),
        Phase::Steady(_)
        | Phase::Staging(_)
        | Phase::Distributing(_)
        | Phase::Canary(_)
        | Phase::Draining(_)
        | Phase::Withdrawing(_) => return Err(Cause::AlreadyBootstrapped),
    }
    let mut draft = Draft::after(state);
    draft.state.phase = Phase::Bootstrapping(Bootstrapping {
        request_id: request_id.clone(),
        authority: authority.clone(),
        requested_at: now,
        step: BootstrapStep::StagingRoot,
    });
    draft.owe(Effect::StageRoot { request_id: request_id.clone(), authority: authority.clone() });
    Ok(Some(draft))
}

pub(super) fn root_prepared(
    state: &State,
    bootstrap: &Bootstrapping,
    prepared: Prepared<'_>,
    now: Timestamp,
) -> Decision {
    let Bootstrapping { request_id, authority, .. } = bootstrap;
    if let Some(former) = bootstrap.step.root() {
        return answered_before(request_id, former, prepared.root);
    }
    let mut draft = Draft::after(state);
    stage(&mut draft, request_id, authority, prepared, now)?;
    let step = BootstrapStep::RequestingIssuer { root: prepared.root.id };
    draft.state.phase = Phase::Bootstrapping(Bootstrapping { step, ..bootstrap.clone() });
    Ok(Some(draft))
}

/// The first issuer is there: the root is published, and signs once its bundle is out.
pub(super) fn issuer_is_there(draft: &mut Draft, root: RootId) {
    draft.set_root(root, RootState::Published);
    draft.change_bundle();
    if let Phase::Bootstrapping(bootstrap) = &mut draft.state.phase {
        bootstrap.step = BootstrapStep::Publishing { root };
    }
}

/// The first bundle is out: trust comes before the first signature, so the root may sign from here on.
pub(super) fn bundle_is_out(draft: &mut Draft, now: Timestamp) {
    let Phase::Bootstrapping(Bootstrapping {
        request_id,
        step: BootstrapStep::Publishing { root },
        ..
    }) = &draft.state.phase
    else {
        return;
    };
    let (request_id, root) = (request_id.clone(), *root);
    let Some(entry) = draft.state.roots.get_mut(&root) else { return };
    if !entry.has_signer() {
        return;
    }
    entry.state = RootState::Active;
    let issuer = entry.ownerless_signer();
    draft.owe(Effect::SwitchSigner { root, issuer });
    draft.state.phase = Phase::Steady(Steady { since: now, ended: None });
    draft.state.done.remember(request_id);
}

impl BootstrapStep {
    /// The root of this bootstrap, once it was made.
    pub(crate) const fn root(&self) -> Option<RootId> {
        match self {
            Self::StagingRoot => None,
            Self::RequestingIssuer { root } | Self::Publishing { root } => Some(*root),
        }
    }
}
