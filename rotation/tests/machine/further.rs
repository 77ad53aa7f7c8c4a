//! Further roots: roots of others that an authority of ours has everybody trust.

use rotation::{Cause, Event, Mode, Phase, RootState, State, invariants, record, step};
use trust::Sequence;

use crate::script::Script;
use crate::words::*;

/// Root `A` signs, `F` is trusted as a further root by bundle 2.
fn with_further() -> State {
    after(signing(), 1_000, &[further("main", &["F"]), published(2)])
}

/// As `with_further`, with `B` in bundle 3.
fn distributed_with_further() -> State {
    let events =
        [rotation("r", Mode::Auto), prepared("r", "B"), signed("r", "B", "b"), published(3)];
    let state = after(with_further(), 1_000, &events);
    let generation = state.generation.0;
    after(state, 1_000, &[sealed("s1", generation)])
}

/// The bundle's roots, by the names that stand for their certificates.
fn bundle(state: &State) -> Vec<String> {
    let mut names: Vec<_> = state
        .bundle()
        .into_values()
        .map(|der| String::from_utf8(der.as_bytes().to_vec()).unwrap())
        .collect();
    names.sort();
    names
}

fn refused(state: &State, event: &Event) -> Cause {
    step(state, event, at(1_000), &policy()).unwrap_err().cause
}

#[test]
fn a_further_root_comes_and_goes_by_bundles_that_only_add_or_only_remove() {
    Script::from(signing())
        .then(
            further("main", &["F"]),
            "g8 b2 steady | A active key-a until 2000, F further by main | s1 open 2000 | publish_bundle@8",
        )
        .nothing_new(further("main", &["F"]))
        .refuses(
            no_further("main", &["F"]),
            "further_roots_removed refused while steady at generation 8: the bundle is being changed while steady; wait until \
             that is over: it is taken up again by itself",
        )
        .then(published(2), "g9 b2 steady | A active key-a until 2000, F further by main | s1 open 2000 | -")
        .then(
            no_further("main", &["F"]),
            "g10 b3 steady | A active key-a until 2000 | s1 open 2000 | publish_bundle@10",
        )
        .nothing_new(no_further("main", &["F"]));
}

#[test]
fn a_further_root_of_two_authorities_stays_until_both_have_let_it_go() {
    let other = after(distributed(Mode::Auto), 1_000, &[abort("x")]);
    let other = after(other, 1_000, &[published(3)]);
    let mut state = after(other, 5_000, &[reported(evidence(5_000, 3, 10))]);
    assert!(matches!(state.phase, Phase::Steady(_)));
    // As if a root of the other authority had signed once.
    let gone = state.roots.values_mut().find(|entry| entry.state == RootState::Retired).unwrap();
    (gone.authority, gone.horizon) = ("other".parse().unwrap(), Some(at(900)));
    Script::from(state)
        .then(
            further("main", &["F"]),
            "g16 b4 steady | A active key-a until 2000, B retired key-b until 900, F further by main | s1 sealed@10 2000 | \
             publish_bundle@16",
        )
        .then(
            published(4),
            "g17 b4 steady | A active key-a until 2000, B retired key-b until 900, F further by main | s1 sealed@10 2000 | -",
        )
        .then(
            further("other", &["F"]),
            "g18 b4 steady | A active key-a until 2000, B retired key-b until 900, F further by main+other | s1 sealed@10 2000 \
             | -",
        )
        .then(
            no_further("main", &["F"]),
            "g19 b4 steady | A active key-a until 2000, B retired key-b until 900, F further by other | s1 sealed@10 2000 | -",
        )
        .then(
            no_further("other", &["F"]),
            "g20 b5 steady | A active key-a until 2000, B retired key-b until 900 | s1 sealed@10 2000 | publish_bundle@20",
        );
}

#[test]
fn while_a_rotation_changes_the_bundle_further_roots_wait_and_staging_waits_for_theirs() {
    let waits = |cause: Cause| matches!(cause, Cause::BundleChanges { .. });
    let state = distributed_with_further();
    assert!(
        waits(refused(&state, &further("main", &["E"])))
            && waits(refused(&state, &no_further("main", &["F"])))
    );
    // While a root is made, days perhaps, they come and go.
    let staging = after(
        signing(),
        1_000,
        &[rotation("r", Mode::Auto), prepared("r", "B"), further("main", &["F"])],
    );
    let ready = after(staging, 1_000, &[signed("r", "B", "b")]);
    assert_eq!(
        (bundle(&ready), ready.sequence),
        (vec!["A".to_owned(), "F".to_owned()], Sequence(2))
    );
    let goes_on = after(ready, 1_000, &[published(2)]);
    assert_eq!(
        (bundle(&goes_on), goes_on.sequence),
        (["A", "B", "F"].map(str::to_owned).to_vec(), Sequence(3))
    );
}

#[test]
fn a_rotation_and_its_abort_and_its_rollback_keep_further_roots() {
    let state = distributed_with_further();
    let aborted = after(state.clone(), 1_000, &[abort("x")]);
    assert_eq!(bundle(&aborted), ["A", "F"]);
    let generation = state.generation.0;
    let now = |at: i64| reported(evidence(at, 3, generation));
    let switched = after(after(state, 1_100, &[now(1_100)]), 1_130, &[now(1_130)]);
    assert!(matches!(switched.phase, Phase::Draining(_)), "{}", line(&switched));
    assert_eq!(bundle(&after(switched.clone(), 1_130, &[rollback("y")])), ["A", "B", "F"]);
    let switched =
        after(switched, 1_130, &[super::words::switched("B", "b"), horizon("B", "s1", 2_200)]);
    let generation = switched.generation.0;
    let drained = after(switched, 1_130, &[sealed("s1", generation)]);
    let gone = |at: i64| reported(evidence(at, 3, generation));
    let withdrawn = after(after(drained, 2_100, &[gone(2_100)]), 2_130, &[gone(2_130)]);
    assert_eq!(bundle(&withdrawn), ["B", "F"], "{}", line(&withdrawn));
}

#[test]
fn a_further_root_becomes_ours_by_a_rotation_and_is_trusted_all_the_time() {
    let events = [rotation("r", Mode::Auto), prepared("r", "F"), signed("r", "F", "f")];
    let mut former = with_further();
    for event in events {
        let next = step(&former, &event, at(1_000), &policy()).unwrap().next;
        invariants::check_next(&former, &next).unwrap();
        assert_eq!(bundle(&next), ["A", "F"], "after {}", event.name());
        former = next;
    }
    assert_eq!(
        former.sequence,
        Sequence(2),
        "the bundle is the same: whoever has it trusts the new root"
    );
    // The gate waits for those who have not applied it, and for the bundle to be out.
    let held =
        step(&former, &reported(evidence(1_000, 2, former.generation.0)), at(1_000), &policy())
            .unwrap();
    assert!(
        matches!(held.next.phase, Phase::Distributing(_)),
        "it is not out again yet: {}",
        line(&held.next)
    );
    // Given up, it is a further root as before; withdrawn by the leaf gate, too.
    let aborted = step(&former, &abort("x"), at(1_000), &policy()).unwrap().next;
    invariants::check_next(&former, &aborted).unwrap();
    assert_eq!(
        (bundle(&aborted), aborted.sequence),
        (["A", "F"].map(str::to_owned).to_vec(), Sequence(2))
    );
    // And when nobody names it any more it stays as ours.
    let generation = former.generation.0;
    let out = after(former, 1_000, &[published(2), sealed("s1", generation)]);
    let now = |at: i64| reported(evidence(at, 2, generation));
    let signs = after(
        after(out, 1_100, &[now(1_100)]),
        1_130,
        &[now(1_130), super::words::switched("F", "f"), horizon("F", "s1", 2_200)],
    );
    let generation = signs.generation.0;
    let drained = after(signs, 1_130, &[sealed("s1", generation)]);
    let gone = |at: i64| reported(evidence(at, 2, generation));
    let withdrawn =
        after(after(drained, 2_100, &[gone(2_100)]), 2_130, &[gone(2_130), published(3)]);
    let over = after(withdrawn, 9_000, &[reported(evidence(9_000, 3, generation))]);
    assert!(matches!(over.phase, Phase::Steady(_)), "{}", line(&over));
    let unnamed = step(&over, &no_further("main", &["F"]), at(9_000), &policy()).unwrap().next;
    invariants::check_next(&over, &unnamed).unwrap();
    assert_eq!((bundle(&unnamed), unnamed.sequence), (vec!["F".to_owned()], over.sequence));
}

#[test]
fn what_was_withdrawn_is_trusted_again_only_by_name_and_what_is_compromised_never() {
    let mut state = signing();
    let mut gone = state.roots.values().next().unwrap().clone();
    (gone.state, gone.horizon) = (RootState::Retired, Some(at(900)));
    gone.der = b"G".as_slice().into();
    state.roots.insert(root("G"), gone);
    assert!(matches!(refused(&state, &further("main", &["G"])), Cause::WithdrawnBefore { .. }));
    let Event::FurtherRootsAdded { authority, roots, .. } = further("main", &["G"]) else {
        panic!()
    };
    let named = Event::FurtherRootsAdded { authority, roots, named: [root("G")].into() };
    let next = step(&state, &named, at(1_000), &policy()).unwrap().next;
    invariants::check_next(&state, &next).unwrap();
    assert_eq!(bundle(&next), ["A", "G"]);
    state.roots.get_mut(&root("G")).unwrap().tainted = true;
    assert!(matches!(refused(&state, &named), Cause::WithdrawnBefore { .. }));
}

#[test]
fn a_further_root_needs_an_authority_that_signed_here_a_life_and_room() {
    assert!(matches!(refused(&signing(), &further("other", &["F"])), Cause::NeverSigned { .. }));
    let late = step(&signing(), &further("main", &["F"]), at(ROOT_END), &policy()).unwrap_err();
    assert!(matches!(late.cause, Cause::Expired { .. }));
    let names: Vec<_> = (0..=rotation::FURTHER_ROOTS_MAX).map(|n| format!("F{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert!(matches!(refused(&signing(), &further("main", &names)), Cause::TooManyFurther));
    assert!(
        !step(&start(), &no_further("main", &["F"]), at(1_000), &policy())
            .unwrap()
            .changes(&start())
    );
}

#[test]
fn the_record_keeps_further_roots_and_a_record_of_the_former_format_has_none() {
    let state = with_further();
    let bytes = record::encode(&state).unwrap();
    assert_eq!(record::decode(&bytes).unwrap(), state);
    // As the former release wrote it: the same body without that field.
    let former = record::encode(&signing()).unwrap();
    let body = &former[16..];
    let mut written = b"BANYANST".to_vec();
    written.extend(3_u32.to_be_bytes());
    written.extend(crc32fast::hash(&[&3_u32.to_be_bytes(), body].concat()).to_be_bytes());
    written.extend(body);
    assert!(!String::from_utf8_lossy(body).contains("further"));
    assert_eq!(record::decode(&written).unwrap(), signing());
    // And that release does not read what it would forget.
    assert_eq!(bytes[8..12], 4_u32.to_be_bytes());
}

#[test]
fn a_neighbors_root_comes_without_a_signature_of_ours_also_while_ours_are_distributed_and_the_gate_begins_anew()
 {
    let neighbor = |names: &[&str]| further("neighbor.east", names);
    let met = after(signing(), 1_000, &[neighbor(&["N"]), published(2)]);
    assert_eq!(bundle(&met), ["A", "N"]);
    assert_eq!(met.further[&root("N")].decided, Some(trust::Generation(8)));
    // Both of ours are distributed, and have settled for a while, when the neighbor has another.
    let state = distributed_with_further();
    let generation = state.generation.0;
    let settling = after(state, 1_100, &[reported(evidence(1_100, 3, generation))]);
    let Phase::Distributing(before) = settling.phase.clone() else { panic!() };
    assert!(before.settling.is_some());
    let next = step(&settling, &neighbor(&["N"]), at(1_110), &policy()).unwrap().next;
    invariants::check_next(&settling, &next).unwrap();
    let Phase::Distributing(phase) = &next.phase else { panic!("{}", line(&next)) };
    assert_eq!(
        (phase.bundle.sequence, phase.bundle.generation, phase.settling),
        (Sequence(4), next.generation, None)
    );
    // Who has the former bundle is waited for.
    let late = reported(evidence(1_200, 3, generation));
    let held = step(&next, &late, at(1_200), &policy());
    assert!(held.is_err() || matches!(held.unwrap().next.phase, Phase::Distributing(_)));
    // One at a time, and none goes.
    assert!(matches!(refused(&next, &neighbor(&["M"])), Cause::BundleChanges { .. }));
    let out = after(next, 1_200, &[published(4)]);
    let generation = out.generation.0;
    let gone = no_further("neighbor.east", &["N"]);
    assert!(matches!(refused(&out, &gone), Cause::BundleChanges { .. }));
    let out = after(out, 1_200, &[sealed("s1", generation)]);
    let now = |at: i64| reported(evidence(at, 4, generation));
    let signs = after(after(out.clone(), 1_200, &[now(1_200)]), 1_230, &[now(1_230)]);
    assert!(matches!(signs.phase, Phase::Draining(_)), "{}", line(&signs));
    // An abort keeps it.
    assert_eq!(bundle(&after(out, 1_200, &[abort("x")])), ["A", "F", "N"]);
}

#[test]
fn a_root_that_both_share_stays_for_the_neighbor_when_it_is_withdrawn_here() {
    let shared = after(distributed(Mode::Auto), 1_000, &[]);
    assert!(matches!(shared.phase, Phase::Distributing(_)));
    let named =
        step(&shared, &further("neighbor.east", &["A"]), at(1_000), &policy()).unwrap().next;
    invariants::check_next(&shared, &named).unwrap();
    assert_eq!((named.sequence, bundle(&named)), (shared.sequence, bundle(&shared)));
    assert!(named.further.contains_key(&root("A")));
}
