//! What stands in the way of a change: what is under way on a request, and bundles that this record never published.

use trust::RootId;

use crate::{Cause, Effect, Phase, ReplicaName, RequestId, State};

/// Refuses what changes the bundle or the signer while agents hold what this record never published.
pub(super) fn none_open(state: &State) -> Result<(), Cause> {
    let Some((agent, sighting)) = state.seen.highest() else { return Ok(()) };
    Err(Cause::BundleUnknown {
        agent: agent.clone(),
        seen: sighting.sequence,
        latest: state.sequence,
        agents: state.seen.open.len(),
    })
}

/// Refuses what would let a distrusted root sign, or keep it signing.
pub(super) fn not_distrusted(state: &State, root: RootId) -> Result<(), Cause> {
    match state.roots.get(&root).is_some_and(|entry| entry.tainted) {
        true => Err(Cause::Distrusted { root }),
        false => Ok(()),
    }
}

/// An issuer that was asked for.
pub(super) struct Asked {
    pub(super) root: RootId,
    /// Whose it will be.
    pub(super) replica: Option<ReplicaName>,
}

/// What issuer was asked for under this request.
pub(super) fn who_asked(state: &State, request_id: &RequestId) -> Option<Asked> {
    state.pending.iter().find_map(|pending| match &pending.effect {
        Effect::RequestIssuer { request_id: asked, root, replica, .. } if asked == request_id => {
            Some(Asked { root: *root, replica: replica.clone() })
        }
        _ => None,
    })
}

/// Whether something is under way on this request.
pub(super) fn is_in_use(state: &State, request_id: &RequestId) -> bool {
    let bootstrap = matches!(&state.phase, Phase::Bootstrapping(bootstrap) if bootstrap.request_id == *request_id);
    let rotation =
        state.phase.rotation().is_some_and(|rotation| rotation.request_id == *request_id);
    bootstrap || rotation || who_asked(state, request_id).is_some()
}
