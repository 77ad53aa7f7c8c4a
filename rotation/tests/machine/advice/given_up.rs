//! What is said of a rotation that was given up, taken back, or is over.

use super::*;

#[test]
fn an_aborted_rotation_says_so_while_it_finishes_and_sends_nobody_in_a_circle() {
    let aborted = after(distributed(Mode::Auto), 1_100, &[abort("x")]);
    assert_eq!(aborted.phase.given_up(), Some(rotation::Ending::Aborted));
    let refused = |event: &Event| step(&aborted, event, at(1_100), &policy()).unwrap_err();
    let start = refused(&rotation("s", Mode::Auto));
    assert!(
        start.to_string().contains("was aborted and is still finishing; wait until it is over"),
        "{start}"
    );
    assert_eq!(start.advice, Advice { wait: Some(Wait::Rotation), verbs: Vec::new() });
    assert_eq!(refused(&rollback("b")).advice, start.advice);
    let again = step(&aborted, &abort("y"), at(1_100), &policy()).unwrap();
    assert!(!again.changes(&aborted), "what was given up is given up");
    // A hold that came after the abort is the holder's to end: another abort leaves it, and nothing advises one.
    let held = after(aborted.clone(), 1_100, &[hold("h")]);
    assert!(!step(&held, &abort("z"), at(1_100), &policy()).unwrap().changes(&held));
    for event in [rotation("s2", Mode::Auto), rollback("b2")] {
        let refused = step(&held, &event, at(1_100), &policy()).unwrap_err();
        assert_eq!(refused.advice, Advice { wait: None, verbs: vec![Verb::Resume] }, "{refused}");
    }
    assert_eq!(rotation::legal(&held, None, at(1_100), &policy()), [Verb::Resume]);
    assert_eq!(after(held, 1_100, &[resume("go-on")]).phase, aborted.phase);
}

#[test]
fn what_is_not_legal_is_told_by_what_is_so_and_never_by_a_wait_for_what_has_come() {
    let refused =
        |state: &State| step(state, &rollback("b"), at(1_300), &policy()).unwrap_err().to_string();
    // Forward again after a rollback, with the gate open: there is nothing to wait for.
    let forward =
        after(drained(), 1_200, &[rollback("x"), activate("forward", evidence(1_200, 2, 14))]);
    let said = refused(&forward);
    assert!(said.contains("the new root isn't signing; nothing to roll back"), "{said}");
    assert!(!said.contains("wait until the trust gate is open"), "{said}");
    assert!(
        said.contains("once the trust gate is open, let the new root sign")
            || said.contains("wait until it is over"),
        "{said}"
    );
    // Through: the new root signs, and the former one is no longer trusted.
    let through = waited(World { state: drained(), now: 1_240 }, |world| {
        matches!(world.state.phase, Phase::Withdrawing(_))
    });
    let said = refused(&through.state);
    assert!(
        said.contains("the former root has left the bundle, so nothing can be rolled back to it"),
        "{said}"
    );
    // Taken back: it is said that it was.
    let back = after(drained(), 1_200, &[rollback("x")]);
    let back = waited(World { state: back, now: 1_240 }, |world| {
        matches!(world.state.phase, Phase::Withdrawing(_))
    });
    assert!(refused(&back.state).contains("the former root signs again already"));
}

#[test]
fn what_a_rotation_came_to_is_told_when_it_is_over() {
    let ended = |state: &State| {
        state.phase.ended().map(|ended| (ended.request_id.to_string(), ended.ending))
    };
    let aborted = after(distributed(Mode::Auto), 1_100, &[abort("x")]);
    let over = waited(World { state: aborted, now: 1_140 }, is_steady);
    assert_eq!(ended(&over.state), Some(("r".to_owned(), Ending::Aborted)));
    let staging = after(signing(), 1_000, &[rotation("early", Mode::Auto), abort("y")]);
    assert_eq!(ended(&staging), Some(("early".to_owned(), Ending::Aborted)));
    let back = after(drained(), 1_200, &[rollback("z")]);
    let over = waited(World { state: back, now: 1_240 }, is_steady);
    assert_eq!(ended(&over.state), Some(("r".to_owned(), Ending::RolledBack)));
    let through = waited(World { state: drained(), now: 1_240 }, is_steady);
    assert_eq!(ended(&through.state), Some(("r".to_owned(), Ending::Completed)));
    let next = after(through.state, 9_000, &[rotation("next", Mode::Auto)]);
    assert_eq!(ended(&next), None, "the next one is under way");
}
