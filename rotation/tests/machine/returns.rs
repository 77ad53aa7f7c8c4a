//! Roots that come back, and renewals that are given up.

use rotation::{Event, Mode, RootState, State, invariants, step};
use trust::RootId;

use crate::script::Script;
use crate::words::*;

fn named(request: &str, name: &str) -> Event {
    let (request_id, authority) = (request.parse().unwrap(), "main".parse().unwrap());
    Event::RotationRequested {
        request_id,
        authority,
        mode: Mode::Auto,
        stage_again: Some(root(name)),
        canary: None,
    }
}

fn replacing(request: &str) -> Event {
    let request_id = request.parse().unwrap();
    Event::IssuerRenewalRequested { request_id, root: root("A"), replica: None, replaces: true }
}

fn cancelled(request: &str) -> Event {
    let request_id = request.parse().unwrap();
    Event::IssuerRenewalCancelled { request_id, root: root("A"), replica: None }
}

/// A rotation from A to B was carried through: A is withdrawn.
pub(crate) fn withdrawn() -> State {
    let mut state = bootstrapped_and_rotated();
    let entry = state.roots.get_mut(&root("A")).unwrap();
    assert_eq!(entry.state, RootState::Retired);
    assert!(entry.horizon.is_some(), "it signed");
    state.generation = state.generation.next();
    state
}

fn bootstrapped_and_rotated() -> State {
    let mut state = drained();
    let mut now = 1_500;
    // Time alone opens what is left.
    while state.phase.rotation().is_some() {
        now += 50_000;
        let generation = state.generation.0;
        let sequence = state.sequence.0;
        for event in [
            published(sequence),
            sealed("s1", generation),
            reported(evidence(now, sequence, generation)),
        ] {
            if let Ok(transition) = step(&state, &event, at(now), &policy()) {
                state = transition.next;
            }
        }
        assert!(now < 5_000_000, "the rotation ends: {}", line(&state));
    }
    state
}

#[test]
fn a_root_that_never_signed_is_as_good_as_unknown_after_an_abort() {
    // In staging and while distributing: the same root again, and it gets as far as any other.
    for (before, aborts) in [
        (
            after(signing(), 1_000, &[rotation("r", Mode::Auto), prepared("r", "B"), abort("x")]),
            true,
        ),
        (given_up_while_distributing(), true),
    ] {
        assert!(aborts && before.phase.rotation().is_none(), "{}", line(&before));
        let again = after(
            before,
            1_000,
            &[rotation("r2", Mode::Auto), prepared("r2", "B"), signed("r2", "B", "b2")],
        );
        assert_eq!(again.phase.name(), "distributing");
        invariants::check(&again).unwrap();
        // And it may be given up again.
        let given_up = after(again, 1_000, &[abort("x2")]);
        assert_eq!(given_up.roots.get(&root("B")).unwrap().state, RootState::Retired);
    }
}

fn given_up_while_distributing() -> State {
    let mut state = after(distributed(Mode::Auto), 1_000, &[abort("x")]);
    let (sequence, generation) = (state.sequence.0, state.generation.0);
    state = after(state, 1_000, &[published(sequence), sealed("s1", generation)]);
    let generation = state.generation.0;
    after(state, 1_000, &[reported(evidence(1_000, sequence, generation))])
}

#[test]
fn a_withdrawn_root_returns_only_when_it_was_named() {
    let state = withdrawn();
    let now = 4_000_000;
    let unnamed = step(&state, &rotation("r9", Mode::Auto), at(now), &policy()).unwrap().next;
    let refused =
        step(&unnamed, &prepared("r9", "A"), at(1_000), &policy()).unwrap_err().to_string();
    let id: RootId = root("A");
    assert!(refused.contains(&format!("--stage-again {}", id.short())), "{refused}");

    let requested = step(&state, &named("r9", "A"), at(now), &policy()).unwrap().next;
    let other = step(&requested, &prepared("r9", "B"), at(1_000), &policy());
    assert!(other.is_err(), "the name is good for the one root alone");
    let staged = step(&requested, &prepared("r9", "A"), at(1_000), &policy()).unwrap().next;
    invariants::check_next(&requested, &staged).unwrap();
    let entry = staged.roots.get(&id).unwrap();
    assert_eq!(
        (entry.state, entry.horizon),
        (RootState::Staged, state.roots.get(&id).unwrap().horizon)
    );
    assert!(!entry.signed_since_staged());
    let distributing = after(staged, 1_000, &[signed("r9", "A", "a9")]);
    // What it released before is gone, so the rotation may be given up as that of a new root.
    let given_up = step(&distributing, &abort("x9"), at(1_000), &policy()).unwrap().next;
    invariants::check_next(&distributing, &given_up).unwrap();
    assert_eq!(given_up.roots.get(&id).unwrap().state, RootState::Retired);
}

#[test]
fn a_compromised_root_never_returns() {
    let mut state = withdrawn();
    state.roots.get_mut(&root("A")).unwrap().tainted = true;
    let requested = step(&state, &named("r9", "A"), at(4_000_000), &policy()).unwrap().next;
    assert!(step(&requested, &prepared("r9", "A"), at(1_000), &policy()).is_err());
}

#[test]
fn a_return_that_nobody_named_breaks_a_rule() {
    let state = withdrawn();
    let requested =
        step(&state, &rotation("r9", Mode::Auto), at(4_000_000), &policy()).unwrap().next;
    let mut staged = step(&requested, &prepared("r9", "C"), at(1_000), &policy()).unwrap().next;
    staged.roots.get_mut(&root("A")).unwrap().state = RootState::Staged;
    assert!(invariants::check_next(&requested, &staged).is_err());
}

#[test]
fn a_renewal_that_hangs_is_replaced_and_its_late_answer_is_not_taken() {
    Script::from(bootstrapped())
        .then(renewal("r1", "A"), "g6 b1 steady | A active key-a until - renewing | - | request_issuer@6")
        .then(replacing("r2"), "g7 b1 steady | A active key-a until - renewing | - | request_issuer@7")
        .nothing_new(replacing("r2"))
        .nothing_new(renewal("r1", "A"))
        .refuses(
            signed("r1", "A", "b"),
            "issuer_signed refused while steady at generation 7: nothing was asked under request id r1; answers are taken \
             only for pending effects",
        )
        .then(signed("r2", "A", "b"), "g8 b1 steady | A active key-b until - | - | switch_signer@8");
}

#[test]
fn a_renewal_can_be_cancelled_once_and_asked_for_again() {
    Script::from(bootstrapped())
        .then(renewal("r1", "A"), "g6 b1 steady | A active key-a until - renewing | - | request_issuer@6")
        .then(cancelled("c1"), "g7 b1 steady | A active key-a until - | - | -")
        .nothing_new(cancelled("c1"))
        .refuses(
            cancelled("c2"),
            &format!(
                "issuer_renewal_cancelled refused while steady at generation 7: no renewal of the issuer under root {} is \
                 under way; nothing is to be cancelled",
                root("A").short()
            ),
        )
        .then(renewal("r3", "A"), "g8 b1 steady | A active key-a until - renewing | - | request_issuer@8");
}
