//! What must hold of two states that follow each other.

use trust::{CertificateId, RootId, Timestamp};

use super::{Violation, further, rotation};
use crate::{
    Contents, IssuerEntry, LOST_REPLICA, Phase, RootEntry, RootState, Segment, SegmentId,
    SegmentState, State,
};

pub(super) fn check(former: &State, next: &State) -> Result<(), Violation> {
    if next.trust_domain != former.trust_domain {
        return Err(Violation::TrustDomainChanged);
    }
    if next.generation != former.generation.next() {
        return Err(Violation::Generation { former: former.generation, next: next.generation });
    }
    if !may_follow(former, next) {
        return Err(Violation::PhaseOrder { former: former.phase.name(), next: next.phase.name() });
    }
    bundle(former, next)?;
    further::next(former, next)?;
    unseen(former, next)?;
    let named = next.phase.rotation().and_then(|rotation| rotation.stage_again);
    distrusted(former, next)?;
    for (id, before) in &former.roots {
        let how = Change {
            named: named == Some(*id),
            goes_on: goes_on(former, next),
            recovers: recovers(former, next),
            rests: rests(former, next),
            probes: match &former.phase {
                Phase::Distributing(phase) if former.phase == next.phase => Some(phase.to),
                Phase::Canary(phase) if former.phase == next.phase => Some(phase.to),
                _ => None,
            },
        };
        root(id, before, next.roots.get(id), how)?;
    }
    rotation::signer(former, next)?;
    rotation::cohort(former, next)?;
    rotation::dropped(former, next)?;
    segments(former, next)
}

/// The table of phases.
fn may_follow(former: &State, next: &State) -> bool {
    match (&former.phase, &next.phase) {
        (Phase::Uninitialised, Phase::Uninitialised | Phase::Bootstrapping(_))
        | (Phase::Bootstrapping(_), Phase::Steady(_)) => true,
        (Phase::Bootstrapping(before), Phase::Bootstrapping(after)) => {
            before.request_id == after.request_id
        }
        _ => rotation::may_follow(former, next),
    }
}

fn bundle(former: &State, next: &State) -> Result<(), Violation> {
    let (before, after) = (former.bundle_ids(), next.bundle_ids());
    let expected = if before == after { former.sequence } else { former.sequence.next() };
    if next.sequence != expected && !goes_on(former, next) {
        return Err(Violation::Sequence { former: former.sequence, next: next.sequence });
    }
    if before.is_subset(&after) || after.is_subset(&before) {
        Ok(())
    } else {
        Err(Violation::MixedChange { sequence: next.sequence })
    }
}

/// Whether a record that is older than the mesh goes on above what was seen: the same roots in the same states under a
/// higher number, nothing left open below it, and the rows that were lost counted as full.
fn goes_on(former: &State, next: &State) -> bool {
    let states = |state: &State| {
        state.roots.iter().map(|(id, entry)| (*id, entry.state)).collect::<Vec<_>>()
    };
    let lost = |(id, segment): (&SegmentId, &Segment)| {
        !former.segments.contains_key(id) && segment.state == SegmentState::Closed(Contents::Unread)
    };
    next.sequence > former.sequence
        && states(former) == states(next)
        && next.seen.open.is_empty()
        && next.seen.explained.next() == next.sequence
        && next.segments.iter().any(lost)
}

/// Whether a record that was restored from a backup counts what it cannot know: nothing else changes, and rows that nobody can
/// read reach to the horizon of every root that is not retired.
fn recovers(former: &State, next: &State) -> bool {
    let states = |state: &State| {
        state.roots.iter().map(|(id, entry)| (*id, entry.state)).collect::<Vec<_>>()
    };
    let covers = |segment: &Segment| {
        let mut counted = next.roots.iter().filter(|(_, entry)| !entry.state.is_retired());
        counted.all(|(root, entry)| segment.bounds.get(root).copied() == entry.horizon)
    };
    let lost = |(id, segment): (&SegmentId, &Segment)| {
        segment.replica.as_str() == LOST_REPLICA
            && !former.segments.contains_key(id)
            && segment.state == SegmentState::Closed(Contents::Unread)
            && covers(segment)
    };
    next.sequence == former.sequence
        && states(former) == states(next)
        && former.pending == next.pending
        && former.seen == next.seen
        && next.segments.iter().any(lost)
}

/// While agents hold bundles that this record never published, neither the bundle nor the signer changes.
fn unseen(former: &State, next: &State) -> Result<(), Violation> {
    let (before, after) = (former.signing_root(), next.signing_root());
    let changes = former.bundle_ids() != next.bundle_ids() || before != after;
    match changes && !former.seen.open.is_empty() && !next.seen.open.is_empty() {
        true => Err(Violation::Fenced { sequence: next.sequence }),
        false => Ok(()),
    }
}

/// A distrusted root comes neither into the bundle nor to sign; only one that has left the bundle was cut off; and whoever
/// takes the word back changes nothing else.
fn distrusted(former: &State, next: &State) -> Result<(), Violation> {
    for (id, after) in &next.roots {
        let unfit = Err(Violation::Distrusted { root: *id });
        let Some(before) = former.roots.get(id) else {
            if after.tainted {
                return unfit;
            }
            continue;
        };
        let comes = after.state.is_trusted() && !before.state.is_trusted();
        let signs = after.state.may_sign() && !before.state.may_sign();
        let cuts = after.is_cut() && !before.is_cut();
        let returns = before.tainted && !after.tainted;
        let still = former.phase == next.phase
            && former.sequence == next.sequence
            && before.state == after.state;
        if after.tainted && (comes || signs)
            || cuts && !after.state.is_retired()
            || returns && !still
        {
            return unfit;
        }
    }
    Ok(())
}

/// What allows a root more than usual.
#[derive(Clone, Copy)]
struct Change {
    /// It was named for its return.
    named: bool,
    /// The record goes on above what was seen.
    goes_on: bool,
    /// The record was restored, and counts what was released since.
    recovers: bool,
    /// Nothing about roots is under way.
    rests: bool,
    /// The root that proxies are probed with: the one that shall sign.
    probes: Option<RootId>,
}

fn rests(former: &State, next: &State) -> bool {
    matches!(former.phase, Phase::Steady(_)) && former.phase == next.phase
}

fn root(
    id: &RootId,
    before: &RootEntry,
    after: Option<&RootEntry>,
    how: Change,
) -> Result<(), Violation> {
    let changed = Violation::RootChanged { root: *id };
    let Some(after) = after else {
        // Only what has left the bundle is ever forgotten, and never a root that must not come back.
        let forgettable = how.rests && before.state == RootState::Retired && !before.tainted;
        return if forgettable { Ok(()) } else { Err(changed) };
    };
    let returns = before.state == RootState::Retired && after.state == RootState::Staged;
    // Whoever brings a root back may be another authority than before.
    let same = before.der == after.der
        && (returns || before.authority == after.authority)
        && before.not_after == after.not_after;
    if !same || !before.state.may_become(after.state) || (returns && !before.may_return(how.named))
    {
        return Err(changed);
    }
    if after.horizon < before.horizon || after.probed_until < before.probed_until {
        return Err(Violation::HorizonLowered { root: *id });
    }
    // An issuer keeps its owner: its key lies there.
    let keeps = |(id, one): (&CertificateId, &IssuerEntry)| {
        let known = after.issuers.get(id);
        one.replica.is_none() || known.is_none_or(|known| known.replica == one.replica)
    };
    if !before.issuers.iter().all(keeps) {
        return Err(changed);
    }
    let may_rise = before.state.may_sign()
        || (how.goes_on && before.state.is_trusted())
        || (how.recovers && !before.state.is_retired());
    if after.horizon > before.horizon && !may_rise
        || after.probed_until > before.probed_until && how.probes != Some(*id)
    {
        return Err(Violation::HorizonRaised { root: *id });
    }
    Ok(())
}

fn segments(former: &State, next: &State) -> Result<(), Violation> {
    for (id, before) in &former.segments {
        let revived = Violation::SegmentRevived { segment: id.clone() };
        let Some(after) = next.segments.get(id) else {
            // One that vanishes was closed before, or is closed by the very event that drops it: its replica
            // opened another one.
            let replaced = next.segments.iter().any(|(new, segment)| {
                segment.replica == before.replica && !former.segments.contains_key(new)
            });
            if before.is_closed() || replaced {
                continue;
            }
            return Err(revived);
        };
        let kept = |segment: &Segment| {
            let known = segment.bounds.iter().filter(|(root, _)| next.roots.contains_key(*root));
            known.map(|(root, bound)| (*root, *bound)).collect::<Vec<_>>()
        };
        if before.is_closed() && (!after.is_closed() || kept(after) != kept(before)) {
            return Err(revived);
        }
        lowered_bound(next, before, after)
            .map_or(Ok(()), |root| Err(Violation::HorizonLowered { root }))?;
    }
    Ok(())
}

/// The bounds of a root that is forgotten go with it.
fn lowered_bound(next: &State, before: &Segment, after: &Segment) -> Option<RootId> {
    let lowered = |(root, bound): &(&RootId, &Timestamp)| {
        after.bounds.get(*root) < Some(*bound) && next.roots.contains_key(*root)
    };
    before.bounds.iter().find(lowered).map(|(root, _)| *root)
}
