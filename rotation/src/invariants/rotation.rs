//! What must hold of a rotation: of each of its states, and of every two that follow each other.

use trust::{RootId, Sequence};

use super::Violation;
use crate::{BundleChange, Effect, Mode, Phase, RootEntry, RootState, StagingStep, State};

/// The roots that a rotation is about are what its phase says, no others are on their way, and what the phase waits
/// for is owed.
pub(super) fn one(state: &State) -> Result<(), Violation> {
    let is = |root: &RootId, wanted: &[RootState]| {
        state.roots.get(root).is_some_and(|entry| wanted.contains(&entry.state))
    };
    let owed = |wanted: fn(&Effect) -> bool| {
        state.pending.iter().filter(|p| wanted(&p.effect)).count() == 1
    };
    let latest = |bundle: &BundleChange| {
        bundle.sequence == state.sequence && bundle.generation <= state.generation
    };
    use RootState::{Active, Draining, Published, Retired, Staged};
    let (fits, under_way) = match &state.phase {
        Phase::Uninitialised | Phase::Bootstrapping(_) => return Ok(()),
        Phase::Steady(_) => (true, None),
        Phase::Staging(phase) => {
            let made = match phase.step {
                StagingStep::StagingRoot => {
                    owed(|effect| matches!(effect, Effect::StageRoot { .. }))
                }
                StagingStep::RequestingIssuer { root } => {
                    is(&root, &[Staged]) && asked_for(state, &root)
                }
                StagingStep::Ready { root } => is(&root, &[Staged]) && has_issuer(state, &root),
            };
            (made && is(&phase.from, &[Active]), phase.step.root())
        }
        Phase::Distributing(phase) => {
            // After a rollback the new root has leaves, and still is to sign again.
            let waits = is(&phase.to, &[Published, Draining]);
            (waits && is(&phase.from, &[Active]) && latest(&phase.bundle), Some(phase.to))
        }
        Phase::Canary(phase) => {
            let signs =
                state.roots.get(&phase.to).is_some_and(|root| root.state == RootState::Canary);
            (signs && is(&phase.from, &[Active]) && latest(&phase.bundle), Some(phase.to))
        }
        Phase::Draining(phase) => {
            let switched =
                phase.bundle.generation <= phase.switched && phase.switched <= state.generation;
            let fits = is(&phase.from, &[Draining]) && is(&phase.to, &[Active]);
            (fits && switched && latest(&phase.bundle), Some(phase.from))
        }
        Phase::Withdrawing(phase) => {
            (is(&phase.from, &[Retired]) && is(&phase.to, &[Active]) && latest(&phase.bundle), None)
        }
    };
    let strays = |(id, entry): (&RootId, &RootEntry)| {
        matches!(entry.state, Staged | Draining | RootState::Canary) && under_way != Some(*id)
    };
    if fits && !state.roots.iter().any(strays) {
        Ok(())
    } else {
        Err(Violation::RotationUnfit { phase: state.phase.name() })
    }
}

/// The table of phases, as far as a rotation goes.
pub(super) fn may_follow(before: &State, after: &State) -> bool {
    let (former, next) = (&before.phase, &after.phase);
    // A distrusted root turns what is under way.
    let urgent = has_distrusted(before) || has_distrusted(after);
    let same = match (former.rotation(), next.rotation()) {
        _ if urgent => true,
        (Some(before), Some(after)) => {
            before.request_id == after.request_id
                && before.authority == after.authority
                && before.mode == after.mode
                && before.canary == after.canary
        }
        _ => true,
    };
    let in_table = match (former, next) {
        // A standby root is taken into use, or goes; or everybody trusts a new one.
        (Phase::Steady(_), Phase::Distributing(next)) => {
            before.sequence == after.sequence && next.from != next.to
        }
        (Phase::Steady(_), Phase::Withdrawing(_)) => true,
        (Phase::Distributing(former), Phase::Steady(_)) => {
            former.rotation.mode == Mode::Standby && former.settling.is_some()
        }
        (Phase::Staging(_), Phase::Withdrawing(_))
        | (Phase::Withdrawing(_), Phase::Staging(_) | Phase::Distributing(_)) => urgent,
        phases => goes_its_way(phases),
    };
    same && in_table
}

fn goes_its_way(phases: (&Phase, &Phase)) -> bool {
    matches!(
        phases,
        (Phase::Steady(_), Phase::Steady(_) | Phase::Staging(_))
            | (Phase::Staging(_), Phase::Staging(_) | Phase::Distributing(_) | Phase::Steady(_))
            | (
                Phase::Distributing(_),
                Phase::Distributing(_)
                    | Phase::Canary(_)
                    | Phase::Draining(_)
                    | Phase::Withdrawing(_)
            )
            | (Phase::Canary(_), Phase::Canary(_) | Phase::Draining(_))
            | (
                Phase::Draining(_),
                Phase::Draining(_) | Phase::Distributing(_) | Phase::Withdrawing(_)
            )
            | (Phase::Withdrawing(_), Phase::Withdrawing(_) | Phase::Steady(_))
    )
}

fn has_distrusted(state: &State) -> bool {
    state.roots.values().any(|entry| entry.is_distrusted())
}

/// A root comes to sign for a cohort only through the trust gate, and nobody leaves a cohort while it signs.
pub(super) fn cohort(former: &State, next: &State) -> Result<(), Violation> {
    let Phase::Canary(after) = &next.phase else { return Ok(()) };
    let through = match &former.phase {
        Phase::Canary(before) => {
            if !after.cohort.includes(&before.cohort) {
                return Err(Violation::CohortNarrowed { root: after.to });
            }
            before.to == after.to && before.from == after.from
        }
        Phase::Distributing(phase) => {
            phase.to == after.to
                && phase.settling.is_some()
                && is_out(former, phase.bundle.sequence)
        }
        Phase::Uninitialised
        | Phase::Bootstrapping(_)
        | Phase::Steady(_)
        | Phase::Staging(_)
        | Phase::Draining(_)
        | Phase::Withdrawing(_) => false,
    };
    if through { Ok(()) } else { Err(Violation::SignerChanged { root: after.to }) }
}

/// The signer changes from one root to another only through the trust gate, or back by a rollback.
pub(super) fn signer(former: &State, next: &State) -> Result<(), Violation> {
    let (Some(before), Some(after)) = (former.signing_root(), next.signing_root()) else {
        return Ok(());
    };
    if before == after {
        return Ok(());
    }
    let through = match (&former.phase, &next.phase) {
        (Phase::Distributing(phase), Phase::Draining(_)) => {
            phase.to == after && phase.settling.is_some() && is_out(former, phase.bundle.sequence)
        }
        // The gate was passed when the canary began; it is judged again, unless the former root must go now.
        (Phase::Canary(phase), Phase::Draining(_)) => {
            let urgent = next.roots.get(&phase.from).is_some_and(|root| root.tainted);
            phase.to == after && (phase.settling.is_some() || urgent)
        }
        (Phase::Draining(phase), Phase::Draining(back)) => {
            phase.from == after && !phase.rolled_back && back.rolled_back
        }
        _ => false,
    };
    if through { Ok(()) } else { Err(Violation::SignerChanged { root: after }) }
}

/// A root leaves the bundle only through the leaf gate, or before any leaf of it was allowed.
pub(super) fn dropped(former: &State, next: &State) -> Result<(), Violation> {
    for (id, before) in &former.roots {
        let stays = next.roots.get(id).is_some_and(|after| after.state.is_trusted());
        if !before.state.is_trusted() || stays {
            continue;
        }
        let through = match (&former.phase, &next.phase) {
            (Phase::Draining(phase), Phase::Withdrawing(_)) => {
                let cut = next.roots.get(id).is_some_and(|after| after.is_cut());
                phase.from == *id && (phase.settling.is_some() || cut)
            }
            // It never signed. What a restored record counts for it is over, or the machine would have refused.
            (former, Phase::Withdrawing(phase)) => {
                let standby = former.is_steady() && before.state == RootState::Published;
                phase.from == *id && (!before.signed_since_staged() || standby)
            }
            _ => false,
        };
        if !through {
            return Err(Violation::RootDropped { root: *id });
        }
    }
    Ok(())
}

fn asked_for(state: &State, root: &RootId) -> bool {
    let asked = |effect: &Effect| matches!(effect, Effect::RequestIssuer { root: under, .. } if under == root);
    state.pending.iter().any(|pending| asked(&pending.effect))
}

fn has_issuer(state: &State, root: &RootId) -> bool {
    state.roots.get(root).is_some_and(|entry| entry.has_signer())
}

fn is_out(state: &State, sequence: Sequence) -> bool {
    !state.pending.iter().any(|pending| pending.effect == Effect::PublishBundle { sequence })
}
