//! What must hold of further roots: of each state, and of every two that follow each other.

use trust::RootId;

use super::Violation;
use crate::{BundleChange, Distributing, FURTHER_ROOTS_MAX, FurtherEntry, Phase, RootState, State};

/// Each is named by somebody, none is compromised, and there are none before our own first root signs.
pub(super) fn one(state: &State) -> Result<(), Violation> {
    let bootstrapped = state.roots.values().any(|entry| entry.state.may_sign());
    let unfit = |(id, entry): &(&RootId, &FurtherEntry)| {
        !bootstrapped
            || entry.by.is_empty()
            || state.roots.get(*id).is_some_and(|ours| ours.tainted)
    };
    let over = state.further.keys().nth(FURTHER_ROOTS_MAX);
    match state.further.iter().find(unfit).map(|(id, _)| id).or(over) {
        Some(root) => Err(Violation::FurtherUnfit { root: *root }),
        None => Ok(()),
    }
}

/// Whether neighbors' roots came while both of ours are distributed: all but the bundle is as before, and nothing has settled.
fn distributes_more(former: &State, next: &State) -> bool {
    let (Phase::Distributing(before), Phase::Distributing(after)) = (&former.phase, &next.phase)
    else {
        return false;
    };
    let of_neighbors = next.further.iter().filter(|(id, _)| !former.further.contains_key(*id));
    let mut named =
        of_neighbors.map(|(_, entry)| entry.by.iter().any(|by| by.neighbor().is_some()));
    let bundle = BundleChange { sequence: next.sequence, generation: next.generation };
    let expected = match next.sequence == former.sequence {
        // A root that is trusted already, as one of ours: the bundle stays as it is.
        true => before.clone(),
        false => Distributing { bundle, settling: None, observer: None, ..before.clone() },
    };
    *after == expected && named.all(|is_one| is_one)
}

/// They change by an event of their own, which adds or removes: while no rotation changes the bundle, and no bundle is on
/// its way. So neither an abort nor the end of a rotation takes one with it. A neighbor's may be added while both roots of a
/// rotation are distributed, and then the trust gate is about the new bundle.
pub(super) fn next(former: &State, next: &State) -> Result<(), Violation> {
    let same_ders = former.further.iter().all(|(id, before)| {
        next.further.get(id).is_none_or(|after| {
            (&after.der, after.not_after, after.since)
                == (&before.der, before.not_after, before.since)
        })
    });
    if former.further.keys().eq(next.further.keys()) && same_ders {
        return Ok(());
    }
    let states = |state: &State| {
        state
            .roots
            .iter()
            .map(|(id, entry)| (*id, entry.state))
            .collect::<Vec<(RootId, RootState)>>()
    };
    let rests = matches!(
        (&former.phase, &next.phase),
        (Phase::Steady(_), Phase::Steady(_)) | (Phase::Staging(_), Phase::Staging(_))
    );
    let grows = former.further.keys().all(|id| next.further.contains_key(id));
    let shrinks = next.further.keys().all(|id| former.further.contains_key(id));
    let still = rests && former.phase == next.phase && (grows || shrinks);
    if same_ders
        && (still || grows && distributes_more(former, next))
        && !former.publishes()
        && states(former) == states(next)
    {
        return Ok(());
    }
    Err(Violation::FurtherMixed { sequence: next.sequence, phase: next.phase.name() })
}
