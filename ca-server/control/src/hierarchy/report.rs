//! What may be told to the upstream CA: what its gates rest on must be true of everybody here and below, for as long as
//! its state is the one that was seen. Pure.

use std::collections::BTreeSet;

use plugins::DownstreamReport;
use rotation::evidence::{leaf_gate, trust_gate};
use rotation::{Evidence, Phase, Policy, RootState, State};
use trust::RootId;

use super::Upstream;

/// The report on this record and evidence; without evidence it proves nothing.
pub(crate) fn compose(
    state: &State,
    upstream: &Upstream,
    evidence: Option<&Evidence>,
    policy: &Policy,
) -> DownstreamReport {
    let report = DownstreamReport::about(upstream.generation);
    let Some(evidence) = evidence else { return report };
    let applied =
        if has_applied(state, upstream, evidence, policy) { upstream.sequence } else { 0 };
    let unused = upstream.roots.iter().filter(|root| is_unused(state, root, evidence, policy));
    report.applied(applied).unused(unused.copied().collect())
}

/// Whether everybody here trusts the bundle above: it is the bundle here, and was waited for. Settling is left to the upstream
/// CA, which counts its own.
fn has_applied(state: &State, upstream: &Upstream, evidence: &Evidence, policy: &Policy) -> bool {
    let own: BTreeSet<RootId> = state.own_bundle().map(|(id, _)| *id).collect();
    own == upstream.roots
        && match &state.phase {
            Phase::Steady(_) | Phase::Staging(_) | Phase::Canary(_) | Phase::Draining(_) => true,
            Phase::Distributing(phase) => {
                evidence.sequence == phase.bundle.sequence
                    && trust_gate(state, phase, evidence, policy).is_met()
            }
            Phase::Uninitialised | Phase::Bootstrapping(_) | Phase::Withdrawing(_) => false,
        }
}

/// Whether nobody here or below issues or lives under this root, nor will before another state of the upstream CA is seen.
fn is_unused(state: &State, root: &RootId, evidence: &Evidence, policy: &Policy) -> bool {
    // Rows of our own, and issuers of downstream CAs that may be in use.
    let rows = evidence.live.get(root).copied().unwrap_or_default();
    let nobody_lives =
        rows.count == 0 || rows.latest.is_some_and(|latest| policy.has_passed(latest, evidence.at));
    let Some(entry) = state.roots.get(root) else { return nobody_lives };
    match entry.state {
        RootState::Canary | RootState::Active => false,
        RootState::Staged | RootState::Published => !entry.signed_since_staged() && nobody_lives,
        RootState::Retired => nobody_lives,
        RootState::Draining => state.phase.draining().is_some_and(|phase| {
            let mut alone = evidence.clone();
            alone.let_go.insert(*root);
            phase.from == *root && leaf_gate(state, phase, &alone, policy).is_met()
        }),
    }
}

#[cfg(test)]
mod tests;
