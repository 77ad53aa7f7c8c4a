//! What is accepted of an upstream CA.

use std::time::Duration;

use plugins::ca_certificate::{RootProfile, build_root};
use plugins::memory::MemoryKeys;
use plugins::state::MemoryState;
use plugins::{KeyBackend as _, KeySpec, RequestId};
use trust::{Serial, Timestamp, Validity};

use super::*;

fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").expect("domain")
}

async fn root(name: &str) -> RootDer {
    let keys = MemoryKeys::new();
    let id = RequestId::parse(name).expect("id");
    let key = keys.generate(&id, KeySpec::P256).await.expect("key");
    let start = Timestamp::from_secs(1_780_000_000);
    let profile = RootProfile {
        trust_domain: domain(),
        serial: Serial::random(&trust::SeededRandomness::new(u64::from(name.as_bytes()[0]))),
        validity: Validity::new(start, start.plus(Duration::from_secs(86_400))).expect("validity"),
    };
    build_root(&keys, &key, &profile).await.expect("root").der().to_vec()
}

fn told(sequence: u64, roots: &[&RootDer], signing: &RootDer) -> wire::UpstreamState {
    wire::UpstreamState {
        trust_domain: "example.org".to_owned(),
        sequence,
        roots: roots.iter().map(|root| (*root).clone()).collect(),
        signing: RootId::of(signing).as_bytes().to_vec(),
        generation: sequence * 10,
        further: Vec::new(),
    }
}

#[tokio::test]
async fn changes_are_counted_and_kept_and_a_repetition_is_none() {
    let (a, b, state) = (root("a").await, root("b").await, MemoryState::new());
    let first = Accepted::load(&state).await.expect("nothing yet");
    assert!(first.trusted("file").1, "the first contact is judged by the file");
    let (one, upstream) = first.after(&told(1, &[&a], &a), &domain(), "file").expect("good");
    assert_eq!((upstream.sequence, upstream.generation, one.roots().generation), (1, 10, 1));
    one.store(&state).await.expect("stored");
    assert_eq!(Accepted::load(&state).await.expect("read"), one);
    assert!(
        !one.trusted("file").1 && one.trusted("another file").1,
        "an operator may change the file"
    );
    assert_eq!(one.after(&told(1, &[&a], &a), &domain(), "file").expect("the same").0, one);
    let (both, _) = one.after(&told(2, &[&b, &a], &a), &domain(), "file").expect("good");
    let (again, _) = both.after(&told(2, &[&a, &b], &a), &domain(), "file").expect("another order");
    assert_eq!(again.roots(), both.roots());
    let (switched, _) = both.after(&told(2, &[&a, &b], &b), &domain(), "file").expect("the switch");
    assert_eq!((switched.roots().generation, switched.roots().signing), (3, Some(RootId::of(&b))));
}

#[tokio::test]
async fn further_roots_of_the_upstream_ca_are_told_and_kept_and_are_none_to_follow() {
    let (a, f, state) = (root("a").await, root("f").await, MemoryState::new());
    let (first, _) =
        Accepted::default().after(&told(1, &[&a], &a), &domain(), "file").expect("good");
    let with = wire::UpstreamState { further: vec![f.clone()], ..told(2, &[&a], &a) };
    let (next, upstream) = first.after(&with, &domain(), "file").expect("good");
    assert_eq!((upstream.roots, upstream.further), (vec![a.clone()], vec![f.clone()]));
    let set = next.roots();
    assert_eq!(
        (set.roots, set.further.as_slice(), set.generation),
        (vec![a.clone()], [f.clone()].as_slice(), 2)
    );
    next.store(&state).await.expect("stored");
    assert_eq!(Accepted::load(&state).await.expect("read"), next);
    assert_eq!(next.after(&with, &domain(), "file").expect("the same").0, next);
    let twice = wire::UpstreamState { further: vec![a.clone()], ..told(3, &[&a], &a) };
    assert!(next.after(&twice, &domain(), "file").is_err(), "one root in both lists");
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let (a, b) = (root("a").await, root("b").await);
    let (known, _) = Accepted::default().after(&told(5, &[&a], &a), &domain(), "").expect("good");
    let refused = |told: &wire::UpstreamState| {
        known.after(told, &domain(), "").expect_err("refused").to_string()
    };
    assert!(refused(&told(4, &[&a], &a)).contains("went back from bundle 5 to 4"));
    assert!(refused(&told(5, &[&a, &b], &a)).contains("two bundles"));
    assert!(refused(&told(6, &[&a], &b)).contains("signing root"));
    assert!(refused(&told(6, &[], &b)).contains("1 to 64"));
    assert!(refused(&told(6, &[&a, &a], &a)).contains("each once"));
    let junk = b"junk".to_vec();
    assert!(refused(&told(6, &[&a, &junk], &a)).contains("does not fit"));
    let other = wire::UpstreamState { trust_domain: "other.org".to_owned(), ..told(6, &[&a], &a) };
    assert!(refused(&other).contains("another trust domain"));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_an_error_and_not_a_first_contact() {
    let state = MemoryState::new();
    for damage in
        [&b"{"[..], br#"{"format":2,"changes":0,"sequence":0,"roots":[],"signing":null,"file":""}"#]
    {
        state.put(&name().expect("name"), damage).await.expect("put");
        assert!(matches!(Accepted::load(&state).await, Err(PluginError::Permanent { .. })));
    }
}
