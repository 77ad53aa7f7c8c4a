//! Several replicas on one record: whose an issuer is, whom the trust gate waits for, on whose clock it settles, and a replica
//! that goes.

use std::collections::BTreeSet;
use std::time::Duration;

use rotation::evidence::{Gate, Hold, gate};
use rotation::record::{FORMAT_LEAST, decode, encode, format_of};
use rotation::{
    Cause, Contents, Effect, Event, Evidence, Mode, Phase, ReplicaName, SegmentState, State,
    invariants, step,
};
use trust::Generation;

use crate::words::*;

/// The format in which a former release does not read whose an issuer is.
const FORMAT_OF_REPLICAS: u32 = 5;

fn name(replica: &str) -> ReplicaName {
    replica.parse().unwrap()
}

fn prepared_by(replica: &str, request: &str, root_name: &str) -> Event {
    match prepared(request, root_name) {
        Event::RootPrepared { request_id, root, .. } => {
            Event::RootPrepared { request_id, root, replica: Some(name(replica)) }
        }
        other => other,
    }
}

fn asks(replica: &str, request: &str, root_name: &str) -> Event {
    Event::IssuerRenewalRequested {
        request_id: request.parse().unwrap(),
        root: root(root_name),
        replica: Some(name(replica)),
        replaces: false,
    }
}

fn removed(request: &str, replica: &str) -> Event {
    Event::ReplicaRemoved { request_id: request.parse().unwrap(), replica: name(replica) }
}

fn told(state: State, now: i64, events: &[Event]) -> State {
    events.iter().fold(state, |state, event| {
        let next = step(&state, event, at(now), &policy()).unwrap().next;
        if next.generation != state.generation {
            assert_eq!(invariants::check_next(&state, &next), Ok(()), "after {event:?}");
        }
        next
    })
}

fn refused(state: &State, event: &Event) -> (Cause, String) {
    let refusal = step(state, event, at(1_000), &policy()).unwrap_err();
    (refusal.cause.clone(), refusal.legal())
}

/// Root `A` signs with an issuer of `ca` and one of `cb`, each into its own segment until 2,000.
fn two() -> State {
    let events = [
        bootstrap("f"),
        prepared_by("ca", "f", "A"),
        signed("f", "A", "a"),
        published(1),
        Event::SignerSwitched { root: root("A"), issuer: None },
        opened("ca", "s1", &[]),
        opened("cb", "t1", &[]),
        asks("cb", "fb", "A"),
        signed("fb", "A", "a2"),
        horizon("A", "s1", 2_000),
        horizon("A", "t1", 2_000),
    ];
    told(start(), 1_000, &events)
}

/// Roots `A` and `B` are in bundle 2; `B` has the issuer of `ca` alone; both segments are sealed since.
fn one_ready() -> State {
    let events = [
        rotation("r", Mode::Auto),
        prepared_by("ca", "r", "B"),
        signed("r", "B", "b"),
        published(2),
    ];
    let state = told(two(), 1_000, &events);
    let seal = state.generation.0;
    told(state, 1_000, &[sealed("s1", seal), sealed("t1", seal)])
}

fn both(now: i64, state: &State, observer: &str) -> Evidence {
    let read = state.segments.keys().map(|id| (id.clone(), state.generation)).collect();
    let observer = Some(observer.parse().unwrap());
    Evidence { read, observer, ..evidence(now, state.sequence.0, 0) }
}

fn look(state: &State, evidence: &Evidence) -> Gate {
    gate(state, evidence, &policy()).unwrap()
}

fn signs(state: &State, replica: &str, issuer_name: &str) -> bool {
    state.signer_of(&name(replica)).is_some_and(|signer| signer.issuer == issuer(issuer_name))
}

#[test]
fn each_replica_signs_with_an_issuer_of_its_own_and_asks_for_it_alone() {
    let state = two();
    assert!(signs(&state, "ca", "a") && signs(&state, "cb", "a2"));
    assert_eq!(state.signer_of(&name("cc")), None);
    let state = told(state, 1_000, &[asks("ca", "x", "A"), asks("cb", "y", "A")]);
    let owed: Vec<_> = state.pending.iter().filter_map(|owed| owed.effect.replica()).collect();
    assert_eq!(owed, [&name("ca"), &name("cb")], "one renewal for each");
    let state = told(state, 1_000, &[signed("y", "A", "a3")]);
    assert!(signs(&state, "ca", "a") && signs(&state, "cb", "a3"));
    assert_eq!(state.pending.len(), 1, "the other one is owed still, and no switch is");
    assert_eq!(decode(&encode(&state).unwrap()).unwrap(), state);
}

#[test]
fn a_record_of_one_server_stays_as_it_was_until_a_second_replica_comes() {
    let alone = told(
        signing(),
        1_000,
        &[opened("ca", "s2", &["s1"]), renewal("x", "A"), closed("s1", Contents::Read)],
    );
    assert_eq!(format_of(&alone), FORMAT_LEAST);
    assert!(alone.roots.values().all(|entry| entry.signers.is_empty()));
    assert!(signs(&alone, "ca", "a"));
    let shared = told(alone, 1_000, &[opened("cb", "t1", &[])]);
    assert_eq!(format_of(&shared), FORMAT_OF_REPLICAS);
    assert!(signs(&shared, "ca", "a"), "what was there is of whoever was here first");
    assert_eq!(shared.signer_of(&name("cb")), None);
    let owed: Vec<_> = shared.pending.iter().map(|owed| owed.effect.replica()).collect();
    assert_eq!(owed, [Some(&name("ca"))], "and so is what was asked for");
    let shared = told(shared, 1_000, &[signed("x", "A", "a2"), opened("cb", "t2", &[])]);
    assert!(signs(&shared, "ca", "a2"));
}

#[test]
fn a_staging_goes_on_with_the_first_issuer_whoevers_it_is() {
    let state = told(two(), 1_000, &[rotation("r", Mode::Auto), prepared_by("ca", "r", "B")]);
    // `ca` is dead; `cb` asks by itself.
    let state = told(state, 1_000, &[asks("cb", "rb", "B"), signed("rb", "B", "b2")]);
    assert!(matches!(state.phase, Phase::Distributing(_)), "{}", line(&state));
    let late = told(state.clone(), 1_000, &[signed("r", "B", "b")]);
    assert_eq!(late.roots.get(&root("B")).unwrap().signers.len(), 2, "the late one is taken too");
    let ended = told(state, 1_000, &[abort("x")]);
    assert!(ended.pending.iter().all(|owed| owed.effect.replica().is_none()), "nothing is asked");
}

#[test]
fn a_bootstrap_goes_on_with_the_first_issuer_whoevers_it_is() {
    let events = [bootstrap("f"), prepared_by("ca", "f", "A"), asks("cb", "g", "A")];
    let state = told(start(), 1_000, &events);
    let last = Event::IssuerRenewalCancelled {
        request_id: "x".parse().unwrap(),
        root: root("A"),
        replica: Some(name("ca")),
    };
    assert!(matches!(refused(&state, &last).0, Cause::NoRenewal { .. }), "it is waited for");
    let events = [signed("g", "A", "a2"), published(1)];
    let state = told(state, 1_000, &events);
    assert!(signs(&state, "cb", "a2") && state.signer_of(&name("ca")).is_none());
}

#[test]
fn the_trust_gate_waits_for_an_issuer_of_each_replica_that_issues() {
    let state = one_ready();
    let of = |evidence: &Evidence| {
        let holds = look(&state, evidence).holds;
        let issuer = |hold: &Hold| match hold {
            Hold::Issuer { replica, until, .. } => Some((replica.to_string(), until.as_secs())),
            _ => None,
        };
        holds.iter().find_map(issuer)
    };
    let evidence = both(1_100, &state, "s1");
    assert_eq!(of(&evidence), Some(("cb".to_owned(), 2_021)));
    assert_eq!(look(&state, &evidence).opens_at_latest, Some(at(2_051)));
    let drains = Evidence { draining: [name("cb")].into(), ..evidence.clone() };
    assert_eq!(of(&drains), None, "one that goes needs none");
    assert_eq!(of(&both(2_021, &state, "s1")), None, "one that is over needs none");
    let ready = told(state.clone(), 1_100, &[asks("cb", "rb", "B"), signed("rb", "B", "b2")]);
    assert!(look(&ready, &both(1_100, &ready, "s1")).is_met());
}

#[test]
fn a_replica_that_never_gets_an_issuer_keeps_the_gate_closed_for_a_leaf_of_before_at_most() {
    // `cb` lives on and raises its bound; its authority has no issuer for it.
    let state = told(one_ready(), 2_000, &[horizon("A", "t1", 3_500), horizon("A", "s1", 3_500)]);
    let seal = state.generation.0;
    let state = told(state, 2_000, &[sealed("s1", seal), sealed("t1", seal)]);
    let last = 1_000 + 1_500 + 20;
    assert!(!look(&state, &both(last, &state, "s1")).is_met());
    assert!(look(&state, &both(last + 1, &state, "s1")).is_met());
}

#[test]
fn a_settle_time_is_counted_by_one_observer_and_taken_over_when_that_one_is_gone() {
    let state = told(one_ready(), 1_000, &[asks("cb", "rb", "B"), signed("rb", "B", "b2")]);
    let state = told(state.clone(), 1_100, &[reported(both(1_100, &state, "s1"))]);
    let began = |state: &State| match &state.phase {
        Phase::Distributing(phase) => phase.observer.clone().map(|by| by.segment.to_string()),
        _ => None,
    };
    assert_eq!(began(&state).as_deref(), Some("s1"));
    // Another one's report is no restart and no end, however far its uptime is.
    let far = Evidence { uptime: Duration::from_secs(90_000), ..both(1_105, &state, "t1") };
    assert_eq!(told(state.clone(), 1_105, &[reported(far)]), state);
    let on_time = told(state.clone(), 1_130, &[reported(both(1_130, &state, "s1"))]);
    assert!(matches!(on_time.phase, Phase::Draining(_)));
    // What another one sees not to hold is not counted on.
    let unmet = Evidence { unproven: tally(1, 1_900), ..both(1_110, &state, "t1") };
    assert_eq!(began(&told(state.clone(), 1_110, &[reported(unmet)])), None);
    // Neither started anew nor silent for too long, the first one counts on; then another one begins.
    assert_eq!(told(state.clone(), 1_180, &[reported(both(1_180, &state, "t1"))]), state);
    let over = told(state.clone(), 1_181, &[reported(both(1_181, &state, "t1"))]);
    assert_eq!(began(&over).as_deref(), Some("t1"));
    let closed = told(state.clone(), 1_101, &[opened("ca", "s2", &["s1"])]);
    let closed = told(closed.clone(), 1_101, &[reported(both(1_101, &closed, "t1"))]);
    assert_eq!(began(&closed).as_deref(), Some("t1"), "the first one is gone for certain");
    assert_eq!(
        told(closed.clone(), 1_102, &[Event::DriverStarted]),
        closed,
        "whose clock is known"
    );
}

#[test]
fn an_operator_activates_at_any_replica_once_the_settle_time_is_over_by_everybodys_clock() {
    let mut state = told(one_ready(), 1_000, &[asks("cb", "rb", "B"), signed("rb", "B", "b2")]);
    if let Phase::Distributing(phase) = &mut state.phase {
        phase.rotation.mode = Mode::Manual;
    }
    let state = told(state.clone(), 1_100, &[reported(both(1_100, &state, "s1"))]);
    let early = activate("go", both(1_100, &state, "t1"));
    assert!(matches!(refused(&state, &early).0, Cause::EvidenceAhead { .. }));
    let at_the_other =
        |now: i64| step(&state, &activate("go", both(now, &state, "t1")), at(now), &policy());
    assert!(at_the_other(1_149).is_err(), "wall clocks differ by twice the skew");
    assert!(at_the_other(1_150).is_ok());
    let here = step(&state, &activate("go", both(1_130, &state, "s1")), at(1_130), &policy());
    assert!(here.is_ok());
}

#[test]
fn a_live_replica_whose_segment_was_closed_by_its_bound_opens_another_one() {
    let state = one_ready();
    let state = told(state, 2_100, &[closed("t1", Contents::Unread), opened("cb", "t2", &[])]);
    let open: Vec<_> = state
        .segments_of(&name("cb"))
        .filter(|(_, one)| !one.is_closed())
        .map(|(id, _)| id.as_str())
        .collect();
    assert_eq!(open, ["t2"]);
    assert!(matches!(state.segments[&"s1".parse().unwrap()].state, SegmentState::Sealed { .. }));
    let limit = told(state, 2_100, &[horizon("A", "t2", 3_000)]);
    assert_eq!(limit.leaf_limit(&root("A"), &"t2".parse().unwrap()), Some(at(3_000)));
}

#[test]
fn a_start_of_one_replica_closes_and_forgets_nothing_of_another_that_may_matter() {
    let state = told(two(), 1_000, &[closed("t1", Contents::Unread), opened("ca", "s2", &["s1"])]);
    let states: Vec<_> = state.segments.iter().map(|(id, one)| (id.as_str(), one.state)).collect();
    let [read, unread] = [Contents::Read, Contents::Unread].map(SegmentState::Closed);
    assert_eq!(states, [("s1", read), ("s2", SegmentState::Open), ("t1", unread)]);
    let later = told(state, 2_021, &[opened("ca", "s3", &["s2"])]);
    assert_eq!(later.segments.len(), 1, "what is over has no say: {}", line(&later));
}

#[test]
fn a_replica_that_is_removed_leaves_its_rows_to_their_bounds_and_nothing_else() {
    let state = told(two(), 1_000, &[asks("cb", "y", "A")]);
    let gone = told(state, 1_000, &[removed("x", "cb")]);
    assert_eq!(gone.segments[&"t1".parse().unwrap()].state, SegmentState::Closed(Contents::Unread));
    let entry = gone.roots.get(&root("A")).unwrap();
    assert_eq!((entry.issuers.len(), entry.signers.len(), entry.renewals.len()), (1, 1, 0));
    assert!(gone.pending.is_empty(), "nobody asks for it any more");
    assert_eq!(told(gone.clone(), 1_000, &[removed("x", "cb")]), gone, "done once");
    assert!(matches!(refused(&gone, &removed("z", "cc")).0, Cause::UnknownReplica { .. }));
    let late = signed("y", "A", "a9");
    assert!(matches!(refused(&gone, &late).0, Cause::NotAsked { .. }));
    let read = told(two(), 1_000, &[closed("t1", Contents::Read), removed("x", "cb")]);
    let state = read.segments[&"t1".parse().unwrap()].state;
    assert_eq!(state, SegmentState::Closed(Contents::Read), "one that drained has said all");
}

#[test]
fn the_last_replica_that_can_sign_is_not_removed() {
    let alone = told(two(), 1_000, &[removed("x", "cb")]);
    let (cause, legal) = refused(&alone, &removed("y", "ca"));
    assert!(matches!(cause, Cause::LastSigner { .. }), "{cause}");
    assert_eq!(legal, "start another replica and wait until it is ready, then remove ca");
    // It alone can sign when the new root is called for.
    assert!(matches!(refused(&one_ready(), &removed("y", "ca")).0, Cause::LastSigner { .. }));
    let single = signing();
    assert!(matches!(refused(&single, &removed("y", "ca")).0, Cause::LastSigner { .. }));
    let staging = told(two(), 1_000, &[rotation("r", Mode::Auto), prepared_by("ca", "r", "B")]);
    assert!(matches!(refused(&staging, &removed("y", "ca")).0, Cause::LastSigner { .. }));
    let asked = told(staging, 1_000, &[asks("cb", "rb", "B")]);
    let gone = told(asked, 1_000, &[removed("y", "ca"), signed("rb", "B", "b2")]);
    assert!(matches!(gone.phase, Phase::Distributing(_)), "no replica that is gone is waited for");
}

#[test]
fn rules_of_owners_are_checked() {
    type Break = fn(&mut State);
    let breaks: [Break; 5] = [
        |s| s.roots.get_mut(&root("A")).unwrap().signers.extend([(name("cc"), issuer("a"))]),
        |s| s.roots.get_mut(&root("A")).unwrap().active_issuer = Some(issuer("a")),
        |s| s.roots.get_mut(&root("A")).unwrap().signers.extend([(name("ca"), issuer("x"))]),
        |s| s.roots.get_mut(&root("A")).unwrap().signers.clear(),
        |s| {
            let (request_id, requested_at) = ("q".parse().unwrap(), at(1_000));
            let renewal = rotation::IssuerRenewal { request_id, requested_at };
            s.roots.get_mut(&root("A")).unwrap().renewals.insert(name("ca"), renewal);
        },
    ];
    for (number, break_it) in breaks.into_iter().enumerate() {
        let mut broken = two();
        break_it(&mut broken);
        assert!(invariants::check(&broken).is_err(), "rule {number}");
    }
    let state = two();
    let mut next = told(state.clone(), 1_000, &[asks("ca", "x", "A")]);
    let entry = next.roots.get_mut(&root("A")).unwrap();
    entry.issuers.get_mut(&issuer("a")).unwrap().replica = Some(name("cb"));
    entry.signers = [(name("cb"), issuer("a2"))].into();
    assert!(invariants::check_next(&state, &next).is_err(), "an issuer keeps its owner");
}

#[test]
fn what_only_its_replica_can_do_names_it() {
    let state = told(two(), 1_000, &[asks("cb", "y", "A"), rotation("r", Mode::Auto)]);
    let owners: BTreeSet<_> = state
        .pending
        .iter()
        .map(|owed| (owed.effect.name(), owed.effect.replica().map(ToString::to_string)))
        .collect();
    assert_eq!(owners, [("request_issuer", Some("cb".to_owned())), ("stage_root", None)].into());
    let switch = Effect::SwitchSigner { root: root("B"), issuer: None };
    assert!(switch.idempotence_key().ends_with(".signer"));
    assert_eq!(state.generation, Generation(13));
}
