//! A record that was restored from a backup: what was released since is not known, and counts as full until it must be over.

use std::collections::{BTreeMap, BTreeSet};

use trust::{RootId, Timestamp};

use super::draft::{Decision, Draft};
use super::guards;
use crate::{
    Cause, Contents, LOST_REPLICA, Policy, ReplicaName, RequestId, Segment, SegmentId,
    SegmentState, State,
};

/// Who recovers, and what runs meanwhile.
pub(super) struct Request<'a> {
    pub(super) request_id: &'a RequestId,
    /// Segments of servers that run on this record.
    pub(super) live: &'a BTreeSet<SegmentId>,
}

/// Raises the horizon of every root that is not retired to where the last leaf that was released after the backup can end, by
/// the clock of whoever released it; counts those leaves as a segment that nobody can read; and closes what servers
/// left that do not run. So no gate passes by rows before that time: what the ledgers say is not all.
pub(super) fn requested(
    state: &State,
    request: &Request<'_>,
    now: Timestamp,
    policy: &Policy,
) -> Decision {
    let request_id = request.request_id;
    if state.done.contains(request_id) {
        return Ok(None);
    }
    if state.phase.is_uninitialised() {
        return Err(Cause::NotBootstrapped);
    }
    if guards::is_in_use(state, request_id) {
        return Err(Cause::RequestIdReused { request_id: request_id.clone() });
    }
    let mut draft = Draft::after(state);
    // What was counted on evidence of before counts for nothing.
    draft.set_settling(None);
    // A server that runs said at its start what it read of its former segments, and that stands.
    let live = request.live.iter().filter_map(|id| state.segments.get(id));
    let live: BTreeSet<_> = live.map(|segment| &segment.replica).collect();
    let former = draft.state.segments.values_mut().filter(|segment| {
        segment.replica.as_str() != LOST_REPLICA && !live.contains(&segment.replica)
    });
    former.for_each(|segment| segment.state = SegmentState::Closed(Contents::Unread));
    let latest = now.plus(policy.leaf_lifetime_max).plus(policy.skew * 2);
    let counted = draft.state.roots.iter().filter(|(_, entry)| !entry.state.is_retired());
    let bounds: BTreeMap<_, _> = counted
        .map(|(id, entry)| {
            let until = latest.min(entry.not_after);
            (*id, entry.horizon.map_or(until, |horizon| horizon.max(until)))
        })
        .collect();
    if !bounds.is_empty() {
        // Its own generation names it: no later recovery takes it for its own.
        let name = format!("{LOST_REPLICA}-g{}", draft.state.generation);
        draft.count_lost_rows(&name, bounds);
    }
    draft.state.done.remember(request_id.clone());
    Ok(Some(draft))
}

impl Draft {
    /// A segment that was never seen, of which nothing is known but when the last of its leaves must have ended.
    pub(super) fn count_lost_rows(&mut self, name: &str, bounds: BTreeMap<RootId, Timestamp>) {
        let (Ok(replica), Ok(segment)) = (ReplicaName::parse(LOST_REPLICA), SegmentId::parse(name))
        else {
            return;
        };
        for (root, bound) in &bounds {
            if let Some(entry) = self.state.roots.get_mut(root) {
                entry.horizon = entry.horizon.max(Some(*bound));
            }
        }
        let state = SegmentState::Closed(Contents::Unread);
        self.state.segments.insert(segment, Segment { replica, state, bounds });
    }
}
