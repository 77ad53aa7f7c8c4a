use plugins::KeyBackend as _;
use rotation::{Effect, PendingEffect, Policy, PreparedRoot, RootState, SignedIssuer, step};
use trust::{CertificateId, Generation, Root, Sequence, TrustDomain};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn policy() -> StandbyPolicy {
    let authority = "spare".parse().unwrap();
    StandbyPolicy { authority, renew_before: DAY * 90, retry_after: DAY }
}

async fn root() -> Root {
    let keys = plugins::memory::MemoryKeys::new();
    let id = plugins::RequestId::parse("root").unwrap();
    let key = keys.generate(&id, plugins::KeySpec::P256).await.unwrap();
    let profile = plugins::ca_certificate::RootProfile {
        trust_domain: TrustDomain::parse("example.org").unwrap(),
        serial: trust::Serial::random(&trust::SeededRandomness::new(1)),
        validity: trust::Validity::new(NOW, NOW.plus(DAY * 1_000)).unwrap(),
    };
    plugins::ca_certificate::build_root(&keys, &key, &profile).await.unwrap()
}

fn taken(state: &State, event: &Event, now: Timestamp) -> State {
    step(state, event, now, &Policy::default()).unwrap().next
}

async fn steady() -> State {
    let (root, id): (_, RequestId) = (root().await, "f".parse().unwrap());
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
            root: PreparedRoot::of(&root, true),
            replica: None,
        },
        Event::IssuerSigned { request_id: id, issuer },
        Event::BundlePublished { sequence: Sequence(1) },
    ]
    .iter()
    .fold(start, |state, event| taken(&state, event, NOW))
}

/// The same with a standby root of an authority, for so many days.
fn with(mut state: State, name: &str, authority: &str, days: u32) -> State {
    let signing = state.signing_root().unwrap();
    let mut entry = state.roots[&signing].clone();
    entry.state = RootState::Published;
    entry.authority = authority.parse().unwrap();
    entry.not_after = NOW.plus(DAY * days);
    (entry.horizon, entry.staged_horizon) = (None, None);
    state.roots.insert(RootId::of(name.as_bytes()), entry);
    state
}

fn prepared(due: Due) -> (String, String) {
    match due {
        Due::Prepare(id, why) => (id.to_string(), why),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_is_prepared_where_none_lasts_and_the_one_that_ends_goes_only_when_the_next_is_there() {
    let (policy, none) = (policy(), steady().await);
    let (id, why) = prepared(policy.due(&none, NOW));
    assert!(id == "standby-1" && why.contains("no standby root of authority spare"), "{id}: {why}");
    let one = with(none.clone(), "one", "spare", 200);
    assert_eq!(policy.due(&one, NOW), Due::Nothing);
    let later = NOW.plus(DAY * 110);
    let (_, why) = prepared(policy.due(&one, later));
    assert!(why.contains("ends at"), "{why}");
    let both = with(one, "two", "spare", 500);
    assert_eq!(policy.due(&both, NOW), Due::Nothing, "both last");
    let Due::Drop(root, id, _) = policy.due(&both, later) else { panic!() };
    assert_eq!(root, RootId::of(b"one"));
    assert!(id.to_string().starts_with("standby-drop-"), "{id}");
    let of_others = with(none, "theirs", "main", 500);
    prepared(policy.due(&of_others, NOW));
}

#[tokio::test]
async fn roots_that_never_last_are_not_asked_for_without_an_end() {
    let short = with(with(steady().await, "one", "spare", 30), "two", "spare", 40);
    let Due::Held(why) = policy().due(&short, NOW) else { panic!() };
    assert!(why.contains("root.standby.renew_before"), "{why}");
}

#[tokio::test]
async fn one_that_was_given_up_is_asked_for_again_later_and_under_another_id() {
    let (policy, state) = (policy(), steady().await);
    let (id, _) = prepared(policy.due(&state, NOW));
    let asked = taken(&state, &policy.event(id.parse().unwrap()), NOW);
    assert_eq!(policy.due(&asked, NOW), Due::Nothing, "it is under way");
    let abort = Event::AbortRequested { request_id: "stop".parse().unwrap() };
    let ended = taken(&asked, &abort, NOW);
    let Due::Held(why) = policy.due(&ended, NOW.plus(DAY / 2)) else { panic!() };
    assert!(why.contains("given up") && why.contains("--authority spare"), "{why}");
    assert_eq!(prepared(policy.due(&ended, NOW.plus(DAY))).0, "standby-1-2");
}

fn trouble(last: EffectError) -> [Trouble; 1] {
    let (request_id, authority) = ("standby-1".parse().unwrap(), "spare".parse().unwrap());
    let effect = Effect::StageRoot { request_id, authority };
    let pending = PendingEffect { effect, generation: Generation(5) };
    [Trouble { pending, attempts: 9, last }]
}

#[tokio::test]
async fn an_authority_that_fails_for_long_keeps_others_waiting_no_longer_and_a_person_may() {
    let (policy, state) = (policy(), steady().await);
    let asked = taken(&state, &policy.event("standby-1".parse().unwrap()), NOW);
    let failing = trouble(EffectError::Unavailable { reason: "no connection".to_owned() });
    assert_eq!(given_up(&asked, &failing, NOW.plus(GIVE_UP_AFTER / 2)), None);
    let late = NOW.plus(GIVE_UP_AFTER);
    let (_, why) = given_up(&asked, &failing, late).unwrap();
    assert!(why.contains("spare failed") && why.contains("no connection"), "{why}");
    let (reason, retry_after) = ("a ceremony".to_owned(), DAY);
    let waits = trouble(EffectError::NotYet { reason, retry_after });
    assert_eq!(given_up(&asked, &waits, late), None, "it waits for a person");
    let by_hand = taken(&state, &policy.event("mine".parse().unwrap()), NOW);
    assert_eq!(given_up(&by_hand, &failing, late), None, "it is somebody's");
}
