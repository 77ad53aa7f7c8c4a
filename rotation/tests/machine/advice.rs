//! Every advice of every refusal, in every state that verbs and events lead to, is followed: it must be legal there.

use std::collections::{BTreeSet, HashMap, VecDeque};

use rotation::{
    Advice, AuthorityName, Cause, Effect, Ending, Event, Evidence, Mode, Phase, PreparedRoot,
    Refusal, RequestId, RootState, Saying, SegmentState, SignedIssuer, StagingStep, State, Verb,
    Wait, invariants, step,
};
use trust::{Generation, RootId, Sequence};

use crate::words::*;

mod distrusted;
mod given_up;

/// More states than this are a fault of the test, which is to end within seconds.
const STATES_MAX: usize = 20_000;
/// Commands that only look.
const LOOKS: [&str; 5] = [
    "banyan state show",
    "banyan rotate status",
    "banyan rotate explain",
    "banyan root list",
    "banyan root standby list",
];

#[derive(Clone)]
struct World {
    state: State,
    now: i64,
}

/// What tells states apart for whoever asks what is legal: no numbers, no times.
fn shape(World { state, .. }: &World) -> String {
    let rotation = state.phase.rotation();
    let detail = match &state.phase {
        Phase::Staging(staging) => match staging.step {
            StagingStep::StagingRoot => "root",
            StagingStep::RequestingIssuer { .. } => "issuer",
            StagingStep::Ready { .. } => "ready",
        }
        .to_owned(),
        Phase::Distributing(phase) => format!("{}", phase.settling.is_some()),
        Phase::Canary(phase) => format!(
            "{} {} {} {}",
            phase.settling.is_some(),
            phase.observing.is_some(),
            phase.trouble.is_some(),
            phase.cohort
        ),
        Phase::Draining(phase) => format!("{} {}", phase.settling.is_some(), phase.rolled_back),
        Phase::Withdrawing(phase) => format!("{:?}", phase.ending),
        Phase::Uninitialised | Phase::Bootstrapping(_) | Phase::Steady(_) => String::new(),
    };
    let roots: BTreeSet<_> = state
        .roots
        .values()
        .filter(|root| root.state != RootState::Retired)
        .map(|root| (root.state, root.signed_since_staged(), root.tainted))
        .collect();
    let renews = state.roots.values().any(|root| root.renewal.is_some());
    let owed = !state.pending.is_empty();
    let sealed = state.segments.values().any(
        |s| matches!(s.state, SegmentState::Sealed { generation } if generation.0 + 3 > state.generation.0),
    );
    let mode = rotation.map(|rotation| (rotation.mode, rotation.held_since.is_some()));
    let seen = (state.seen.open.is_empty(), state.seen.dismissed.is_empty());
    format!("{} {detail} {mode:?} {roots:?} {renews} {owed} {sealed} {seen:?}", state.phase.name())
}

fn fresh(state: &State) -> RequestId {
    format!("q{}", state.generation).parse().unwrap()
}

/// The first answer to an effect that is owed.
fn answer(state: &State, effect: &Effect) -> Event {
    let new = format!("N{}", state.generation);
    match effect {
        Effect::StageRoot { request_id, .. } => {
            let mut event = prepared(request_id.as_str(), &new);
            if let Event::RootPrepared { root: PreparedRoot { not_after, .. }, .. } = &mut event {
                *not_after = at(10 * ROOT_END);
            }
            event
        }
        Effect::RequestIssuer { request_id, root, .. } => {
            let mut event = signed(request_id.as_str(), "A", &new);
            if let Event::IssuerSigned {
                issuer: SignedIssuer { root: under, not_after, .. }, ..
            } = &mut event
            {
                *under = *root;
                *not_after =
                    if *root == crate::words::root("A") { at(ROOT_END) } else { at(9 * ROOT_END) };
            }
            event
        }
        Effect::PublishBundle { sequence } => published(sequence.0),
        Effect::SwitchSigner { root, issuer } => {
            Event::SignerSwitched { root: *root, issuer: *issuer }
        }
    }
}

fn good(world: &World) -> Evidence {
    let seal = world.state.segments.values().find_map(|segment| match segment.state {
        SegmentState::Sealed { generation } => Some(generation),
        _ => None,
    });
    evidence(world.now, world.state.sequence.0, seal.unwrap_or(Generation(0)).0)
}

fn bad(world: &World) -> Evidence {
    Evidence { unproven: tally(3, world.now + 500), ..good(world) }
}

fn never(world: &World) -> Evidence {
    let relying_parties = rotation::evidence::RelyingParties { unbounded: 1, ..Default::default() };
    Evidence { relying_parties, ..good(world) }
}

/// What an operator may ask at any time.
fn asked(world: &World) -> Vec<Event> {
    let state = &world.state;
    let id = || fresh(state);
    let signer = state.signing_root().unwrap();
    let mut asked = vec![
        rotation(id().as_str(), Mode::Auto),
        rotation(id().as_str(), Mode::Manual),
        activate(id().as_str(), good(world)),
        activate(id().as_str(), bad(world)),
        activate(id().as_str(), never(world)),
        hold(id().as_str()),
        resume(id().as_str()),
        abort(id().as_str()),
        rollback(id().as_str()),
        Event::IssuerRenewalCancelled { request_id: id(), root: signer, replica: None },
        Event::ContinueRequested {
            request_id: id(),
            above: Sequence(0),
            reason: String::new(),
            waits: true,
        },
        Event::ContinueRequested {
            request_id: id(),
            above: Sequence(100),
            reason: String::new(),
            waits: true,
        },
        recovery(id().as_str(), &["s1"]),
        Event::SightingDismissed { request_id: id(), agent: "a".to_owned(), reason: String::new() },
        Event::SightingHeeded { request_id: id(), agent: "a".to_owned() },
    ];
    let renewal = |root| Event::IssuerRenewalRequested {
        request_id: id(),
        root,
        replica: None,
        replaces: false,
    };
    asked.extend(state.roots.keys().copied().map(renewal));
    asked.push(renewal(RootId::of(b"nobody's")));
    let prune = |root| Event::PruneRequested { request_id: id(), roots: BTreeSet::from([root]) };
    asked.extend(state.roots.keys().copied().map(prune));
    asked.push(prune(RootId::of(b"nobody's")));
    asked
}

/// What happens without an operator.
fn happening(world: &World) -> Vec<Event> {
    let state = &world.state;
    let mut events: Vec<_> = state.pending.iter().map(|owed| answer(state, &owed.effect)).collect();
    events.push(sealed("s1", state.generation.0));
    events.push(reported(good(world)));
    events.push(reported(bad(world)));
    if let Some(root) = state.signing_root() {
        let until = at(world.now + 1_000);
        events.push(Event::HorizonRequested { root, segment: "s1".parse().unwrap(), until });
    }
    // One that is behind this record with other roots, and one that is ahead.
    for (agent, sequence) in [("a", Sequence(1)), ("b", Sequence(state.sequence.0 + 2))] {
        events.push(Event::BundleSighted { agent: agent.to_owned(), sequence, digest: None });
    }
    events
}

/// The state after an event that is legal and changes something.
fn moved(world: &World, event: &Event) -> Option<World> {
    let transition = step(&world.state, event, at(world.now), &policy()).ok()?;
    if !transition.changes(&world.state) {
        return None;
    }
    invariants::check_next(&world.state, &transition.next).unwrap();
    Some(World { state: transition.next, now: world.now + 40 })
}

/// Whether nothing is to be sealed.
fn is_sealed(state: &State) -> bool {
    let s1 = state.segments.get(&"s1".parse().unwrap()).map(|segment| segment.state);
    match s1 {
        Some(SegmentState::Sealed { generation }) => generation.0 + 2 > state.generation.0,
        Some(SegmentState::Open) => false,
        Some(SegmentState::Closed(_)) | None => true,
    }
}

/// Lets everything happen that happens by itself while all is well, until `enough`.
fn waited(mut world: World, enough: impl Fn(&World) -> bool) -> World {
    for _ in 0..60 {
        if enough(&world) {
            break;
        }
        let state = &world.state;
        let event = match state.pending.first() {
            Some(owed) => answer(state, &owed.effect),
            None if !is_sealed(state) => sealed("s1", state.generation.0),
            None => reported(good(&world)),
        };
        world = moved(&world, &event).unwrap_or(World { now: world.now + 40, ..world });
    }
    world
}

fn is_steady(world: &World) -> bool {
    matches!(world.state.phase, Phase::Steady(_))
}

fn said(verb: &Verb, world: &World) -> Event {
    let (request_id, authority): (RequestId, AuthorityName) =
        (fresh(&world.state), "main".parse().unwrap());
    let evidence = good(world);
    verb.event(&Saying {
        request_id: &request_id,
        authority: &authority,
        evidence: Some(&evidence),
    })
    .unwrap()
}

/// Waits as advised, and sees that what was waited for has come.
fn after_the_wait(world: &World, wait: &Wait) -> World {
    let activates = |world: &World| moved(world, &said(&Verb::Activate, world)).is_some();
    match wait {
        Wait::Bootstrap => panic!("these worlds have a root"),
        Wait::Rotation => {
            let over = waited(world.clone(), is_steady);
            assert!(is_steady(&over), "it does not end by itself: {}", line(&over.state));
            over
        }
        Wait::TrustGate { .. } => {
            let open = waited(world.clone(), activates);
            assert!(activates(&open), "it cannot be activated: {}", line(&open.state));
            open
        }
        Wait::Renewal => {
            let renews =
                |world: &World| world.state.roots.values().any(|root| root.renewal.is_some());
            let over = waited(world.clone(), |world| !renews(world));
            assert!(!renews(&over), "{}", line(&over.state));
            over
        }
    }
}

/// Follows each advice of a refusal.
fn follow(world: &World, event: &Event, refusal: &Refusal, waited: &mut BTreeSet<Wait>) {
    let Refusal { cause, advice, .. } = refusal;
    let context = format!("{} in {}: {cause}", event.name(), line(&world.state));
    for verb in &advice.verbs {
        assert!(
            moved(world, &said(verb, world)).is_some(),
            "{verb:?} is advised and does nothing: {context}"
        );
    }
    // What was waited for from here once needs no second look.
    if let Some(wait) = &advice.wait
        && waited.insert(wait.clone())
    {
        after_the_wait(world, wait);
    }
    let corrected = matches!(
        cause,
        Cause::EvidenceStale { .. }
            | Cause::EvidenceAhead { .. }
            | Cause::NoRenewal { .. }
            | Cause::UnknownRoot { .. }
            | Cause::RootMayNotSign { .. }
            | Cause::NotDismissed { .. }
            | Cause::NotAbove { .. }
            | Cause::LostLeavesMayLive { .. }
            | Cause::GateClosed { .. }
            | Cause::NotRetired { .. }
            | Cause::StillCounts { .. }
            | Cause::NotStandby { .. }
            | Cause::NotDistrusted { .. }
            | Cause::NotReplaced { .. }
    );
    if let Cause::StillCounts { from, .. } = cause {
        let then = step(&world.state, event, *from, &policy());
        assert!(then.is_ok_and(|taken| taken.changes(&world.state)), "not even then: {context}");
    }
    assert!(corrected || !advice.is_empty(), "nothing is advised: {context}");
    let text = cause.legal(advice);
    let mut commands: Vec<_> = text.split('`').skip(1).step_by(2).collect();
    commands.retain(|command| !LOOKS.contains(command));
    // What only somebody's word opens is opened outside of the machine.
    if let Cause::GateClosed { holds, .. } = cause {
        let ways: Vec<_> = holds.iter().filter_map(|hold| hold.way()).collect();
        commands.retain(|command| !ways.iter().any(|way| way.contains(command)));
    }
    let mut legal: BTreeSet<_> = advice.verbs.iter().map(Verb::command).collect();
    if matches!(advice.wait, Some(Wait::TrustGate { .. })) {
        _ = legal.insert(Verb::Activate.command());
    }
    for command in commands {
        assert!(legal.contains(command), "{command} is said and not meant: {context}: {text}");
    }
}

/// Whoever wants a rotation and does what each refusal says gets one.
fn start_by_advice(world: &World) {
    let mut world = world.clone();
    let mut way = Vec::new();
    for _ in 0..8 {
        let event = said(&Verb::Start, &world);
        let Err(refusal) = step(&world.state, &event, at(world.now), &policy()) else { return };
        way.push(refusal.to_string());
        world = match (&refusal.advice.wait, refusal.advice.verbs.first()) {
            (Some(Wait::TrustGate { .. }), _) => {
                let open = after_the_wait(&world, &Wait::TrustGate { at_latest: None });
                moved(&open, &said(&Verb::Activate, &open)).unwrap()
            }
            (Some(wait), _) => after_the_wait(&world, wait),
            (None, Some(verb)) => moved(&world, &said(verb, &world)).unwrap(),
            (None, None) => panic!("a dead end: {way:?}"),
        };
    }
    panic!("a circle: {way:#?}");
}

/// Every shape of state that can be reached.
fn reached(first: World) -> Vec<World> {
    reached_by(first, asked)
}

/// Every shape of state that can be reached when this may be asked at any time.
fn reached_by(first: World, asked: impl Fn(&World) -> Vec<Event>) -> Vec<World> {
    let mut seen = HashMap::from([(shape(&first), ())]);
    let mut queue = VecDeque::from([first]);
    let mut all = Vec::new();
    while let Some(world) = queue.pop_front() {
        for event in happening(&world).iter().chain(&asked(&world)) {
            let Some(next) = moved(&world, event) else { continue };
            if next.state.seen.open.len() <= 1 && seen.insert(shape(&next), ()).is_none() {
                queue.push_back(next);
            }
        }
        all.push(world);
        assert!(all.len() < STATES_MAX, "the world has grown beyond {STATES_MAX} states");
    }
    all
}

#[test]
fn every_advice_of_every_refusal_is_legal_in_the_state_that_refused() {
    let mut causes = BTreeSet::new();
    let mut states = 0;
    for now in [1_000, ISSUER_END - 300] {
        let worlds = reached(World { state: signing(), now });
        states += worlds.len();
        for world in worlds {
            if now == 1_000 {
                start_by_advice(&world);
            }
            let mut waited = BTreeSet::new();
            for event in asked(&world) {
                let Err(refusal) = step(&world.state, &event, at(world.now), &policy()) else {
                    continue;
                };
                follow(&world, &event, &refusal, &mut waited);
                let cause = format!("{:?}", refusal.cause);
                causes
                    .insert(cause.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned());
            }
        }
    }
    assert!(states > 200, "the world has shrunk to {states} states");
    for cause in [
        "RotationUnderWay",
        "NoRotation",
        "Held",
        "GateClosed",
        "NothingToActivate",
        "TooLateToAbort",
        "NothingToRollBack",
        "RolledBackBefore",
        "BundleUnknown",
        "NotAbove",
        "NotDismissed",
        "LifeTooShort",
        "RenewalUnderWay",
        "NoRenewal",
        "UnknownRoot",
        "RootMayNotSign",
        "NotRetired",
        "StillCounts",
    ] {
        assert!(causes.contains(cause), "{cause} is not among {causes:?}");
    }
}

/// One state of each shape that can be reached.
pub(crate) fn states() -> Vec<State> {
    reached(World { state: signing(), now: 1_000 }).into_iter().map(|world| world.state).collect()
}
