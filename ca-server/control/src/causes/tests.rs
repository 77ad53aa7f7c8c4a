use plugins::KeyBackend as _;
use rotation::{Event, Mode, PreparedRoot, SignedIssuer, step};
use trust::{CertificateId, Root, Sequence, TrustDomain};

use super::*;
use crate::schedule::{Expression, Freeze, Window, Zone};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// 2027-01-15T08:00:00Z, a Friday.
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
/// How long the root lives.
const LIFE: Duration = Duration::from_secs(86_400 * 1_000);
const POLICY: Policy = Policy {
    skew: Duration::from_secs(60),
    leaf_lifetime_max: Duration::from_secs(24 * 3_600),
    horizon_step_max: Duration::from_secs(3_600),
    settle: Duration::from_secs(30),
    leaf_lifetime_min: Duration::from_secs(600),
    withdrawal_max: Duration::from_secs(3_600),
    canary_observe: Duration::from_secs(3_600),
    canary_limit_percent: 1,
};

async fn bootstrapped() -> (State, RootId) {
    let keys = plugins::memory::MemoryKeys::new();
    let id = plugins::RequestId::parse("root").unwrap();
    let key = keys.generate(&id, KeySpec::P256).await.unwrap();
    let profile = plugins::ca_certificate::RootProfile {
        trust_domain: TrustDomain::parse("example.org").unwrap(),
        serial: trust::Serial::random(&trust::SeededRandomness::new(1)),
        validity: trust::Validity::new(NOW, NOW.plus(LIFE)).unwrap(),
    };
    let root = plugins::ca_certificate::build_root(&keys, &key, &profile).await.unwrap();
    (with_root(&root), root.id())
}

fn with_root(root: &Root) -> State {
    let id: RequestId = "f".parse().unwrap();
    let start = State::uninitialised(TrustDomain::parse("example.org").unwrap());
    let issuer = SignedIssuer {
        id: CertificateId::of(b"i"),
        root: root.id(),
        chain: vec![rotation::Der::from(b"i".as_slice())],
        key: "i".parse().unwrap(),
        not_after: NOW.plus(DAY * 900),
        rehearsal: None,
    };
    let authority = "main".parse().unwrap();
    [
        Event::BootstrapRequested { request_id: id.clone(), authority },
        Event::RootPrepared {
            request_id: id.clone(),
            root: PreparedRoot::of(root, true),
            replica: None,
        },
        Event::IssuerSigned { request_id: id, issuer },
        Event::BundlePublished { sequence: Sequence(1) },
    ]
    .iter()
    .fold(start, |state, event| taken(&state, event, NOW))
}

fn taken(state: &State, event: &Event, now: Timestamp) -> State {
    step(state, event, now, &POLICY).unwrap().next
}

fn requested(state: &State, request_id: RequestId, now: Timestamp) -> State {
    let (authority, mode) = ("main".parse().unwrap(), Mode::Auto);
    taken(
        state,
        &Event::RotationRequested { request_id, authority, mode, stage_again: None, canary: None },
        now,
    )
}

fn given_up(state: &State, now: Timestamp) -> State {
    let request_id = format!("x{}", now.as_secs()).parse().unwrap();
    taken(state, &Event::AbortRequested { request_id }, now)
}

fn causes(schedule: Schedule) -> Causes {
    let authority = "main".to_owned();
    Causes { authority, retry_after: DAY, schedule, ..Causes::default() }
}

fn due(causes: &Causes, state: &State, now: Timestamp) -> Due {
    causes.due(&Look { state, policy: &POLICY, parties: Duration::ZERO, now })
}

fn asked(causes: &Causes, state: &State, now: Timestamp) -> Asked {
    match due(causes, state, now) {
        Due::Ask(asked) => asked,
        other => panic!("{other:?}"),
    }
}

fn every(cron: &str) -> Schedule {
    let cron = Some(Expression::parse(cron).unwrap());
    Schedule { cron, ..Schedule::default() }
}

#[tokio::test]
async fn a_rotation_by_age_that_was_given_up_is_asked_for_again_later_and_not_before() {
    let (mut state, root) = bootstrapped().await;
    let aging = Causes { max_age: Some(DAY * 30), ..causes(Schedule::default()) };
    assert_eq!(due(&aging, &state, NOW.plus(DAY)), Due::Nothing, "it is young");
    let mut now = NOW.plus(DAY * 30);
    let mut ids = Vec::new();
    for _ in 0..3 {
        let Asked { cause, root: old, request_id, in_spite_of } = asked(&aging, &state, now);
        assert_eq!((cause, old, in_spite_of), (Cause::Age, root, None));
        ids.push(request_id.to_string());
        state = requested(&state, request_id, now);
        assert_eq!(due(&aging, &state, now), Due::Nothing, "it is under way");
        state = given_up(&state, now);
        let held = Held { cause: Cause::Age, root, until: Until::Again(now.plus(DAY)) };
        assert_eq!(due(&aging, &state, now), Due::Held(held));
        now = now.plus(DAY);
    }
    let short = root.short().to_string();
    assert_eq!(ids, [format!("age-{short}"), format!("age-{short}-2"), format!("age-{short}-3")]);
}

#[tokio::test]
async fn each_due_time_brings_one_rotation_however_many_servers_look_and_however_often() {
    let (state, _) = bootstrapped().await;
    let daily = causes(every("0 9 * * *"));
    assert_eq!(due(&daily, &state, NOW), Due::Nothing, "the CA is younger than the last due time");
    let nine = NOW.plus(HOUR);
    assert_eq!(due(&daily, &state, nine.minus(Duration::from_secs(1))), Due::Nothing);
    let first = asked(&daily, &state, nine);
    assert_eq!(
        (first.cause, first.request_id.as_str()),
        (Cause::Schedule, "schedule-20270115T0900Z")
    );
    let other_server = asked(&daily, &state, nine.plus(Duration::from_secs(40)));
    assert_eq!(
        other_server.request_id, first.request_id,
        "its clock is later, its request the same"
    );

    let under_way = requested(&state, first.request_id.clone(), nine);
    let again = requested(&under_way, other_server.request_id, nine);
    assert_eq!(again, under_way, "the second one asks for nothing");
    assert_eq!(due(&daily, &under_way, nine), Due::Nothing);
    let state = given_up(&under_way, nine);
    assert_eq!(due(&daily, &state, nine), Due::Nothing, "somebody gave it up, in the same minute");
    assert_eq!(due(&daily, &state, nine.plus(HOUR * 23)), Due::Nothing);
    let next = asked(&daily, &state, nine.plus(DAY));
    assert_eq!(next.request_id.as_str(), "schedule-20270116T0900Z");
}

#[tokio::test]
async fn a_run_that_was_missed_is_made_up_for_as_long_as_the_configuration_says() {
    let (state, _) = bootstrapped().await;
    let weekly = causes(every("0 9 * * 5"));
    let nine = NOW.plus(HOUR);
    let late = nine.plus(HOUR * 24);
    assert_eq!(asked(&weekly, &state, late).request_id.as_str(), "schedule-20270115T0900Z");
    assert_eq!(weekly.missed(&state, late), None);
    let too_late = late.plus(Duration::from_secs(1));
    assert_eq!(due(&weekly, &state, too_late), Due::Nothing);
    assert_eq!(weekly.missed(&state, too_late), Some(nine), "and it is told");
    let by_hand = requested(&state, "by-hand".parse().unwrap(), nine.minus(HOUR));
    assert_eq!(due(&weekly, &by_hand, nine), Due::Nothing, "on hold or not: one is under way");
    let by_hand = given_up(&by_hand, nine.plus(HOUR));
    assert_eq!(
        asked(&weekly, &by_hand, nine.plus(HOUR)).cause,
        Cause::Schedule,
        "what was given up replaced nothing"
    );
}

#[tokio::test]
async fn what_can_wait_waits_for_a_window_and_for_the_end_of_a_freeze() {
    let (state, root) = bootstrapped().await;
    let nights = Schedule {
        windows: vec![Window::parse("02:00-04:00").unwrap()],
        freezes: vec![Freeze::new("sale", "2027-01-16", "2027-01-17", &Zone::utc()).unwrap()],
        make_up_within: DAY * 7,
        ..every("0 9 * * *")
    };
    let nights = causes(nights);
    let nine = NOW.plus(HOUR);
    let opens = NOW.plus(DAY * 2 + HOUR * 18);
    let held = |why| {
        let until = Until::Open(why, Some(opens));
        Due::Held(Held { cause: Cause::Schedule, root, until })
    };
    assert_eq!(due(&nights, &state, nine), held(Closed::Window));
    assert_eq!(due(&nights, &state, NOW.plus(HOUR * 19)), held(Closed::Freeze("sale".to_owned())));
    assert_eq!(asked(&nights, &state, opens).request_id.as_str(), "schedule-20270117T0900Z");
}

#[tokio::test]
async fn a_root_that_ends_is_replaced_in_time_and_before_any_freeze_if_it_must_be() {
    let (state, root) = bootstrapped().await;
    let needed = POLICY.rotation_at_most() + POLICY.withdrawal_max;
    let ends = NOW.plus(LIFE);
    let early = ends.minus(needed * 2);
    let expiring = Schedule { before_expiry: true, ..Schedule::default() };
    assert_eq!(due(&causes(expiring.clone()), &state, early.minus(HOUR)), Due::Nothing);
    let first = asked(&causes(expiring.clone()), &state, early);
    assert_eq!((first.cause, first.in_spite_of), (Cause::Expiry, None));
    assert!(first.request_id.as_str().starts_with("expiry-"));

    let freeze = |hours: u32| {
        let (from, until) = (early.minus(HOUR), early.plus(HOUR * hours));
        let text = |time: Timestamp| time.to_string().trim_end_matches('Z').to_owned();
        let freeze = Freeze::new("sale", &text(from), &text(until), &Zone::utc()).unwrap();
        causes(Schedule { freezes: vec![freeze], ..expiring.clone() })
    };
    let short = freeze(10);
    let wait = Until::Open(Closed::Freeze("sale".to_owned()), Some(early.plus(HOUR * 10)));
    let held = Held { cause: Cause::Expiry, root, until: wait };
    assert_eq!(due(&short, &state, early), Due::Held(held), "there is time behind the freeze");
    let look =
        Look { state: &state, policy: &POLICY, parties: Duration::ZERO, now: early.minus(DAY) };
    assert_eq!(short.no_time_left(&look), None);

    let long = freeze(60);
    assert_eq!(long.no_time_left(&look), Some((root, early)), "the alarm comes long before");
    let far = Look { now: early.minus(DAY * 31), ..look };
    assert_eq!(long.no_time_left(&far), None, "and not for ever");
    let urgent = asked(&long, &state, early);
    assert_eq!(urgent.in_spite_of, Some(Closed::Freeze("sale".to_owned())));
    let parties = Look { parties: DAY, now: early.minus(HOUR * 40), ..look };
    assert!(
        matches!(causes(expiring).due(&parties), Due::Ask(_)),
        "who may be waited for longer makes it begin earlier"
    );
}

#[tokio::test]
async fn a_root_that_lives_no_longer_than_a_rotation_is_not_replaced_again_and_again() {
    let (state, _) = bootstrapped().await;
    let slow = Policy { leaf_lifetime_max: LIFE, ..POLICY };
    let expiring = causes(Schedule { before_expiry: true, ..Schedule::default() });
    let at = |now| {
        let look = Look { state: &state, policy: &slow, parties: Duration::ZERO, now };
        matches!(expiring.due(&look), Due::Ask(_))
    };
    assert!(!at(NOW) && !at(NOW.plus(LIFE / 2 - HOUR)) && at(NOW.plus(LIFE / 2)));
}

#[tokio::test]
async fn a_change_of_the_configuration_begins_a_rotation_where_that_is_wanted() {
    let (state, root) = bootstrapped().await;
    let wanted = Schedule { on_config_change: true, ..Schedule::default() };
    let with = |schedule: &Schedule, authority: &str, root_key| Causes {
        authority: authority.to_owned(),
        root_key,
        ..causes(schedule.clone())
    };
    let p256 = Some(KeySpec::P256);
    assert_eq!(due(&with(&wanted, "main", p256), &state, NOW), Due::Nothing);
    assert_eq!(due(&with(&wanted, "main", None), &state, NOW), Due::Nothing);
    assert_eq!(due(&with(&Schedule::default(), "vault", p256), &state, NOW), Due::Nothing);
    for other in [with(&wanted, "vault", p256), with(&wanted, "main", Some(KeySpec::P384))] {
        let asked = asked(&other, &state, NOW);
        assert_eq!(asked.cause, Cause::Configuration);
        assert_eq!(asked.request_id.as_str(), format!("config-{}", root.short()));
    }
}

#[test]
fn a_rotation_says_why_it_began() {
    for (id, name) in [
        ("expiry-0a1b2c3d", "expiry"),
        ("config-0a1b2c3d-2", "configuration"),
        ("age-0a1b2c3d", "age"),
        ("schedule-20270115T0900Z", "schedule"),
        ("notice-0a1b2c3d", "authority"),
        ("tier-0a1b2c3d-7", "upstream"),
        ("rotate-1a2b", "operator"),
        ("aged", "operator"),
    ] {
        assert_eq!(Cause::of(&id.parse().unwrap()).name(), name, "{id}");
    }
}
