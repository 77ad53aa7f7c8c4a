//! What others ask of phases and states of roots: the answers are those of the machine.

use rotation::evidence::gate;
use rotation::{Phase, RootState, State};

use crate::advice::states;
use crate::words::*;

fn holds(state: &State) {
    let phase = &state.phase;
    let judged = gate(state, &evidence(1_000, state.sequence.0, 0), &policy());
    assert_eq!(phase.gate_name(), judged.map(|gate| gate.name), "{}", line(state));
    if let Some((from, to)) = phase.changes() {
        let is_trusted = |root| state.roots.get(root).is_some_and(|entry| entry.state.is_trusted());
        let both = [from, to].iter().all(is_trusted);
        assert_eq!(phase.trusts_both(), both, "{}", line(state));
    }
    assert_eq!(phase.steady().is_some(), matches!(phase, Phase::Steady(_)));
    assert_eq!(phase.staging().is_some(), phase.name() == "staging");
    assert_eq!(phase.draining().is_some(), phase.name() == "draining");
    assert_eq!(phase.canary().is_some(), phase.name() == "canary");
    assert_eq!(
        phase.is_rolled_back(),
        phase.draining().is_some_and(|draining| draining.rolled_back)
    );
    assert_eq!(phase.takes_over_new_roots(), ["steady", "staging"].contains(&phase.name()));
}

#[test]
fn what_others_ask_of_a_phase_is_answered_as_the_machine_does() {
    let first = start();
    assert!(first.phase.is_uninitialised());
    holds(&first);
    let states: Vec<_> = states().into_iter().chain([canary()]).collect();
    let mut phases = std::collections::BTreeSet::new();
    for state in &states {
        assert!(!state.phase.is_uninitialised());
        holds(state);
        phases.insert(state.phase.name());
    }
    assert_eq!(phases.len(), 6, "{phases:?}");
}

#[test]
fn a_root_that_is_trusted_stays_or_drains_and_a_retired_one_does_neither() {
    for state in [
        RootState::Staged,
        RootState::Published,
        RootState::Canary,
        RootState::Active,
        RootState::Draining,
        RootState::Retired,
    ] {
        assert_eq!(state.is_trusted(), state.stays() || state.is_draining(), "{}", state.as_str());
        assert!(!(state.stays() && state.is_draining()), "{}", state.as_str());
        assert_eq!(state.is_retired(), state.as_str() == "retired");
    }
}
