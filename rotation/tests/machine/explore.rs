//! Everything that can happen in a small world: two replicas on their first boot, an authority that may flap,
//! answers that come late, again or never, crashes at any point; then replicas that come and go, and horizons.
//!
//! A crash needs no move of its own here: a driver remembers nothing but the record, so that a crash is the same as
//! an answer that has not come yet, and a paused driver is an answer that comes very late.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use rotation::{Contents, Effect, Event, Phase, SegmentId, State, invariants, step};
use trust::RootId;

use crate::words::*;

/// More states than this are a fault of the test, which is to end within seconds.
const STATES_MAX: usize = 200_000;

#[derive(Clone, Hash)]
struct World {
    state: State,
    /// Effects that were ever decided: whoever saw one may perform it at any later time.
    decided: BTreeSet<Effect>,
    /// Roots that were ever in a bundle.
    trusted: BTreeSet<RootId>,
    /// Segments that were ever opened: their ids are not used twice.
    opened: BTreeSet<SegmentId>,
    now: i64,
}

/// What may come back from an effect. The authority may answer the same request with another root.
fn answers(effect: &Effect) -> Vec<Event> {
    match effect {
        Effect::StageRoot { request_id, .. } => {
            let made = [format!("{request_id}1"), format!("{request_id}2")];
            let [first, other] = made.map(|n| prepared(request_id.as_str(), &n));
            let mut answers = vec![first.clone(), other];
            if let Event::RootPrepared { request_id, root, .. } = first {
                let replica = Some("ca".parse().unwrap());
                answers.push(Event::RootPrepared { request_id, root, replica });
            }
            answers
        }
        Effect::RequestIssuer { request_id, root: asked, .. } => {
            let names = ["f1", "f2", "g1", "g2"].into_iter();
            names
                .filter(|name| root(name) == *asked)
                .map(|name| signed(request_id.as_str(), name, &format!("{request_id}-{name}")))
                .collect()
        }
        Effect::PublishBundle { sequence } => vec![published(sequence.0)],
        Effect::SwitchSigner { root, issuer } => {
            vec![Event::SignerSwitched { root: *root, issuer: *issuer }]
        }
    }
}

/// A small world: where it starts, and what may be asked for at any time in it.
struct Setting {
    start: State,
    requests: Vec<Event>,
}

/// Two replicas boot for the first time; the issuer is renewed soon after.
fn first_boot() -> Setting {
    let requests = vec![
        bootstrap("f"),
        bootstrap("g"),
        renewal("r", "f1"),
        renewal("r", "g1"),
        opened("ca", "s1", &[]),
        horizon("f1", "s1", 2_000),
    ];
    Setting { start: start(), requests }
}

/// The same, and each replica asks for an issuer of its own; one of them is removed.
fn first_boot_of_two() -> Setting {
    let asks = |replica: &str, request: &str| Event::IssuerRenewalRequested {
        request_id: request.parse().unwrap(),
        root: root("f1"),
        replica: Some(replica.parse().unwrap()),
        replaces: false,
    };
    let requests = vec![
        bootstrap("f"),
        asks("ca", "qa"),
        asks("cb", "qb"),
        opened("ca", "s1", &[]),
        opened("cb", "t1", &[]),
        Event::ReplicaRemoved { request_id: "x".parse().unwrap(), replica: "ca".parse().unwrap() },
    ];
    Setting { start: start(), requests }
}

/// A root signs; replicas come and go, and one is told of another's future generation.
fn segments() -> Setting {
    let mut requests = vec![
        opened("ca", "s1", &[]),
        opened("ca", "s2", &[]),
        opened("ca", "s2", &["s1"]),
        opened("cb", "t1", &[]),
        opened("cb", "t2", &["t1"]),
        sealed("s1", 6),
        sealed("t1", 8),
        closed("s1", Contents::Read),
        closed("s2", Contents::Unread),
    ];
    requests.extend(
        [("s1", 2_000), ("s1", 2_400), ("s2", 2_400), ("t1", 2_000)]
            .map(|(s, until)| horizon("A", s, until)),
    );
    Setting { start: bootstrapped(), requests }
}

fn successors(world: &World, requests: &[Event]) -> Vec<World> {
    let mut next = Vec::new();
    if world.now == 1_000 {
        next.push(World { now: 2_500, ..world.clone() });
    }
    for event in requests.iter().cloned().chain(world.decided.iter().flat_map(answers)) {
        let Ok(transition) = step(&world.state, &event, at(world.now), &policy()) else { continue };
        if transition.changes(&world.state) {
            invariants::check_next(&world.state, &transition.next).unwrap_or_else(|violation| {
                panic!("{violation}\nafter {event:?}\nin {}", line(&world.state))
            });
            let mut world = World { state: transition.next, ..world.clone() };
            world.decided.extend(transition.effects);
            world.trusted.extend(world.state.bundle().into_keys());
            if let Event::SegmentOpened { segment, .. } = &event
                && !world.opened.insert(segment.clone())
            {
                continue;
            }
            next.push(world);
        }
    }
    next
}

/// Performs what is owed, in order, until nothing is: what a driver does after a restart.
fn resumed(mut state: State) -> State {
    for _ in 0..10 {
        let Some(owed) = state.pending.first().cloned() else { return state };
        let event = answers(&owed.effect).swap_remove(0);
        state = step(&state, &event, at(2_500), &policy())
            .expect("the answer to what is owed is legal")
            .next;
    }
    panic!("effects are owed for ever: {}", line(&state));
}

/// Walks everything that can be reached, and says how many states that is.
fn explore(setting: Setting) -> usize {
    let Setting { start, requests } = setting;
    let trusted = start.bundle().into_keys().collect();
    let first = World {
        state: start,
        decided: BTreeSet::new(),
        trusted,
        opened: BTreeSet::new(),
        now: 1_000,
    };
    let mut seen = HashSet::from([fingerprint(&first)]);
    let mut queue = VecDeque::from([first]);
    while let Some(world) = queue.pop_front() {
        assert!(world.state.roots.len() <= 1, "two roots: {}", line(&world.state));
        assert!(world.trusted.len() <= 1, "two roots were trusted: {}", line(&world.state));
        let end = resumed(world.state.clone());
        assert_eq!(
            end.roots.len(),
            usize::from(!matches!(world.state.phase, Phase::Uninitialised))
        );
        assert_eq!(matches!(end.phase, Phase::Steady(_)), !end.roots.is_empty(), "{}", line(&end));
        let fresh =
            successors(&world, &requests).into_iter().filter(|next| seen.insert(fingerprint(next)));
        queue.extend(fresh);
        assert!(seen.len() < STATES_MAX, "the world has grown beyond {STATES_MAX} states");
    }
    seen.len()
}

fn fingerprint(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn no_crash_repeat_or_delay_of_a_first_boot_leads_to_a_second_root_or_out_of_the_rules() {
    let states = explore(first_boot());
    assert!(states > 300, "the world has shrunk to {states} states");
}

#[test]
fn no_first_boot_of_two_replicas_leads_to_a_second_root_or_waits_for_one_that_is_gone() {
    let states = explore(first_boot_of_two());
    assert!(states > 300, "the world has shrunk to {states} states");
}

#[test]
fn no_order_of_segments_and_horizons_leads_out_of_the_rules() {
    let states = explore(segments());
    assert!(states > 1_000, "the world has shrunk to {states} states");
}
