//! What stands in the way of a change: what is under way on a request, and bundles that this record never published.

use trust::RootId;

use crate::{BootstrapStep, Cause, Phase, RequestId, RootEntry, StagingStep, State};

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

/// What an issuer was asked for.
pub(super) enum Whose {
    Bootstrap,
    Rotation,
    Renewal,
}

/// The root whose issuer was asked for under this request, and what for.
pub(super) fn who_asked(state: &State, request_id: &RequestId) -> Option<(RootId, Whose)> {
    match &state.phase {
        Phase::Bootstrapping(bootstrap) if bootstrap.request_id == *request_id => {
            if let BootstrapStep::RequestingIssuer { root } = bootstrap.step {
                return Some((root, Whose::Bootstrap));
            }
        }
        Phase::Staging(staging) if staging.rotation.request_id == *request_id => {
            if let StagingStep::RequestingIssuer { root } = staging.step {
                return Some((root, Whose::Rotation));
            }
        }
        _ => {}
    }
    let asked = |entry: &RootEntry| {
        entry.renewal.as_ref().is_some_and(|renewal| renewal.request_id == *request_id)
    };
    state.roots.iter().find(|(_, entry)| asked(entry)).map(|(root, _)| (*root, Whose::Renewal))
}

/// Whether something is under way on this request.
pub(super) fn is_in_use(state: &State, request_id: &RequestId) -> bool {
    let bootstrap = matches!(&state.phase, Phase::Bootstrapping(bootstrap) if bootstrap.request_id == *request_id);
    let rotation =
        state.phase.rotation().is_some_and(|rotation| rotation.request_id == *request_id);
    bootstrap || rotation || who_asked(state, request_id).is_some()
}
