//! A root that counts as compromised, and standby roots for that day.

use rotation::record::{decode, encode, format_of};
use rotation::{Cause, Ending, Event, Mode, Phase, RootState, State, invariants, step};

use crate::script::Script;
use crate::words::*;

/// The format in which a former release reads neither a coming standby root nor a distrusted one.
const FORMAT_OF_DISTRUST: u32 = 6;
const S1: &str = "s1 sealed@10 2000";

fn refused(state: &State, event: &Event, now: i64) -> Cause {
    step(state, event, at(now), &policy()).unwrap_err().cause
}

fn phase(state: &State) -> &'static str {
    state.phase.name()
}

/// Root `A` is distrusted while `S` is a standby root, and it is decided that `S` signs; that is not in force yet.
fn decided() -> State {
    let state = after(with_standby(), 1_200, &[distrust("d", "A")]);
    let generation = state.generation.0;
    let state = after(state, 1_200, &[sealed("s1", generation)]);
    let state = after(state, 1_210, &[reported(evidence(1_210, 2, generation))]);
    let state = after(state, 1_240, &[reported(evidence(1_240, 2, generation))]);
    assert_eq!(phase(&state), "draining");
    state
}

/// The same, in force.
fn replaced() -> State {
    let state = decided();
    let switched_at = state.generation.0;
    after(state, 1_240, &[switched("S", "s"), sealed("s1", switched_at)])
}

#[test]
fn a_standby_root_is_trusted_by_everybody_before_it_counts_as_one_and_stays_so_without_signing() {
    let state = with_standby();
    let both = "A active key-a until 2000, S published key-s until -";
    assert_eq!(line(&state), format!("g14 b2 steady | {both} | {S1} | -"));
    assert_eq!(state.signing_root(), Some(root("A")));
    assert_eq!(state.standby().map(|(id, _)| *id).collect::<Vec<_>>(), [root("S")]);
    assert_eq!(format_of(&state), rotation::record::FORMAT_LEAST, "a former release reads it");
    // While it is on its way nobody can let it sign, and the gate is the trust gate.
    let events = [
        rotation("p", Mode::Standby),
        prepared("p", "S"),
        signed("p", "S", "s"),
        published(2),
        sealed("s1", 10),
    ];
    let coming = after(signing(), 1_000, &events);
    assert_eq!(format_of(&coming), FORMAT_OF_DISTRUST, "a former release would let it sign");
    assert_eq!(decode(&encode(&coming).unwrap()).unwrap(), coming);
    assert!(matches!(
        refused(&coming, &activate("x", evidence(1_100, 2, 10)), 1_100),
        Cause::NothingToActivate
    ));
    let behind = rotation::Evidence { unproven: tally(1, 1_900), ..evidence(1_100, 2, 10) };
    let waits = step(&coming, &reported(behind), at(1_100), &policy()).unwrap();
    assert!(!waits.changes(&coming), "somebody does not trust it yet");
    // Given up, it goes as any root that never signed.
    let given_up = after(coming, 1_100, &[abort("x")]);
    assert_eq!(given_up.roots[&root("S")].state, RootState::Retired);
}

#[test]
fn a_standby_root_signs_after_the_trust_gate_without_a_new_bundle() {
    let both = "A active key-a until 2000, S published key-s until -";
    let settled = "A draining key-a until 2000, S active key-s until -";
    Script::from(with_standby())
        .at(1_200)
        .then(promote("u", "S"), &format!("g15 b2 distributing | {both} | {S1} | -"))
        .nothing_new(promote("u", "S"))
        // Somebody has come that does not trust it, so the gate is asked again.
        .nothing_new(reported(rotation::Evidence {
            unproven: tally(1, 1_900),
            ..evidence(1_200, 2, 15)
        }))
        .nothing_new(reported(evidence(1_200, 2, 10)))
        .then(sealed("s1", 15), &format!("g16 b2 distributing | {both} | s1 sealed@15 2000 | -"))
        .then(
            reported(evidence(1_200, 2, 15)),
            &format!("g17 b2 distributing, settling | {both} | s1 sealed@15 2000 | -"),
        )
        .at(1_230)
        .then(
            reported(evidence(1_230, 2, 15)),
            &format!("g18 b2 draining | {settled} | s1 sealed@15 2000 | switch_signer@18"),
        );
}

#[test]
fn a_standby_root_goes_without_a_gate_and_only_when_nothing_else_is_under_way() {
    let gone = "A active key-a until 2000, S retired key-s until -";
    Script::from(with_standby())
        .then(
            drop_standby("x", "S"),
            &format!("g15 b3 withdrawing | {gone} | {S1} | publish_bundle@15"),
        )
        .nothing_new(drop_standby("x", "S"));
    let busy = after(with_standby(), 1_200, &[rotation("r", Mode::Auto)]);
    assert!(matches!(
        refused(&busy, &drop_standby("x", "S"), 1_200),
        Cause::RotationUnderWay { .. }
    ));
    assert!(matches!(refused(&busy, &promote("x", "S"), 1_200), Cause::RotationUnderWay { .. }));
    let own = refused(&with_standby(), &drop_standby("x", "A"), 1_200);
    assert!(matches!(own, Cause::NotStandby { state: RootState::Active, .. }));
    // A record that was restored cannot know that it never signed.
    let restored = after(with_standby(), 1_200, &[recovery("restore", &[])]);
    let Cause::StandbyMayHaveSigned { until, .. } =
        refused(&restored, &drop_standby("x", "S"), 1_200)
    else {
        panic!("leaves of it may live")
    };
    let later = step(&restored, &drop_standby("x", "S"), until, &policy()).unwrap();
    invariants::check_next(&restored, &later.next).unwrap();
    assert_eq!(phase(&later.next), "withdrawing");
}

#[test]
fn with_a_standby_root_the_distrusted_one_is_replaced_without_distribution_and_never_comes_back() {
    let state = after(with_standby(), 1_200, &[distrust("d", "A")]);
    let both = "A active (distrusted) key-a until 2000, S published key-s until -";
    assert_eq!(line(&state), format!("g15 b2 distributing | {both} | {S1} | -"));
    let taint = state.roots[&root("A")].taint.clone().unwrap();
    assert_eq!((taint.by.as_str(), taint.since), ("ann", at(1_200)));
    assert_eq!(format_of(&state), FORMAT_OF_DISTRUST, "a former release would roll back to it");
    let mut state = replaced();
    assert!(matches!(
        refused(&state, &rollback("b"), 1_300),
        Cause::Distrusted { root: named } if named == root("A")
    ));
    let generation = state.generation.0 - 2;
    let live = [(root("A"), tally(2, 1_900))].into();
    let used = rotation::Evidence { live, ..evidence(1_300, 2, generation) };
    let waits = step(&state, &reported(used), at(1_300), &policy()).unwrap();
    assert!(!waits.changes(&state), "leaves of it are in use");
    for now in [1_300, 1_340] {
        state = after(state, now, &[reported(evidence(now, 2, generation))]);
    }
    assert_eq!(phase(&state), "withdrawing");
    assert_eq!(state.roots[&root("A")].state, RootState::Retired);
    assert!(format_of(&state) < FORMAT_OF_DISTRUST, "it has left, so a former release may go on");
    state = after(state, 1_350, &[published(3)]);
    let generation = state.generation.0;
    state = after(state, 1_350, &[sealed("s1", generation)]);
    state = after(state, 1_360, &[reported(evidence(1_360, 3, generation))]);
    assert_eq!(phase(&state), "steady");
    let again = Event::RotationRequested {
        request_id: "again".parse().unwrap(),
        authority: "main".parse().unwrap(),
        mode: Mode::Auto,
        stage_again: Some(root("A")),
        canary: None,
    };
    let staging = after(state.clone(), 2_000, &[again]);
    assert!(matches!(refused(&staging, &prepared("again", "A"), 2_000), Cause::RootKnown { .. }));
    let further = refused(&state, &further("main", &["A"]), 2_000);
    assert!(matches!(further, Cause::WithdrawnBefore { .. }));
}

#[test]
fn without_a_standby_root_a_new_one_is_asked_for_and_another_authority_takes_over_when_told() {
    let state = after(signing(), 1_200, &[distrust("d", "A")]);
    let Phase::Staging(staging) = &state.phase else { panic!("{}", line(&state)) };
    assert_eq!(staging.rotation.authority.as_str(), "main");
    let same = step(&state, &distrust("d2", "A"), at(1_200), &policy()).unwrap();
    assert!(!same.changes(&state), "it is distrusted already");
    let other = after(state.clone(), 1_200, &[distrust_with("d3", "A", "vault")]);
    let Phase::Staging(turned) = &other.phase else { panic!("{}", line(&other)) };
    assert_eq!(turned.rotation.authority.as_str(), "vault");
    assert_ne!(turned.rotation.request_id, staging.rotation.request_id, "a plugin makes another");
    let late = refused(&other, &prepared(staging.rotation.request_id.as_str(), "B"), 1_200);
    assert!(matches!(late, Cause::NotAsked { .. }));
    assert!(matches!(refused(&other, &abort("x"), 1_200), Cause::Distrusted { .. }));
}

#[test]
fn a_rotation_is_turned_in_each_phase_so_that_the_distrusted_root_goes() {
    // Staging: the root that signs; the one that is made; a standby root beside it.
    let held = after(signing(), 1_000, &[rotation("r", Mode::Manual), hold("h")]);
    let hastened = after(held, 1_100, &[distrust("d", "A")]);
    let going = hastened.phase.rotation().unwrap();
    assert_eq!((going.mode, going.held_since), (Mode::Auto, None));
    let made = after(signing(), 1_000, &[rotation("r", Mode::Auto), prepared("r", "B")]);
    let given_up = after(made, 1_100, &[distrust("d", "B")]);
    assert_eq!(
        (phase(&given_up), given_up.roots[&root("B")].state),
        ("steady", RootState::Retired)
    );
    let beside = after(with_standby(), 1_200, &[rotation("r", Mode::Auto)]);
    let turned = after(beside.clone(), 1_200, &[distrust("d", "A")]);
    assert!(matches!(&turned.phase, Phase::Distributing(phase) if phase.to == root("S")));
    let bystander = after(beside, 1_200, &[distrust("d", "S"), abort("x")]);
    assert!(matches!(&bystander.phase, Phase::Withdrawing(phase) if phase.from == root("S")));
    // Distributing.
    let hastened = after(distributed(Mode::Manual), 1_100, &[hold("h"), distrust("d", "A")]);
    let going = hastened.phase.rotation().unwrap();
    assert_eq!((going.mode, going.held_since), (Mode::Auto, None));
    let dropped = after(distributed(Mode::Auto), 1_100, &[distrust("d", "B")]);
    assert!(matches!(&dropped.phase, Phase::Withdrawing(phase)
        if phase.from == root("B") && phase.ending == Ending::Aborted));
    let forward = after(drained(), 1_200, &[rollback("b"), activate("f", evidence(1_200, 2, 14))]);
    let drains = after(forward, 1_210, &[distrust("d", "B")]);
    assert!(matches!(&drains.phase, Phase::Draining(phase)
        if phase.from == root("B") && phase.to == root("A") && phase.rolled_back));
    assert!(matches!(
        refused(&drains, &activate("f2", evidence(1_210, 2, 14)), 1_210),
        Cause::Distrusted { .. }
    ));
    // Draining: the one that goes; the one that signs, which the other one takes over from again.
    let goes_on = after(drained(), 1_200, &[hold("h"), distrust("d", "A")]);
    assert!(matches!(&goes_on.phase, Phase::Draining(phase)
        if phase.from == root("A") && phase.rotation.held_since.is_none()));
    let back = after(drained(), 1_200, &[distrust("d", "B")]);
    assert_eq!(back.signing_root(), Some(root("A")));
    let forward = after(drained(), 1_200, &[rollback("b"), distrust("d", "A")]);
    assert!(matches!(&forward.phase, Phase::Distributing(phase) if phase.to == root("B")));
    let both = after(drained(), 1_200, &[distrust("d", "A"), distrust("e", "B")]);
    assert_eq!(both.signing_root(), Some(root("B")), "neither is better than the other");
    // Withdrawing: what is left of it is not waited for.
    let aborted = after(distributed(Mode::Auto), 1_100, &[abort("x")]);
    let begun = after(aborted, 1_100, &[distrust("d", "A")]);
    assert!(matches!(&begun.phase, Phase::Staging(staging) if staging.from == root("A")));
    // A standby root that is distrusted goes at once.
    let gone = after(with_standby(), 1_200, &[distrust("d", "S")]);
    assert!(matches!(&gone.phase, Phase::Withdrawing(phase) if phase.from == root("S")));
    assert!(matches!(refused(&start(), &distrust("d", "A"), 1_000), Cause::NotBootstrapped));
}

#[test]
fn a_distrusted_root_is_cut_off_only_by_a_word_that_is_kept_and_only_when_another_one_signs() {
    let early = after(with_standby(), 1_200, &[distrust("d", "A")]);
    assert!(matches!(refused(&early, &cut("c", "A"), 1_200), Cause::NotReplaced { .. }));
    let switching = refused(&decided(), &cut("c", "A"), 1_240);
    assert!(matches!(switching, Cause::NotReplaced { .. }), "{switching:?}");
    assert!(matches!(refused(&replaced(), &cut("c", "S"), 1_300), Cause::NotDistrusted { .. }));
    assert!(matches!(refused(&drained(), &cut("c", "A"), 1_300), Cause::NotDistrusted { .. }));
    let before = replaced();
    let after_it = step(&before, &cut("c", "A"), at(1_300), &policy()).unwrap().next;
    invariants::check_next(&before, &after_it).unwrap();
    let word = after_it.roots[&root("A")].taint.clone().unwrap().cut.unwrap();
    assert_eq!((word.by.as_str(), word.at), ("ann", at(1_300)));
    assert_eq!((phase(&after_it), after_it.bundle().len()), ("withdrawing", 1));
    // The same without the word breaks S2.
    let mut silent = after_it.clone();
    silent.roots.get_mut(&root("A")).unwrap().taint.as_mut().unwrap().cut = None;
    let violation = invariants::check_next(&before, &silent).unwrap_err();
    assert_eq!(violation.property(), invariants::Property::S2, "{violation}");
}

#[test]
fn what_was_distrusted_by_mistake_is_trusted_again_and_nothing_else_changes() {
    let state = after(with_standby(), 1_200, &[distrust("d", "A")]);
    let back = after(state.clone(), 1_210, &[trust_again("t", "A")]);
    assert_eq!((&back.phase, back.sequence), (&state.phase, state.sequence));
    assert!(!back.roots[&root("A")].tainted && back.roots[&root("A")].taint.is_none());
    // What was begun is given up as any rotation.
    let over = after(back, 1_220, &[abort("x")]);
    assert!(matches!(&over.phase, Phase::Withdrawing(phase) if phase.from == root("S")));
    let nothing = step(&with_standby(), &trust_again("t", "A"), at(1_200), &policy()).unwrap();
    assert!(!nothing.changes(&with_standby()));
    let mut doctored = state.clone();
    doctored.generation = state.generation.next();
    let entry = doctored.roots.get_mut(&root("A")).unwrap();
    (entry.tainted, entry.taint) = (false, None);
    invariants::check_next(&state, &doctored).unwrap();
    doctored.phase = Phase::Steady(rotation::Steady { since: at(1_200), ended: None });
    assert!(invariants::check_next(&state, &doctored).is_err(), "the word alone is taken back");
}

#[test]
fn no_state_follows_in_which_a_distrusted_root_comes_to_sign_or_into_the_bundle() {
    let mut signing = after(distributed(Mode::Auto), 1_100, &[reported(evidence(1_100, 2, 10))]);
    let mut signs = after(signing.clone(), 1_130, &[reported(evidence(1_130, 2, 10))]);
    invariants::check_next(&signing, &signs).unwrap();
    for state in [&mut signing, &mut signs] {
        state.roots.get_mut(&root("B")).unwrap().tainted = true;
    }
    let violation = invariants::check_next(&signing, &signs).unwrap_err();
    assert_eq!(violation.property(), invariants::Property::S4, "{violation}");
    // The machine does not get there: it drops the root, and a gate that opens lets it not pass.
    let open = step(&signing, &reported(evidence(1_130, 2, 10)), at(1_130), &policy()).unwrap();
    assert_eq!(open.next.signing_root(), Some(root("A")));
    let asked = activate("x", evidence(1_130, 2, 10));
    assert!(matches!(refused(&signing, &asked, 1_130), Cause::Distrusted { .. }));
}

#[test]
fn a_root_that_others_name_too_is_distrusted_once_they_do_not() {
    let named = after(signing(), 1_000, &[further("main", &["A"])]);
    assert!(matches!(refused(&named, &distrust("d", "A"), 1_000), Cause::NamedByOthers { .. }));
    let free = after(named, 1_000, &[no_further("main", &["A"]), distrust("d", "A")]);
    assert_eq!(phase(&free), "staging");
}
