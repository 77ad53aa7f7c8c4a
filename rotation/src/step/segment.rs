//! Segments of the ledger: opened by a replica that starts, sealed while it runs, closed for ever.

use std::collections::BTreeSet;

use trust::{Generation, Timestamp};

use super::draft::{Decision, Draft};
use crate::{Cause, Contents, Policy, ReplicaName, Segment, SegmentId, SegmentState, State};

/// What a starting replica reports.
pub(super) struct Opened<'a> {
    pub(super) replica: &'a ReplicaName,
    pub(super) segment: &'a SegmentId,
    pub(super) read: &'a BTreeSet<SegmentId>,
}

/// A replica that starts has no request of a former life in flight, so its former segments are closed; those that
/// it could not read count as full until their bounds have passed.
pub(super) fn opened(
    state: &State,
    opened: &Opened<'_>,
    now: Timestamp,
    policy: &Policy,
) -> Decision {
    if let Some(known) = state.segments.get(opened.segment) {
        return if known.replica == *opened.replica && !known.is_closed() {
            Ok(None)
        } else {
            Err(Cause::SegmentTaken { segment: opened.segment.clone() })
        };
    }
    let mut draft = Draft::after(state);
    draft.name_owner(state, opened.replica);
    for (id, former) in &mut draft.state.segments {
        if former.replica == *opened.replica {
            let contents = if opened.read.contains(id) { Contents::Read } else { Contents::Unread };
            former.state = SegmentState::Closed(contents);
        }
    }
    // A closed segment without a live row has no say in anything any more.
    let may_matter = |segment: &Segment| {
        !segment.is_closed()
            || segment.last_bound().is_some_and(|bound| !policy.has_passed(bound, now))
    };
    draft.state.segments.retain(|_, segment| may_matter(segment));
    let new = Segment {
        replica: opened.replica.clone(),
        state: SegmentState::Open,
        bounds: std::collections::BTreeMap::new(),
    };
    draft.state.segments.insert(opened.segment.clone(), new);
    Ok(Some(draft))
}

pub(super) fn sealed(state: &State, segment: &SegmentId, generation: Generation) -> Decision {
    if generation > state.generation {
        return Err(Cause::GenerationAhead { generation });
    }
    match lookup(state, segment)?.state {
        SegmentState::Closed(_) => Err(Cause::SegmentClosed { segment: segment.clone() }),
        SegmentState::Sealed { generation: former } if former >= generation => Ok(None),
        SegmentState::Open | SegmentState::Sealed { .. } => {
            Ok(Some(with_state(state, segment, SegmentState::Sealed { generation })))
        }
    }
}

/// A closed segment stays closed; what is known of its contents may still change, as a lost file can come back.
pub(super) fn closed(state: &State, segment: &SegmentId, contents: Contents) -> Decision {
    let closed = SegmentState::Closed(contents);
    if lookup(state, segment)?.state == closed {
        return Ok(None);
    }
    Ok(Some(with_state(state, segment, closed)))
}

fn lookup<'a>(state: &'a State, segment: &SegmentId) -> Result<&'a Segment, Cause> {
    state.segments.get(segment).ok_or_else(|| Cause::UnknownSegment { segment: segment.clone() })
}

fn with_state(state: &State, segment: &SegmentId, to: SegmentState) -> Draft {
    let mut draft = Draft::after(state);
    if let Some(entry) = draft.state.segments.get_mut(segment) {
        entry.state = to;
    }
    draft
}
