//! Random walks: any events in any order at any time, sane or not.

use proptest::prelude::*;
use rotation::evidence::{RelyingParties, Tally};
use rotation::{
    CohortSeen, Contents, Event, Evidence, Mode, Phase, Policy, State, invariants, step,
};
use trust::Timestamp;

use crate::words::*;

fn request() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["f", "g", "r1", "r2", "r3", "h1", "h2", "h3"])
}

fn root_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["A", "A", "A", "B", "B", "C"])
}

fn segment() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["s1", "s2", "s3", "s4"])
}

fn cohort() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["5%", "50%", "100%", SHOP, "5%,spiffe://example.org/*"])
}

/// Evidence of the time of the step, mostly good.
fn any_evidence() -> impl Strategy<Value = Evidence> {
    let seals = prop::collection::btree_map(segment(), 0..60_u64, 1..5);
    let live = prop::option::weighted(0.2, root_name());
    let observer = prop::option::of(segment());
    (1..6_u64, seals, 0..4_u64, live, (prop::bool::weighted(0.1), observer)).prop_map(
        |(sequence, seals, count, live, (waits, observer))| {
            let count = count.saturating_sub(2);
            Evidence {
                read: seals
                    .iter()
                    .map(|(segment, seal)| (segment.parse().unwrap(), trust::Generation(*seal)))
                    .collect(),
                unproven: Tally { count, latest: (count > 0).then(|| at(1_500)) },
                unable: u64::from(waits && count > 0),
                cohort: (sequence > 2).then(|| CohortSeen {
                    taken: sequence - 3,
                    trouble: rotation::Trouble {
                        issue_errors: rotation::Share { bad: count, of: 10 },
                        ..rotation::Trouble::default()
                    },
                    ..CohortSeen::default()
                }),
                observer: observer.map(|segment| segment.parse().unwrap()),
                live: live.map(|name| (root(name), tally(1, 2_000))).into_iter().collect(),
                relying_parties: RelyingParties {
                    unbounded: u64::from(waits),
                    ..RelyingParties::default()
                },
                ..evidence(0, sequence, 0)
            }
        },
    )
}

/// The event as it would be at this time.
fn dated(event: Event, now: i64) -> Event {
    let date = |evidence: Evidence| {
        let uptime = std::time::Duration::from_secs(now.unsigned_abs());
        Evidence { at: at(now), uptime, ..evidence }
    };
    match event {
        Event::EvidenceReported { evidence } => {
            Event::EvidenceReported { evidence: date(evidence) }
        }
        Event::ActivateRequested { request_id, evidence } => {
            Event::ActivateRequested { request_id, evidence: date(evidence) }
        }
        other => other,
    }
}

fn any_verb() -> impl Strategy<Value = Event> {
    let mode = || prop::sample::select(vec![Mode::Auto, Mode::Auto, Mode::Manual]);
    prop_oneof![
        4 => (request(), mode()).prop_map(|(request, mode)| rotation(request, mode)),
        8 => any_evidence().prop_map(reported),
        2 => (request(), any_evidence()).prop_map(|(request, evidence)| activate(request, evidence)),
        1 => request().prop_map(hold),
        1 => request().prop_map(resume),
        1 => request().prop_map(abort),
        1 => request().prop_map(rollback),
        1 => (request(), prop::collection::vec(segment(), 0..2))
            .prop_map(|(request, live)| recovery(request, &live)),
        1 => Just(Event::DriverStarted),
        2 => (request(), prop::collection::btree_set(root_name(), 1..3)).prop_map(|(request, names)| {
            let roots = names.into_iter().map(root).collect();
            Event::PruneRequested { request_id: request.parse().unwrap(), roots }
        }),
        1 => (root_name(), 0..4_000_i64).prop_map(|(root, until)| probes(root, until)),
        2 => further_names().prop_map(|names| further("main", &names)),
        1 => further_names().prop_map(|names| further("other", &names)),
        2 => further_names().prop_map(|names| no_further("main", &names)),
        1 => request().prop_map(|request| rotation(request, Mode::Standby)),
        2 => (request(), mode(), cohort()).prop_map(|(request, mode, cohort)| canary_rotation(request, mode, cohort)),
        2 => (request(), cohort()).prop_map(|(request, cohort)| widen(request, cohort)),
        2 => (request(), root_name()).prop_map(|(request, name)| distrust(request, name)),
        1 => (request(), root_name()).prop_map(|(request, name)| distrust_with(request, name, "other")),
        1 => (request(), root_name()).prop_map(|(request, name)| trust_again(request, name)),
        1 => (request(), root_name()).prop_map(|(request, name)| cut(request, name)),
        1 => (request(), root_name()).prop_map(|(request, name)| promote(request, name)),
        1 => (request(), root_name()).prop_map(|(request, name)| drop_standby(request, name)),
        1 => Just(Event::ClockAccepted {
            by: "an operator".to_owned(),
            reason: "a virtual machine that was paused".to_owned(),
            wall: Timestamp::from_secs(9_000),
            expected: Timestamp::from_secs(1),
        }),
        1 => Just(Event::OperatorActed {
            verb: "leaf forget".to_owned(),
            about: "4a".to_owned(),
            detail: String::new(),
        }),
    ]
}

/// Some seconds, and now and then so long that certificates are over.
fn pause() -> impl Strategy<Value = i64> {
    prop_oneof![40 => 0..40_i64, 1 => Just(ROOT_END)]
}

/// Roots of others; those of the rotations, too.
fn further_names() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(vec!["A", "B", "C", "E", "F"]), 1..3)
}

/// The event as this replica gives it.
fn of_replica(who: &str, event: Event, again: bool) -> Event {
    let replica = Some(who.parse().unwrap());
    match event {
        Event::IssuerRenewalRequested { request_id, root, .. } => {
            Event::IssuerRenewalRequested { request_id, root, replica, replaces: again }
        }
        Event::RootPrepared { request_id, root, .. } => {
            Event::RootPrepared { request_id, root, replica }
        }
        other => other,
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let replica = || prop::sample::select(vec!["ca", "cb"]);
    let contents = || prop::sample::select(vec![Contents::Read, Contents::Unread]);
    let issuer_name = || prop::sample::select(vec!["a", "b", "c"]);
    prop_oneof![
        request().prop_map(bootstrap),
        (request(), root_name()).prop_map(|(request, root)| prepared(request, root)),
        (request(), root_name(), issuer_name())
            .prop_map(|(request, root, name)| signed(request, root, name)),
        (0..6_u64).prop_map(published),
        (root_name(), issuer_name()).prop_map(|(root, name)| switched(root, name)),
        (request(), root_name()).prop_map(|(request, root)| renewal(request, root)),
        (replica(), request(), root_name(), any::<bool>()).prop_map(
            |(who, request, root, again)| { of_replica(who, renewal(request, root), again) }
        ),
        (replica(), request(), root_name()).prop_map(|(who, request, root)| of_replica(
            who,
            prepared(request, root),
            false
        )),
        (replica(), request()).prop_map(|(who, request)| Event::ReplicaRemoved {
            request_id: request.parse().unwrap(),
            replica: who.parse().unwrap(),
        }),
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
        from_bootstrapped: bool,
        walk in prop::collection::vec((any_event(), 0..3_000_i64), 1..80),
    ) {
        let state = if from_bootstrapped { bootstrapped() } else { start() };
        walked(state, walk)?;
    }

    #[test]
    fn no_walk_through_rotations_breaks_a_rule_and_no_event_is_done_twice(
        from in prop::sample::select(vec![signing(), distributed(Mode::Auto), distributed(Mode::Manual), canary(), distributed_first(Mode::Manual), drained()]),
        walk in prop::collection::vec((prop_oneof![any_event(), any_verb(), any_verb()], pause()), 1..120),
    ) {
        let mut now = 1_200;
        let later = |(event, pause): (Event, i64)| {
            now += pause;
            (event, now)
        };
        walked(from, walk.into_iter().map(later).collect())?;
    }
}

/// The moves that rest on a gate.
fn passes_a_gate(before: &Phase, after: &Phase) -> bool {
    matches!(
        (before, after),
        (
            Phase::Distributing(_) | Phase::Canary(_),
            Phase::Draining(rotation::Draining { rolled_back: false, .. })
        ) | (Phase::Distributing(_), Phase::Canary(_))
            | (Phase::Draining(_), Phase::Withdrawing(_))
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_gate_of_a_restored_record_is_passed_while_leaves_that_nobody_knows_may_live(
        from in prop::sample::select(vec![signing(), distributed(Mode::Auto), distributed(Mode::Manual), canary(), distributed_first(Mode::Manual), drained()]),
        walk in prop::collection::vec((prop_oneof![any_event(), any_verb(), any_verb()], 0..40_i64), 1..120),
    ) {
        let mut now = 1_200;
        let mut state = after(from, now, &[recovery("the-restore", &[])]);
        for (event, pause) in walk {
            now += pause;
            let lost = state.lost_rows_until(at(now), &policy());
            // What is cut off by an operator's word passes no gate.
            // Nor does what ends a canary at once: its gate was passed when it began.
            let is_cut = matches!(event, Event::DistrustedRootCut { .. })
                || state.phase.canary().is_some() && matches!(event, Event::RootDistrusted { .. });
            let Ok(next) = step(&state, &dated(event, now), at(now), &policy()) else { continue };
            if !is_cut && passes_a_gate(&state.phase, &next.next.phase) {
                prop_assert_eq!(lost, None, "at {}: {}", now, line(&next.next));
            }
            state = next.next;
        }
    }
}

fn walked(mut state: State, walk: Vec<(Event, i64)>) -> Result<(), TestCaseError> {
    let policy = Policy { withdrawal_max: std::time::Duration::from_secs(60), ..policy() };
    for (event, now) in walk {
        let (event, now) = (dated(event, now), at(now));
        let before = state.clone();
        match step(&state, &event, now, &policy) {
            Ok(transition) if transition.changes(&state) => {
                prop_assert_eq!(invariants::check_next(&state, &transition.next), Ok(()));
                state = transition.next;
                let again = step(&state, &event, now, &policy);
                prop_assert!(
                    again
                        .as_ref()
                        .is_ok_and(|again| again.next == state && again.effects.is_empty()),
                    "{:?} again came to {:?}",
                    event,
                    again
                );
            }
            Ok(transition) => {
                prop_assert_eq!(&transition.next, &before);
                prop_assert!(transition.effects.is_empty());
            }
            Err(refusal) => {
                prop_assert_eq!(&state, &before);
                prop_assert!(!refusal.legal().is_empty());
                prop_assert_eq!(step(&state, &event, now, &policy), Err(refusal));
            }
        }
    }
    Ok(())
}
