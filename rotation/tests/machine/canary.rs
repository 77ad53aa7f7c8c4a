//! The canary: who comes to sign for whom, what ends it, and what does not.

use rotation::invariants::{Property, check_next};
use rotation::record::{FORMAT_LEAST, decode, encode, format_of};
use rotation::{CohortSeen, Event, Evidence, Mode, Phase, RootState, Share, State, Trouble};
use trust::Generation;

use crate::script::Script;
use crate::words::*;

/// The format in which a former release does not read a rotation with a canary.
const FORMAT_OF_CANARIES: u32 = 8;

fn seen(now: i64, cohort: CohortSeen) -> Event {
    reported(Evidence { cohort: Some(cohort), ..evidence(now, 2, 10) })
}

fn refused(bad: u64) -> CohortSeen {
    let trouble = Trouble { refused: Share { bad, of: 50 }, ..Trouble::default() };
    CohortSeen { taken: 50, trouble, ..CohortSeen::default() }
}

fn phase(state: &State) -> &rotation::Canary {
    state.phase.canary().unwrap_or_else(|| panic!("no canary: {}", line(state)))
}

fn says(state: &State, event: &Event, now: i64) -> String {
    rotation::step(state, event, at(now), &policy()).unwrap_err().to_string()
}

/// From the first report of a cohort that is well to the second, which begins nothing anew.
fn observing() -> State {
    after(canary(), 1_140, &[reported(well(1_140, 2, 10))])
}

#[test]
fn the_new_root_signs_for_the_cohort_once_the_trust_gate_is_open_and_for_all_when_that_was_well() {
    Script::from(distributed_first(Mode::Auto))
        .at(1_100)
        .then(
            reported(evidence(1_100, 2, 10)),
            "g13 b2 distributing, settling | A active key-a until 2000, B published key-b until - \
             | s1 sealed@10 2000 | -",
        )
        .at(1_130)
        .then(
            reported(evidence(1_130, 2, 10)),
            "g14 b2 canary | A active key-a until 2000, B canary key-b until - | s1 sealed@10 2000 | -",
        )
        .then(
            horizon("B", "s1", 2_200),
            "g15 b2 canary | A active key-a until 2000, B canary key-b until 2200 | s1 sealed@10 \
             2200 | -",
        )
        .then(
            horizon("A", "s1", 2_300),
            "g16 b2 canary | A active key-a until 2300, B canary key-b until 2200 | s1 sealed@10 \
             2300 | -",
        )
        .at(1_140)
        .then(
            reported(well(1_140, 2, 10)),
            "g17 b2 canary, settling, observing | A active key-a until 2300, B canary key-b until \
             2200 | s1 sealed@10 2300 | -",
        )
        .at(1_199)
        .nothing_new(reported(well(1_199, 2, 10)))
        .at(1_200)
        .then(
            reported(well(1_200, 2, 10)),
            "g18 b2 draining | A draining key-a until 2300, B active key-b until 2200 | s1 \
             sealed@10 2300 | switch_signer@18",
        );
}

#[test]
fn a_cohort_that_says_nothing_of_the_new_root_ends_no_canary_and_an_operator_does() {
    let silent =
        |taken, silent, waiting| CohortSeen { taken, silent, waiting, ..CohortSeen::default() };
    for (cohort, why) in [
        (silent(0, 0, 0), "nobody is in it, or all have ended"),
        (silent(0, 3, 0), "all are gone"),
        (silent(1, 2, 0), "most are gone"),
        (silent(1, 0, 2), "most have not renewed yet"),
    ] {
        let mut state = canary();
        for now in [1_140, 1_300, 9_000] {
            let next = rotation::step(&state, &seen(now, cohort), at(now), &policy()).unwrap().next;
            assert!(phase(&next).observing.is_none(), "{why}: {}", line(&next));
            state = next;
        }
        let evidence = Evidence { cohort: Some(cohort), ..evidence(9_000, 2, 10) };
        let gate = rotation::evidence::gate(&state, &evidence, &policy()).unwrap();
        assert_eq!(gate.opens_at_latest, None, "{why}");
        let way: Vec<_> = gate.holds.iter().filter_map(rotation::evidence::Hold::way).collect();
        assert!(way[0].contains("banyan rotate widen"), "{way:?}");
        let on = after(state, 9_000, &[activate("a", evidence)]);
        assert_eq!(on.phase.name(), "draining", "{why}");
    }
}

#[test]
fn who_dies_while_the_cohort_is_watched_has_it_watched_anew() {
    let gone = CohortSeen { silent: 2, ..CohortSeen::default() };
    let state = after(observing(), 1_190, &[seen(1_190, gone)]);
    assert!(phase(&state).observing.is_none(), "{}", line(&state));
    let state = after(state, 1_195, &[reported(well(1_195, 2, 10))]);
    let again = rotation::step(&state, &reported(well(1_254, 2, 10)), at(1_254), &policy());
    assert_eq!(again.unwrap().next.phase.name(), "canary");
    let state = after(state, 1_255, &[reported(well(1_255, 2, 10))]);
    assert_eq!(state.phase.name(), "draining");
}

#[test]
fn a_driver_that_starts_has_the_cohort_watched_anew() {
    let state = after(observing(), 1_190, &[Event::DriverStarted]);
    let (settling, observing) = (phase(&state).settling, phase(&state).observing);
    assert_eq!((settling, observing), (None, None), "{}", line(&state));
    let state = after(state, 1_191, &[reported(well(1_191, 2, 10))]);
    let later = rotation::step(&state, &reported(well(1_250, 2, 10)), at(1_250), &policy());
    assert_eq!(later.unwrap().next.phase.name(), "canary");
}

#[test]
fn a_cohort_grows_and_never_shrinks_and_is_watched_anew() {
    let state = observing();
    for narrower in ["spiffe://example.org/ns/shop/sa/cart", "99%"] {
        let text = says(&state, &widen("w", narrower), 1_150);
        assert!(text.contains("a cohort only grows"), "{text}");
    }
    let wider = after(state, 1_150, &[widen("w", &format!("20%,{SHOP}"))]);
    assert_eq!(phase(&wider).cohort.to_string(), format!("20%,{SHOP}"));
    assert!(phase(&wider).observing.is_none(), "{}", line(&wider));
    let same = widen("w2", &format!("20%,{SHOP}"));
    let again = rotation::step(&wider, &same, at(1_150), &policy()).unwrap();
    assert!(!again.changes(&wider));
    let held = after(wider, 1_150, &[hold("h")]);
    let text = says(&held, &widen("w3", "100%"), 1_160);
    assert!(text.contains("on hold") && text.contains("banyan rotate resume"), "{text}");
    for (state, named) in [(distributed_first(Mode::Auto), "distributing"), (drained(), "draining")]
    {
        let text = says(&state, &widen("w", "100%"), 1_200);
        assert!(text.contains(&format!("no canary is under way while {named}")), "{text}");
    }
}

#[test]
fn trouble_above_the_limit_holds_it_and_only_more_than_was_accepted_holds_it_again() {
    let state = after(canary(), 1_140, &[seen(1_140, refused(0))]);
    assert!(phase(&state).observing.is_some());
    let held = after(state, 1_150, &[seen(1_150, refused(1))]);
    assert_eq!(held.phase.rotation().unwrap().held_since, Some(at(1_150)));
    let trouble = phase(&held).trouble.expect("the reason is in the record");
    assert_eq!(trouble.in_words(), "1 of 50 leaves were refused by their holders");
    let late = rotation::step(&held, &seen(9_000, refused(0)), at(9_000), &policy()).unwrap().next;
    assert_eq!(late.phase.name(), "canary", "no time ends it: {}", line(&late));
    let text = says(&held, &activate("a", evidence(1_150, 2, 10)), 1_150);
    assert!(text.contains("banyan rotate resume --by NAME --reason TEXT"), "{text}");

    let on = after(held, 1_160, &[resume("on")]);
    assert!(phase(&on).trouble.is_none() && phase(&on).accepted == Some(trouble));
    let on = after(on, 1_170, &[seen(1_170, refused(1))]);
    assert!(phase(&on).observing.is_some(), "what was accepted holds nothing: {}", line(&on));
    let again = after(on, 1_180, &[seen(1_180, refused(2))]);
    assert_eq!(phase(&again).trouble.map(|trouble| trouble.refused.bad), Some(2));
}

#[test]
fn each_kind_of_trouble_is_judged_by_its_own_share() {
    let share = |bad, of| Share { bad, of };
    let none = Trouble::default();
    for (trouble, holds) in [
        (Trouble { issue_errors: share(1, 100), ..none }, false),
        (Trouble { issue_errors: share(2, 100), ..none }, true),
        (Trouble { unable: share(1, 20), ..none }, true),
        (Trouble { handshakes: share(10, 1_000), ..none }, false),
        (Trouble { handshakes: share(11, 1_000), ..none }, true),
        (Trouble { issue_errors: share(1, 100), handshakes: share(9, 1_000), ..none }, false),
    ] {
        let cohort = CohortSeen { taken: 9, trouble, ..CohortSeen::default() };
        let state = after(canary(), 1_140, &[seen(1_140, cohort)]);
        assert_eq!(phase(&state).trouble.is_some(), holds, "{trouble:?}");
    }
}

#[test]
fn it_is_rolled_back_at_once_and_goes_forward_again_through_the_gate_to_its_first_cohort() {
    let state = after(canary(), 1_140, &[widen("w", "100%"), seen(1_140, refused(9))]);
    assert!(phase(&state).trouble.is_some());
    Script::from(state)
        .at(1_150)
        .refuses(
            abort("x"),
            "abort_requested refused while canary at generation 17: the new root has signed; roll it back with `banyan \
             rotate rollback`, or mend what was seen, then let it go on with `banyan rotate resume --by NAME --reason TEXT`",
        )
        .then(
            rollback("b"),
            "g18 b2 draining back | A active key-a until 2000, B draining key-b until 2200 | s1 \
             sealed@10 2200 | switch_signer@18",
        )
        .then(
            activate("go", evidence(1_150, 2, 10)),
            "g19 b2 distributing | A active key-a until 2000, B draining key-b until 2200 | s1 \
             sealed@10 2200 | switch_signer@18",
        )
        .then(
            reported(evidence(1_150, 2, 10)),
            "g20 b2 distributing, settling | A active key-a until 2000, B draining key-b until \
             2200 | s1 sealed@10 2200 | switch_signer@18",
        )
        .at(1_180)
        .then(
            reported(evidence(1_180, 2, 10)),
            "g21 b2 canary | A active key-a until 2000, B canary key-b until 2200 | s1 sealed@10 \
             2200 | switch_signer@18",
        );
}

#[test]
fn the_leaves_of_a_canary_that_was_rolled_back_are_waited_for() {
    let state = after(canary(), 1_150, &[rollback("b")]);
    let state = after(state, 1_150, &[switched("A", "a")]);
    let live = [(root("B"), tally(2, 2_100))].into();
    let report = Evidence { live, ..evidence(1_200, 2, 10) };
    let gate = rotation::evidence::gate(&state, &report, &policy()).unwrap();
    let holds: Vec<_> = gate.holds.iter().map(ToString::to_string).collect();
    assert!(holds.iter().any(|hold| hold.contains("segment s1 is not sealed")), "{holds:?}");
    assert!(holds.iter().any(|hold| hold.contains("2 leaves are alive")), "{holds:?}");
}

#[test]
fn who_comes_to_rely_on_the_bundle_during_a_canary_is_waited_for_before_it_signs_for_all() {
    let parties = rotation::evidence::RelyingParties { unbounded: 1, ..Default::default() };
    let unconfirmed = |now| Evidence { relying_parties: parties, ..well(now, 2, 10) };
    let state = after(observing(), 1_190, &[reported(unconfirmed(1_190))]);
    assert!(phase(&state).settling.is_none(), "{}", line(&state));
    let text = says(&state, &activate("a", unconfirmed(1_190)), 1_190);
    assert!(text.contains("the canary gate is closed: 1 relying party must confirm"), "{text}");
    let text = says(&state, &activate("a", well(1_190, 2, 10)), 1_190);
    assert!(text.contains("handshakes in flight"), "the confirmation came a moment ago: {text}");
}

#[test]
fn a_distrusted_root_does_not_wait_for_a_canary() {
    let old = after(canary(), 1_140, &[hold("h"), distrust("d", "A")]);
    assert!(
        matches!(&old.phase, Phase::Draining(phase) if phase.to == root("B")),
        "{}",
        line(&old)
    );
    assert_eq!(old.phase.rotation().unwrap().held_since, None);
    let new = after(canary(), 1_140, &[distrust("d", "B")]);
    let back = |phase: &rotation::Draining| phase.from == root("B") && phase.rolled_back;
    assert!(matches!(&new.phase, Phase::Draining(phase) if back(phase)), "{}", line(&new));
    // Before it began there is none.
    let early = after(distributed_first(Mode::Manual), 1_050, &[distrust("d", "A")]);
    let early = after(early, 1_100, &[reported(evidence(1_100, 2, 10))]);
    let early = after(early, 1_130, &[reported(evidence(1_130, 2, 10))]);
    assert_eq!(early.phase.name(), "draining");
}

#[test]
fn by_hand_each_of_both_steps_is_somebodys_word() {
    let state = after(distributed_first(Mode::Manual), 1_100, &[reported(evidence(1_100, 2, 10))]);
    let nothing = rotation::step(&state, &reported(evidence(1_140, 2, 10)), at(1_140), &policy());
    assert_eq!(nothing.unwrap().next, state);
    let first = after(state, 1_140, &[activate("a", evidence(1_140, 2, 10))]);
    let watched = after(first, 1_150, &[reported(well(1_150, 2, 10))]);
    let long = rotation::step(&watched, &reported(well(9_000, 2, 10)), at(9_000), &policy());
    assert_eq!(long.unwrap().next.phase.name(), "canary");
    let all = after(watched, 1_180, &[activate("b", well(1_180, 2, 10))]);
    assert_eq!(all.phase.name(), "draining");
}

#[test]
fn a_rotation_with_a_canary_has_a_format_of_its_own_until_it_is_over() {
    let back = after(canary(), 1_150, &[rollback("b")]);
    for state in [distributed_first(Mode::Auto), canary(), observing(), back] {
        assert_eq!(format_of(&state), FORMAT_OF_CANARIES, "{}", line(&state));
        assert_eq!(decode(&encode(&state).unwrap()).unwrap(), state);
    }
    assert_eq!(format_of(&distributed(Mode::Auto)), FORMAT_LEAST);
    let drained = after(canary(), 1_150, &[rollback("b"), switched("A", "a")]);
    let drained = after(drained, 1_160, &[sealed("s1", 16)]);
    let gone = after(drained, 1_200, &[reported(evidence(1_200, 2, 16))]);
    let gone = after(gone, 1_240, &[reported(evidence(1_240, 2, 16))]);
    let over = after(gone, 1_240, &[published(3), sealed("s1", 20)]);
    let over = after(over, 1_250, &[reported(evidence(1_250, 3, 20))]);
    assert!(over.phase.is_steady(), "{}", line(&over));
    assert_eq!(format_of(&over), FORMAT_LEAST);
}

/// Each pair could be written by a machine without the rule.
#[test]
fn no_state_follows_that_breaks_a_rule_of_a_canary() {
    let pass = |state: &State, mut next: State| {
        next.generation = state.generation.next();
        check_next(state, &next).map_err(|violation| violation.property())
    };
    let settling = after(distributed_first(Mode::Auto), 1_100, &[reported(evidence(1_100, 2, 10))]);
    let begun = after(settling.clone(), 1_130, &[reported(evidence(1_130, 2, 10))]);
    assert_eq!(pass(&settling, begun.clone()), Ok(()));
    assert_eq!(pass(&distributed_first(Mode::Auto), begun), Err(Property::S1), "no trust gate");

    let narrowed = |state: &State, cohort: &str| {
        let mut next = state.clone();
        if let Phase::Canary(canary) = &mut next.phase {
            canary.cohort = cohort.parse().unwrap();
        }
        next
    };
    let state = observing();
    assert_eq!(pass(&state, narrowed(&state, "100%")), Ok(()));
    assert_eq!(pass(&state, narrowed(&state, "99%")), Err(Property::S4), "somebody leaves");

    let all = after(state.clone(), 1_200, &[reported(well(1_200, 2, 10))]);
    assert_eq!(pass(&state, all.clone()), Ok(()));
    let mut early = all;
    if let Phase::Draining(phase) = &mut early.phase {
        phase.switched = Generation(canary().generation.0 + 1);
    }
    early.pending[0].generation = Generation(canary().generation.0 + 1);
    assert_eq!(pass(&canary(), early), Err(Property::S1), "the gate is judged again");

    let mut stray = distributed(Mode::Auto);
    stray.roots.get_mut(&root("B")).unwrap().state = RootState::Canary;
    assert!(rotation::invariants::check(&stray).is_err(), "a root that signs in no canary");
}
