//! Retired roots that the record forgets.

use std::collections::BTreeSet;

use rotation::{Event, Mode, RootState, State, invariants, step};
use trust::Timestamp;

use crate::returns::withdrawn;
use crate::words::*;

/// The skew of [`policy`], twice.
const TWICE_SKEW: i64 = 20;

fn prune(request: &str, names: &[&str]) -> Event {
    let roots: BTreeSet<_> = names.iter().map(|name| root(name)).collect();
    Event::PruneRequested { request_id: request.parse().unwrap(), roots }
}

fn refused(state: &State, event: &Event, now: i64) -> String {
    step(state, event, at(now), &policy()).unwrap_err().to_string()
}

#[test]
fn a_retired_root_is_forgotten_once_its_certificate_and_its_horizon_are_over_by_every_clock_and_not_a_second_before()
 {
    let state = withdrawn();
    let from = state.roots[&root("A")].forgettable_from(&policy()).unwrap();
    assert_eq!(from, at(ROOT_END + TWICE_SKEW + 1));
    let last = ROOT_END + TWICE_SKEW;
    let told = refused(&state, &prune("p", &["A"]), last);
    assert!(told.contains(&format!("it can be forgotten from {from} on")), "{told}");

    let taken = step(&state, &prune("p", &["A"]), from, &policy()).unwrap();
    invariants::check_next(&state, &taken.next).unwrap();
    assert!(taken.effects.is_empty() && !taken.next.roots.contains_key(&root("A")));
    assert!(taken.next.segments.values().all(|segment| !segment.bounds.contains_key(&root("A"))));
    // Bundle and signer are as they were, and the same request again changes nothing.
    assert_eq!(
        (taken.next.sequence, taken.next.signing_root()),
        (state.sequence, state.signing_root())
    );
    let again = step(&taken.next, &prune("p", &["A"]), from, &policy()).unwrap();
    assert!(!again.changes(&taken.next));
}

#[test]
fn only_retired_roots_are_forgotten_and_all_that_are_named_or_none() {
    let state = withdrawn();
    let signer = state.signing_root().unwrap();
    let now = 10 * ROOT_END;
    let event = Event::PruneRequested {
        request_id: "p".parse().unwrap(),
        roots: [root("A"), signer].into(),
    };
    let told = refused(&state, &event, now);
    assert!(told.contains("only a retired root can be forgotten"), "{told}");
    assert!(refused(&state, &prune("p", &["nobody's"]), now).contains("is unknown"));
    let mut compromised = state.clone();
    compromised.roots.get_mut(&root("A")).unwrap().tainted = true;
    assert_eq!(compromised.roots[&root("A")].forgettable_from(&policy()), None);
    assert!(refused(&compromised, &prune("p", &["A"]), now).contains("compromised"));
}

#[test]
fn nothing_is_forgotten_while_a_rotation_is_under_way() {
    let state = withdrawn();
    let now = 10 * ROOT_END;
    let rotating = step(&state, &rotation("r9", Mode::Auto), at(now), &policy()).unwrap().next;
    assert!(refused(&rotating, &prune("p", &["A"]), now).contains("r9"));
}

#[test]
fn the_invariants_keep_every_root_that_is_trusted_compromised_or_part_of_a_rotation() {
    let state = withdrawn();
    let forgotten = |before: &State, names: &[trust::RootId]| {
        let mut next = before.clone();
        next.generation = next.generation.next();
        next.roots.retain(|id, _| !names.contains(id));
        for segment in next.segments.values_mut() {
            segment.bounds.retain(|id, _| !names.contains(id));
        }
        invariants::check_next(before, &next)
    };
    assert_eq!(forgotten(&state, &[root("A")]), Ok(()));
    assert!(forgotten(&state, &[state.signing_root().unwrap()]).is_err());
    let mut compromised = state.clone();
    compromised.roots.get_mut(&root("A")).unwrap().tainted = true;
    assert!(forgotten(&compromised, &[root("A")]).is_err());
    let rotating = step(&state, &rotation("r9", Mode::Auto), at(1_000), &policy()).unwrap().next;
    assert_eq!(rotating.roots[&root("A")].state, RootState::Retired);
    assert!(forgotten(&rotating, &[root("A")]).is_err());
}

#[test]
fn a_root_that_never_signed_is_forgotten_after_its_certificate() {
    let state =
        after(signing(), 1_000, &[rotation("r", Mode::Auto), prepared("r", "B"), abort("x")]);
    let entry = &state.roots[&root("B")];
    assert_eq!((entry.state, entry.horizon), (RootState::Retired, None));
    let over: Timestamp = policy().over_at(entry.not_after);
    assert_eq!(entry.forgettable_from(&policy()), Some(over));
    let taken = step(&state, &prune("p", &["B"]), over, &policy()).unwrap();
    invariants::check_next(&state, &taken.next).unwrap();
    assert!(!taken.next.roots.contains_key(&root("B")));
}
