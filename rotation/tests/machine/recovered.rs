//! A record that was restored from a backup counts what it cannot know: every leaf that was released since may live, whatever
//! ledgers say, and under whichever root.

use rotation::invariants::{self, Violation};
use rotation::{Cause, Contents, Event, Evidence, Mode, Phase, SegmentState, State, step};
use trust::{Generation, Sequence};

use crate::script::Script;
use crate::words::*;

/// When the last leaf can end that was released before a recovery at 1,200: the longest leaf and twice the skew.
const LOST: i64 = 2_220;
/// When that counts as over.
const OVER: i64 = LOST + 21;

fn recovered(state: State) -> State {
    after(state, 1_200, &[recovery("restore", &[])])
}

/// The server that starts on it, with everything of its ledger read, and a seal of now.
fn served(state: State) -> State {
    let signer = state.signing_root().unwrap();
    let state = after(state, 1_200, &[opened("ca", "s2", &["s1"])]);
    let until = rotation::Event::HorizonRequested {
        root: signer,
        segment: "s2".parse().unwrap(),
        until: at(LOST),
    };
    let state = after(state, 1_200, &[until]);
    let generation = state.generation.0;
    after(state, 1_200, &[sealed("s2", generation)])
}

/// Evidence of a server that has read all that it has: nothing lives, everybody has the bundle.
fn all_well(state: &State, now: i64) -> Evidence {
    let read = ["s1", "s2"].map(|name| (name.parse().unwrap(), Generation(state.generation.0)));
    Evidence { read: read.into(), ..evidence(now, state.sequence.0, 0) }
}

fn everywhere() -> Vec<State> {
    let ready = [rotation("r", Mode::Auto), prepared("r", "B")];
    vec![
        signing(),
        after(signing(), 1_000, &ready),
        distributed(Mode::Auto),
        distributed(Mode::Manual),
        drained(),
    ]
}

#[test]
fn every_root_that_is_not_retired_may_have_leaves_that_nobody_knows_and_no_former_segment_is_read()
{
    for state in everywhere() {
        let next = recovered(state.clone());
        let roots = next.roots.values().map(|entry| entry.horizon);
        assert!(roots.clone().all(|horizon| horizon == Some(at(LOST))), "{}", line(&next));
        assert_eq!(roots.count(), state.roots.len());
        let s1 = &next.segments[&"s1".parse().unwrap()];
        assert_eq!(s1.state, SegmentState::Closed(Contents::Unread));
        assert_eq!(next.lost_rows_until(at(1_200), &policy()), Some(at(OVER)));
        assert_eq!(next.lost_rows_until(at(OVER), &policy()), None);
        assert_eq!(next.sequence, state.sequence, "bundles go on by what agents have seen");
    }
}

#[test]
fn it_is_done_once_for_one_restore_and_names_what_is_lost() {
    Script::from(signing())
        .then(
            recovery("restore", &[]),
            "g8 b1 steady | A active key-a until 2020 | lost-g8 closed-unread 2020, s1 closed-unread 2000 | -",
        )
        .nothing_new(recovery("restore", &[]))
        .then(
            opened("ca", "s2", &["s1"]),
            "g9 b1 steady | A active key-a until 2020 | lost-g8 closed-unread 2020, s1 closed 2000, s2 open - | -",
        )
        .at(1_300)
        .then(
            recovery("again", &["s2"]),
            "g10 b1 steady | A active key-a until 2320 | lost-g10 closed-unread 2320, lost-g8 closed-unread 2020, s1 closed 2000, \
             s2 open - | -",
        );
    let refused = step(&start(), &recovery("restore", &[]), at(1_200), &policy()).unwrap_err();
    assert!(matches!(refused.cause, Cause::NotBootstrapped), "{refused}");
    let staged = after(signing(), 1_000, &[rotation("r", Mode::Auto)]);
    let refused = step(&staged, &recovery("r", &[]), at(1_200), &policy()).unwrap_err();
    assert!(matches!(refused.cause, Cause::RequestIdReused { .. }), "{refused}");
}

#[test]
fn no_gate_opens_by_rows_before_what_is_not_known_must_be_over() {
    for state in [distributed(Mode::Auto), drained()] {
        let without = served(state.clone());
        let settling = step(&without, &reported(all_well(&without, 1_210)), at(1_210), &policy());
        assert!(settling.unwrap().changes(&without), "the row path is what holds it");
        let state = served(recovered(state));
        for now in [1_210, LOST, OVER - 1] {
            let evidence = reported(all_well(&state, now));
            let next = step(&state, &evidence, at(now), &policy()).unwrap();
            assert!(!next.changes(&state), "at {now}: {}", line(&next.next));
        }
        let settling = after(state.clone(), OVER, &[reported(all_well(&state, OVER))]);
        let end = OVER + 30;
        let next = after(settling, end, &[reported(all_well(&state, end))]);
        assert_ne!(next.phase.name(), state.phase.name(), "and then it goes on by itself");
    }
}

#[test]
fn a_root_that_may_have_signed_after_the_backup_is_not_taken_out_by_an_abort() {
    let state = distributed(Mode::Auto);
    assert!(step(&state, &abort("x"), at(1_200), &policy()).is_ok(), "as far as the backup knows");
    let refused = step(&recovered(state), &abort("x"), at(1_200), &policy()).unwrap_err();
    assert!(matches!(refused.cause, Cause::MayHaveSigned), "{refused}");
}

#[test]
fn a_horizon_that_rises_without_the_rows_that_it_stands_for_is_a_violation() {
    for state in [distributed(Mode::Auto), drained()] {
        let next = recovered(state.clone());
        invariants::check_next(&state, &next).unwrap();
        let lost = next.segments.keys().find(|id| id.as_str().starts_with("lost-")).unwrap();
        let mut unnamed = next.clone();
        unnamed.segments.remove(lost);
        let mut partial = next.clone();
        partial.segments.get_mut(lost).unwrap().bounds.pop_first();
        let mut read = next.clone();
        read.segments.get_mut(lost).unwrap().state = SegmentState::Closed(Contents::Read);
        let mut moved = next.clone();
        moved.sequence = moved.sequence.next();
        for broken in [unnamed, partial, read] {
            let found = invariants::check_next(&state, &broken);
            assert!(matches!(found, Err(Violation::HorizonRaised { .. })), "{found:?}");
        }
        assert!(invariants::check_next(&state, &moved).is_err());
    }
}

#[test]
fn a_phase_that_was_restored_ends_and_the_next_rotation_does_too() {
    let state = served(recovered(distributed(Mode::Auto)));
    let settled = |state: State, now: i64| {
        let state = after(state.clone(), now, &[reported(all_well(&state, now))]);
        after(state.clone(), now + 30, &[reported(all_well(&state, now + 30))])
    };
    let state = settled(state, OVER);
    assert!(matches!(state.phase, Phase::Draining(_)), "{}", line(&state));
    let state = after(state, OVER + 30, &[switched("B", "b")]);
    let generation = state.generation.0;
    let state = settled(after(state, OVER + 30, &[sealed("s2", generation)]), OVER + 31);
    assert!(matches!(state.phase, Phase::Withdrawing(_)), "{}", line(&state));
}

#[test]
fn nothing_goes_on_above_a_later_bundle_while_lost_rows_may_live_although_no_agent_says_a_word() {
    let state = recovered(signing());
    assert!(state.seen.open.is_empty());
    let go_on = |above, waits, now| {
        let (request_id, reason) = ("c".parse().unwrap(), "restored".to_owned());
        let above = Sequence(above);
        let event = Event::ContinueRequested { request_id, above, reason, waits };
        step(&state, &event, at(now), &policy())
    };
    let refused = go_on(4, true, 1_300).unwrap_err();
    assert!(
        matches!(refused.cause, Cause::LostLeavesMayLive { until, .. } if until == at(OVER)),
        "{refused}"
    );
    assert_eq!(go_on(4, false, 1_300).unwrap().next.sequence, Sequence(5), "somebody's word");
    assert_eq!(go_on(4, true, OVER).unwrap().next.sequence, Sequence(5), "they are over");
    assert_eq!(go_on(1, true, 1_300).unwrap().next.sequence, Sequence(2), "nothing is above");
}
