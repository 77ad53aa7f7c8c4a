//! The horizon: how late a leaf may end is on the record before any such leaf is released.

use trust::{RootId, Timestamp};

use super::draft::{Decision, Draft};
use crate::{Cause, Phase, Policy, SegmentId, State};

/// What a replica asks for.
pub(super) struct Request<'a> {
    pub(super) root: &'a RootId,
    pub(super) segment: &'a SegmentId,
    pub(super) until: Timestamp,
}

/// Raises the root's horizon and the segment's bound in one transition, and only while the root may sign: so the
/// horizon of a root that drains is final, whatever a replica that was cut off still believes.
pub(super) fn requested(
    state: &State,
    request: &Request<'_>,
    now: Timestamp,
    policy: &Policy,
) -> Decision {
    let Request { root, segment, until } = *request;
    let entry = state.roots.get(root).ok_or(Cause::UnknownRoot { root: *root })?;
    if !entry.state.may_sign() {
        return Err(Cause::RootMayNotSign { root: *root, state: entry.state });
    }
    let holder = state
        .segments
        .get(segment)
        .ok_or_else(|| Cause::UnknownSegment { segment: segment.clone() })?;
    if holder.is_closed() {
        return Err(Cause::SegmentClosed { segment: segment.clone() });
    }
    // The root's horizon is never below a segment's bound (S2), so this one says all.
    if holder.bounds.get(root).is_some_and(|bound| *bound >= until) {
        return Ok(None);
    }
    let limit = policy.horizon_limit(now, entry.not_after);
    if until > limit {
        return Err(Cause::HorizonTooFar { until, limit });
    }
    let mut draft = Draft::after(state);
    if let Some(entry) = draft.state.roots.get_mut(root) {
        entry.horizon = entry.horizon.max(Some(until));
    }
    if let Some(holder) = draft.state.segments.get_mut(segment) {
        holder.bounds.insert(*root, until);
    }
    Ok(Some(draft))
}

/// Lets probe leaves of the root that shall sign be made until a time: before the trust gate, and never of another root. They
/// are no leaves of members, so the root has not signed by that.
pub(super) fn probes_requested(
    state: &State,
    root: RootId,
    until: Timestamp,
    now: Timestamp,
    policy: &Policy,
) -> Decision {
    let entry = state.roots.get(&root).ok_or(Cause::UnknownRoot { root })?;
    let is_next = match &state.phase {
        Phase::Distributing(phase) => phase.to == root,
        // Who cannot verify it shows as long as it does not sign for everybody.
        Phase::Canary(phase) => phase.to == root,
        Phase::Uninitialised
        | Phase::Bootstrapping(_)
        | Phase::Steady(_)
        | Phase::Staging(_)
        | Phase::Draining(_)
        | Phase::Withdrawing(_) => false,
    };
    if !is_next || !entry.state.is_trusted() {
        return Err(Cause::RootMayNotSign { root, state: entry.state });
    }
    if entry.probed_until.is_some_and(|bound| bound >= until) {
        return Ok(None);
    }
    let limit = policy.horizon_limit(now, entry.not_after);
    if until > limit {
        return Err(Cause::HorizonTooFar { until, limit });
    }
    let mut draft = Draft::after(state);
    if let Some(entry) = draft.state.roots.get_mut(&root) {
        entry.probed_until = Some(until);
    }
    Ok(Some(draft))
}
