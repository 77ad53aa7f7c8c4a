//! Retired roots that the record forgets: when their certificate and the last leaf under it are over by everybody's clock.

use std::collections::BTreeSet;

use trust::{RootId, Timestamp};

use super::draft::{Decision, Draft};
use crate::{Cause, Policy, RequestId, State};

/// Forgets all of `roots`, or none of them. Only while nothing about roots is under way, so that no phase names one.
pub(super) fn requested(
    state: &State,
    request_id: &RequestId,
    roots: &BTreeSet<RootId>,
    now: Timestamp,
    policy: &Policy,
) -> Decision {
    if state.done.contains(request_id) || roots.is_empty() {
        return Ok(None);
    }
    if let Some(rotation) = state.phase.rotation() {
        let ending = state.phase.given_up().unwrap_or_default();
        return Err(Cause::RotationUnderWay { request_id: rotation.request_id.clone(), ending });
    }
    if state.signing_root().is_none() {
        return Err(Cause::NotBootstrapped);
    }
    for root in roots {
        may_be_forgotten(state, root, now, policy)?;
    }
    let mut draft = Draft::after(state);
    draft.state.roots.retain(|id, _| !roots.contains(id));
    for segment in draft.state.segments.values_mut() {
        segment.bounds.retain(|id, _| !roots.contains(id));
    }
    draft.state.done.remember(request_id.clone());
    Ok(Some(draft))
}

fn may_be_forgotten(
    state: &State,
    root: &RootId,
    now: Timestamp,
    policy: &Policy,
) -> Result<(), Cause> {
    let Some(entry) = state.roots.get(root) else { return Err(Cause::UnknownRoot { root: *root }) };
    if entry.tainted {
        return Err(Cause::NeverForgotten { root: *root });
    }
    match entry.forgettable_from(policy) {
        None => Err(Cause::NotRetired { root: *root, state: entry.state }),
        Some(from) if now < from => Err(Cause::StillCounts { root: *root, from }),
        Some(_) => Ok(()),
    }
}
