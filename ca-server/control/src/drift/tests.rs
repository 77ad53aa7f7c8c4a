use std::time::Duration;

use plugins::ca_certificate::{RootProfile, build_root};
use plugins::memory::MemoryKeys;
use plugins::{KeyBackend as _, KeySpec};
use rotation::{Der, Event, Mode, Policy, PreparedRoot, RootState, SignedIssuer, step};
use trust::{CertificateId, SeededRandomness, Sequence, Serial, Timestamp, TrustDomain, Validity};

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);
const WHOSE: Whose<'static> = Whose { name: "istio", place: "the files in /etc/cacerts" };

/// Two roots with one key and one name, and one with another.
async fn roots() -> [Root; 3] {
    let keys = MemoryKeys::new();
    let mut made = Vec::new();
    for (name, domain, days) in
        [("a", "example.org", 900), ("a", "example.org", 1_000), ("bb", "b.example.org", 900)]
    {
        let id = plugins::RequestId::parse(name).unwrap();
        let key = keys.generate(&id, KeySpec::P256).await.unwrap();
        let profile = RootProfile {
            trust_domain: TrustDomain::parse(domain).unwrap(),
            // Which is in the subject, too: the same for the two of one name.
            serial: Serial::random(&SeededRandomness::new(u64::try_from(name.len()).unwrap())),
            validity: Validity::new(NOW, NOW.plus(DAY * u32::try_from(days).unwrap())).unwrap(),
        };
        made.push(build_root(&keys, &key, &profile).await.unwrap());
    }
    let Ok(made) = made.try_into() else { panic!("three roots") };
    made
}

fn replica() -> ReplicaName {
    "ca-1".parse().unwrap()
}

fn taken(state: &State, event: &Event) -> State {
    step(state, event, NOW, &Policy::default()).unwrap().next
}

fn bootstrapped(root: &Root) -> State {
    let request_id: RequestId = "f".parse().unwrap();
    let issuer = SignedIssuer {
        id: CertificateId::of(b"i"),
        root: root.id(),
        chain: vec![Der::from(b"i".as_slice()), Der::from(b"above".as_slice())],
        key: "i".parse().unwrap(),
        not_after: NOW.plus(DAY * 300),
        rehearsal: None,
    };
    [
        Event::BootstrapRequested {
            request_id: request_id.clone(),
            authority: "istio".parse().unwrap(),
        },
        Event::RootPrepared {
            request_id: request_id.clone(),
            root: PreparedRoot::of(root, false),
            replica: None,
        },
        Event::IssuerSigned { request_id, issuer },
        Event::BundlePublished { sequence: Sequence(1) },
    ]
    .iter()
    .fold(State::uninitialised(TrustDomain::parse("example.org").unwrap()), taken_by)
}

fn taken_by(state: State, event: &Event) -> State {
    taken(&state, event)
}

fn gives(root: &Root, above: &[u8]) -> RootSet {
    RootSet::new(vec![root.der().to_vec()], Some(root.id()), 1)
        .with_above(Some(vec![above.to_vec()]))
}

/// The rotation that follows the authority, given up in staging.
fn given_up(state: &State, root: &Root) -> State {
    let request = Event::RotationRequested {
        request_id: follow_request(&root.id()).unwrap(),
        authority: "istio".parse().unwrap(),
        mode: Mode::Auto,
        stage_again: None,
        canary: None,
    };
    taken(&taken(state, &request), &Event::AbortRequested { request_id: "x".parse().unwrap() })
}

#[tokio::test]
async fn an_authority_that_gives_what_signs_is_not_told_of() {
    let [a, ..] = roots().await;
    let state = bootstrapped(&a);
    assert_eq!(of(&state, &WHOSE, &replica(), &gives(&a, b"above"), true), None);
    assert_eq!(of(&state, &WHOSE, &replica(), &gives(&a, b"above"), false), None);
}

#[tokio::test]
async fn another_root_is_followed_or_told_with_the_command() {
    let [a, renewed, b] = roots().await;
    let state = bootstrapped(&a);
    assert_eq!(
        of(&state, &WHOSE, &replica(), &gives(&b, b"above"), true),
        None,
        "it is about to be followed"
    );
    let told = of(&state, &WHOSE, &replica(), &gives(&b, b"above"), false).unwrap();
    for words in [
        "another root",
        "the files in /etc/cacerts",
        "`banyan rotate start --to istio`",
        b.id().short().as_ref(),
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let after = given_up(&state, &b);
    assert!(
        of(&after, &WHOSE, &replica(), &gives(&b, b"above"), true).is_some(),
        "nobody follows what was given up"
    );
    let after = given_up(&state, &renewed);
    let told = of(&after, &WHOSE, &replica(), &gives(&renewed, b"above"), true).unwrap();
    assert!(
        told.contains(&format!("--stage-again {}", renewed.id().short())),
        "a plain start is refused: {told}"
    );
}

#[tokio::test]
async fn another_intermediate_is_told_with_the_command_and_asked_for_once() {
    let [a, ..] = roots().await;
    let state = bootstrapped(&a);
    let told = of(&state, &WHOSE, &replica(), &gives(&a, b"new"), true).unwrap();
    assert!(told.contains("`banyan issuer renew`") && told.contains("istio"), "{told}");
    let entry = state.roots.get(&a.id()).unwrap();
    assert_eq!(chain_request(entry, &replica(), &gives(&a, b"above")), None);
    let (one, again) = (
        chain_request(entry, &replica(), &gives(&a, b"new")),
        chain_request(entry, &replica(), &gives(&a, b"new")),
    );
    assert!(one.is_some() && one == again);
    assert_ne!(one, chain_request(entry, &replica(), &gives(&a, b"newer")));
    assert_eq!(
        chain_request(entry, &replica(), &RootSet::new(vec![a.der().to_vec()], Some(a.id()), 1)),
        None,
        "nobody can tell"
    );
}

#[tokio::test]
async fn what_cannot_take_the_place_of_the_root_is_told_with_what_can_be_done() {
    let [a, renewed, b] = roots().await;
    let state = bootstrapped(&a);
    assert!(
        renews_signer(&state, renewed.der())
            && !renews_signer(&state, b.der())
            && !renews_signer(&state, a.der())
    );
    let same = unfit(&state, &WHOSE, a.der(), None).unwrap();
    assert!(same.contains("has no new root") && same.contains("/etc/cacerts"), "{same}");
    let twin = unfit(&state, &WHOSE, renewed.der(), None).unwrap();
    assert!(twin.contains(&format!("--stage-again {}", renewed.id().short())), "{twin}");
    assert_eq!(unfit(&state, &WHOSE, renewed.der(), Some(renewed.id())), None, "it was named");
    assert_eq!(unfit(&state, &WHOSE, b.der(), None), None);
    let mut withdrawn = state.clone();
    let mut entry = state.roots.get(&a.id()).unwrap().clone();
    (entry.state, entry.horizon) = (RootState::Retired, Some(NOW));
    withdrawn.roots.insert(b.id(), entry);
    let gone = unfit(&withdrawn, &WHOSE, b.der(), None).unwrap();
    assert!(
        gone.contains("withdrawn") && gone.contains(&format!("--stage-again {}", b.id().short())),
        "{gone}"
    );
    for said in [&twin, &gone] {
        assert!(!said.contains("abort"), "nothing is under way: {said}");
    }
    let request = Event::RotationRequested {
        request_id: "r".parse().unwrap(),
        authority: "istio".parse().unwrap(),
        mode: Mode::Auto,
        stage_again: None,
        canary: None,
    };
    let gone = unfit(&taken(&withdrawn, &request), &WHOSE, b.der(), None).unwrap();
    assert!(
        gone.contains("`banyan rotate abort`, then `banyan rotate start --to istio --stage-again"),
        "{gone}"
    );
    assert_eq!(unfit(&withdrawn, &WHOSE, b.der(), Some(b.id())), None);
    withdrawn.roots.get_mut(&b.id()).unwrap().tainted = true;
    assert!(unfit(&withdrawn, &WHOSE, b.der(), Some(b.id())).unwrap().contains("compromised"));
}
