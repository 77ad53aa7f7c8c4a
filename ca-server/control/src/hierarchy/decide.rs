//! What the state of the upstream CA asks for here. Pure: the same states always ask for the same step.

use rotation::{Phase, StagingStep, State};
use trust::RootId;

use super::Upstream;

/// The next step of a rotation that follows the upstream CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing now.
    Rest,
    /// A root above is new here: ask for a rotation, which is activated from here only.
    Rotate(RootId),
    /// The new root has left the bundle above before it signed.
    Abort,
    /// The new root signs above, so it may here, if the trust gate is open here too.
    Activate,
    /// The former root signs above again.
    Rollback,
    /// After a rollback, the new root signs above again: back to the wait for the trust gate.
    Forward,
}

/// The step for this record, whose roots of this authority belong to the upstream CA.
pub(crate) fn decide(state: &State, upstream: &Upstream, authority: &str) -> Step {
    let is_theirs = |root: &RootId| {
        state.roots.get(root).is_some_and(|entry| entry.authority.as_str() == authority)
    };
    match &state.phase {
        Phase::Steady(_) => {
            let signs = state.signing_root().is_some_and(|root| is_theirs(&root));
            match wanted(state, upstream) {
                Some(root) if signs => Step::Rotate(root),
                _ => Step::Rest,
            }
        }
        Phase::Staging(phase)
            if is_theirs(&phase.from) && phase.rotation.authority.as_str() == authority =>
        {
            let there = match phase.step {
                StagingStep::StagingRoot => wanted(state, upstream).is_some(),
                StagingStep::RequestingIssuer { root } | StagingStep::Ready { root } => {
                    upstream.roots.contains(&root)
                }
            };
            if there { Step::Rest } else { Step::Abort }
        }
        Phase::Distributing(phase) if is_theirs(&phase.from) && is_theirs(&phase.to) => {
            if !upstream.roots.contains(&phase.to) {
                Step::Abort
            } else if upstream.signing == phase.to {
                Step::Activate
            } else {
                Step::Rest
            }
        }
        Phase::Draining(phase) if is_theirs(&phase.from) && is_theirs(&phase.to) => {
            match (upstream.signing == phase.from, phase.rolled_back) {
                (true, false) => Step::Rollback,
                (true, true) => Step::Forward,
                (false, _) => Step::Rest,
            }
        }
        // What is followed has no canary: it signs here as it does above.
        Phase::Staging(_) | Phase::Distributing(_) | Phase::Canary(_) | Phase::Draining(_) => {
            Step::Rest
        }
        Phase::Uninitialised | Phase::Bootstrapping(_) | Phase::Withdrawing(_) => Step::Rest,
    }
}

/// The new root to take over: the one that signs above if it is new here.
pub(crate) fn wanted(state: &State, upstream: &Upstream) -> Option<RootId> {
    let new = upstream.new_roots(state);
    new.iter().find(|root| **root == upstream.signing).or(new.first()).copied()
}
