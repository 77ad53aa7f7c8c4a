//! Random walks: any events in any order at any time, sane or not.

use proptest::prelude::*;
use rotation::{Contents, Event, State, invariants, step};

use crate::words::*;

fn request() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["f", "g", "r1", "r2", "r3"])
}

fn root_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["A", "A", "A", "B"])
}

fn segment() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["s1", "s2", "s3", "s4"])
}

fn any_event() -> impl Strategy<Value = Event> {
    let replica = || prop::sample::select(vec!["ca", "cb"]);
    let contents = || prop::sample::select(vec![Contents::Read, Contents::Unread]);
    let issuer_name = || prop::sample::select(vec!["a", "b", "c"]);
    prop_oneof![
        request().prop_map(founding),
        (request(), root_name()).prop_map(|(request, root)| prepared(request, root)),
        (request(), root_name(), issuer_name()).prop_map(|(request, root, name)| signed(request, root, name)),
        (0..3_u64).prop_map(published),
        (root_name(), issuer_name()).prop_map(|(root, name)| switched(root, name)),
        (request(), root_name()).prop_map(|(request, root)| renewal(request, root)),
        (replica(), segment(), prop::collection::vec(segment(), 0..3))
            .prop_map(|(replica, segment, read)| opened(replica, segment, &read)),
        (segment(), 0..20_u64).prop_map(|(segment, generation)| sealed(segment, generation)),
        (segment(), contents()).prop_map(|(segment, contents)| closed(segment, contents)),
        (root_name(), segment(), 0..4_000_i64)
            .prop_map(|(root, segment, until)| horizon(root, segment, until)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_walk_breaks_a_rule_and_no_event_is_done_twice(
        from_founded: bool,
        walk in prop::collection::vec((any_event(), 0..3_000_i64), 1..80),
    ) {
        let mut state: State = if from_founded { founded() } else { start() };
        for (event, now) in walk {
            let now = at(now);
            let before = state.clone();
            match step(&state, &event, now, &policy()) {
                Ok(transition) if transition.changes(&state) => {
                    prop_assert_eq!(invariants::check_next(&state, &transition.next), Ok(()));
                    state = transition.next;
                    let again = step(&state, &event, now, &policy());
                    prop_assert!(
                        again.as_ref().is_ok_and(|again| again.next == state && again.effects.is_empty()),
                        "{:?} again came to {:?}", event, again
                    );
                }
                Ok(transition) => {
                    prop_assert_eq!(&transition.next, &before);
                    prop_assert!(transition.effects.is_empty());
                }
                Err(refusal) => {
                    prop_assert_eq!(&state, &before);
                    prop_assert!(!refusal.legal().is_empty());
                    prop_assert_eq!(step(&state, &event, now, &policy()), Err(refusal));
                }
            }
        }
    }
}
