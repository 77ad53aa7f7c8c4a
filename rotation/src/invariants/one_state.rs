//! What must hold of one state.

use trust::{RootId, Sequence};

use super::{BUNDLE_ROOTS_MAX, Violation, further, rotation};
use crate::{
    BootstrapStep, Bootstrapping, Effect, IssuerRenewal, Phase, ReplicaName, RootEntry, RootState,
    Staging, StagingStep, State,
};

pub(super) fn check(state: &State) -> Result<(), Violation> {
    bundle(state)?;
    signers(state)?;
    for (id, entry) in &state.roots {
        root(id, entry)?;
    }
    bounds(state)?;
    pending(state)?;
    bootstrap(state)?;
    further::one(state)?;
    rotation::one(state)
}

fn bundle(state: &State) -> Result<(), Violation> {
    let roots = state.bundle().len();
    if roots > BUNDLE_ROOTS_MAX {
        return Err(Violation::BundleTooLarge { roots });
    }
    if (state.sequence == Sequence(0)) != (roots == 0) {
        return Err(Violation::BundleSize { sequence: state.sequence, roots });
    }
    Ok(())
}

fn signers(state: &State) -> Result<(), Violation> {
    let signing = state.roots.values().filter(|entry| entry.state.may_sign()).count();
    let expected = match state.phase {
        Phase::Uninitialised | Phase::Bootstrapping(_) => 0,
        Phase::Steady(_)
        | Phase::Staging(_)
        | Phase::Distributing(_)
        | Phase::Draining(_)
        | Phase::Withdrawing(_) => 1,
        // One for the cohort, and one for everybody else.
        Phase::Canary(_) => 2,
    };
    if signing == expected {
        Ok(())
    } else {
        Err(Violation::Signers { signing, phase: state.phase.name() })
    }
}

fn root(id: &RootId, entry: &RootEntry) -> Result<(), Violation> {
    if entry.state.is_trusted() && !entry.has_signer() {
        return Err(Violation::NoIssuer { root: *id, state: entry.state });
    }
    // Whoever signs does so with an issuer of its own, whose key is in its own key backend.
    let signers = entry.signers.iter().map(|(replica, issuer)| (*issuer, Some(replica)));
    for (issuer, whose) in
        entry.active_issuer.map(|issuer| (issuer, None)).into_iter().chain(signers)
    {
        let kept = entry.issuers.get(&issuer);
        if kept.is_none_or(|kept| kept.replica.as_ref() != whose) {
            return Err(Violation::IssuerUnfit { issuer });
        }
    }
    let is_asked = entry.renewal.is_some() || !entry.renewals.is_empty();
    if entry.state.is_retired() && is_asked {
        return Err(Violation::PendingUnfit { effect: "request_issuer" });
    }
    for (issuer, kept) in &entry.issuers {
        if kept.chain.is_empty() || kept.not_after > entry.not_after {
            return Err(Violation::IssuerUnfit { issuer: *issuer });
        }
    }
    if entry.taint.is_some() && !entry.tainted {
        return Err(Violation::Distrusted { root: *id });
    }
    if entry.horizon.max(entry.probed_until) > Some(entry.not_after) {
        return Err(Violation::HorizonPastRoot { root: *id });
    }
    Ok(())
}

fn bounds(state: &State) -> Result<(), Violation> {
    for (segment, entry) in &state.segments {
        for (root, bound) in &entry.bounds {
            if state.roots.get(root).is_none_or(|entry| entry.horizon < Some(*bound)) {
                return Err(Violation::BoundPastHorizon {
                    segment: segment.clone(),
                    root: *root,
                    bound: *bound,
                });
            }
        }
    }
    Ok(())
}

fn pending(state: &State) -> Result<(), Violation> {
    for (index, pending) in state.pending.iter().enumerate() {
        let twice =
            state.pending.iter().skip(index + 1).any(|other| other.effect == pending.effect);
        if twice || pending.generation > state.generation || !is_called_for(state, &pending.effect)
        {
            return Err(Violation::PendingUnfit { effect: pending.effect.name() });
        }
    }
    // A renewal that nobody is asked to sign would never end.
    let is_owed = |(replica, request): (Option<&ReplicaName>, &IssuerRenewal)| {
        let asked = |effect: &Effect| {
            matches!(effect, Effect::RequestIssuer { request_id, replica: whose, .. }
                if *request_id == request.request_id && whose.as_ref() == replica)
        };
        state.pending.iter().any(|pending| asked(&pending.effect))
    };
    let renewals = state.roots.values().flat_map(|entry| {
        let named = entry.renewals.iter().map(|(replica, request)| (Some(replica), request));
        entry.renewal.iter().map(|request| (None, request)).chain(named)
    });
    if renewals.into_iter().all(is_owed) {
        Ok(())
    } else {
        Err(Violation::PendingUnfit { effect: "request_issuer" })
    }
}

/// Whether the state says, apart from its list of pending effects, that this one is to be done.
fn is_called_for(state: &State, effect: &Effect) -> bool {
    match effect {
        Effect::StageRoot { request_id, authority } => match &state.phase {
            Phase::Bootstrapping(Bootstrapping {
                request_id: asked,
                authority: whom,
                step,
                ..
            }) => *step == BootstrapStep::StagingRoot && asked == request_id && whom == authority,
            Phase::Staging(Staging { rotation, step, .. }) => {
                let asked = rotation.request_id == *request_id && rotation.authority == *authority;
                *step == StagingStep::StagingRoot && asked
            }
            _ => false,
        },
        Effect::RequestIssuer { request_id, root, replica, .. } => {
            let first = match &state.phase {
                Phase::Bootstrapping(Bootstrapping { request_id: asked, step, .. }) => {
                    *step == BootstrapStep::RequestingIssuer { root: *root } && asked == request_id
                }
                Phase::Staging(Staging { rotation, step, .. }) => {
                    *step == StagingStep::RequestingIssuer { root: *root }
                        && rotation.request_id == *request_id
                }
                _ => false,
            };
            let entry = state.roots.get(root);
            let renewal = match replica {
                None if first => return true,
                None => entry.and_then(|entry| entry.renewal.as_ref()),
                Some(replica) => entry.and_then(|entry| entry.renewals.get(replica)),
            };
            renewal.is_some_and(|renewal| renewal.request_id == *request_id)
        }
        Effect::PublishBundle { sequence } => *sequence <= state.sequence,
        Effect::SwitchSigner { root, issuer } => {
            let entry = state.roots.get(root).filter(|entry| entry.state.may_sign());
            entry.is_some_and(|entry| issuer.is_none() || entry.active_issuer == *issuer)
        }
    }
}

/// While a bootstrap is under way there is at most its own root, and exactly its next effect is owed.
fn bootstrap(state: &State) -> Result<(), Violation> {
    let counted =
        |wanted: fn(&Effect) -> bool| state.pending.iter().filter(|p| wanted(&p.effect)).count();
    let owed = |wanted: fn(&Effect) -> bool| counted(wanted) == 1;
    let only = |root: &RootId, in_state: RootState| {
        state.roots.len() == 1 && state.roots.get(root).is_some_and(|entry| entry.state == in_state)
    };
    let fits = match &state.phase {
        Phase::Uninitialised => state.roots.is_empty() && state.pending.is_empty(),
        Phase::Bootstrapping(bootstrap) => match &bootstrap.step {
            BootstrapStep::StagingRoot => {
                state.roots.is_empty() && owed(|effect| matches!(effect, Effect::StageRoot { .. }))
            }
            BootstrapStep::RequestingIssuer { root } => {
                only(root, RootState::Staged)
                    && counted(|effect| matches!(effect, Effect::RequestIssuer { .. })) > 0
            }
            BootstrapStep::Publishing { root } => {
                only(root, RootState::Published)
                    && owed(|effect| matches!(effect, Effect::PublishBundle { .. }))
            }
        },
        Phase::Steady(_)
        | Phase::Staging(_)
        | Phase::Distributing(_)
        | Phase::Canary(_)
        | Phase::Draining(_)
        | Phase::Withdrawing(_) => true,
    };
    if fits { Ok(()) } else { Err(Violation::BootstrapUnfit) }
}
