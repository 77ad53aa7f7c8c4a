use plugins::KeySpec;
use plugins::memory::MemoryKeys;
use rotation::{Der, Policy, PreparedRoot, SignedIssuer, step};
use trust::{Sequence, TrustDomain};

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_000);

fn taken(state: &State, event: &Event) -> State {
    step(state, event, NOW, &Policy::default()).unwrap().next
}

fn root(name: &str) -> RootId {
    RootId::of(name.as_bytes())
}

fn prepared(id: &str, name: &str) -> Event {
    let root = PreparedRoot {
        id: root(name),
        der: Der::from(name.as_bytes()),
        not_after: Timestamp::from_secs(100_000),
        exclusive: true,
    };
    Event::RootPrepared {
        request_id: id.parse().unwrap(),
        root,
        replica: Some("ca-1".parse().unwrap()),
    }
}

fn signed(request_id: &RequestId, root_name: &str, key: &KeyId) -> Event {
    let certificate = format!("{request_id}-{root_name}");
    let issuer = SignedIssuer {
        id: CertificateId::of(certificate.as_bytes()),
        root: root(root_name),
        chain: vec![Der::from(certificate.as_bytes())],
        key: key.as_str().parse().unwrap(),
        not_after: Timestamp::from_secs(50_000),
        rehearsal: None,
    };
    Event::IssuerSigned { request_id: request_id.clone(), issuer }
}

fn opened(replica: &str, segment: &str) -> Event {
    Event::SegmentOpened {
        replica: replica.parse().unwrap(),
        segment: segment.parse().unwrap(),
        read: BTreeSet::new(),
    }
}

async fn key(keys: &MemoryKeys, name: &str) -> KeyId {
    let id = plugins::RequestId::parse(name).unwrap();
    keys.generate(&id, KeySpec::P256).await.unwrap().id
}

/// Root `A` signs with the issuer of `ca-1`, and `ca-2` has opened its segment.
async fn two(keys: &MemoryKeys) -> State {
    let f: RequestId = "f".parse().unwrap();
    let start = State::uninitialised(TrustDomain::parse("example.org").unwrap());
    let authority = "main".parse().unwrap();
    let events = [
        Event::BootstrapRequested { request_id: f.clone(), authority },
        prepared("f", "A"),
        signed(&f, "A", &key(keys, "one").await),
        Event::BundlePublished { sequence: Sequence(1) },
        opened("ca-1", "s1"),
        opened("ca-2", "t1"),
    ];
    events.iter().fold(start, |state, event| taken(&state, event))
}

fn issuers(replica: &str, segment: &str, keys: &Arc<MemoryKeys>) -> OwnIssuers {
    let (replica, segment) = (replica.parse().unwrap(), Some(segment.parse().unwrap()));
    OwnIssuers::new(replica, segment, Arc::<MemoryKeys>::clone(keys))
}

#[tokio::test]
async fn a_replica_without_an_issuer_asks_once_and_asks_anew_when_its_key_is_gone() {
    let keys = Arc::new(MemoryKeys::new());
    let state = two(&keys).await;
    assert_eq!(issuers("ca-1", "s1", &keys).due(&state, NOW).await, None);
    let mut second = issuers("ca-2", "t1", &keys);
    assert!(!second.can_sign(&state, NOW).await);
    let due = second.due(&state, NOW).await.unwrap();
    assert_eq!((due.root, due.why), (root("A"), Why::None));
    assert_eq!(second.due(&state, NOW).await, Some(due.clone()), "until it is asked");
    assert!(missing(&state, &"ca-2".parse().unwrap()).unwrap().contains("authority main"));
    let state = taken(&state, &due.event());
    assert_eq!(second.due(&state, NOW).await, None, "it is under way");
    let state = taken(&state, &signed(&due.request_id, "A", &key(&keys, "two").await));
    assert_eq!(second.due(&state, NOW).await, None);
    assert!(second.can_sign(&state, NOW).await && missing(&state, &second.replica).is_none());

    // The same replica on another disk.
    let empty = Arc::new(MemoryKeys::new());
    let state = taken(&state, &opened("ca-2", "t2"));
    let mut again = issuers("ca-2", "t2", &empty);
    assert!(!again.can_sign(&state, NOW).await);
    let lost = again.due(&state, NOW).await.unwrap();
    assert_eq!(lost.why, Why::Lost);
    assert_ne!(lost.request_id, due.request_id, "what was carried out is not carried out again");
    let state = taken(&state, &lost.event());
    let state = taken(&state, &signed(&lost.request_id, "A", &key(&empty, "three").await));
    assert!(again.can_sign(&state, NOW).await);
}

#[tokio::test]
async fn what_an_operator_cancelled_is_asked_for_again_after_an_hour_under_another_name() {
    let keys = Arc::new(MemoryKeys::new());
    let state = two(&keys).await;
    let mut second = issuers("ca-2", "t1", &keys);
    let due = second.due(&state, NOW).await.unwrap();
    let cancelled = Event::IssuerRenewalCancelled {
        request_id: "x".parse().unwrap(),
        root: root("A"),
        replica: Some("ca-2".parse().unwrap()),
    };
    let state = taken(&taken(&state, &due.event()), &cancelled);
    assert_eq!(second.due(&state, NOW).await, None);
    let later = second.due(&state, NOW.plus(CANCELLED_HOLDS)).await.unwrap();
    assert_ne!(later.request_id, due.request_id);
}

#[tokio::test]
async fn a_root_that_is_being_staged_gets_an_issuer_of_every_replica() {
    let keys = Arc::new(MemoryKeys::new());
    let state = two(&keys).await;
    let mut second = issuers("ca-2", "t1", &keys);
    let due = second.due(&state, NOW).await.unwrap();
    let state = taken(&state, &due.event());
    let state = taken(&state, &signed(&due.request_id, "A", &key(&keys, "two").await));
    let rotation = Event::RotationRequested {
        request_id: "r".parse().unwrap(),
        authority: "main".parse().unwrap(),
        mode: rotation::Mode::Auto,
        stage_again: None,
        canary: None,
    };
    let first = issuers("ca-1", "s1", &keys);
    assert!(!second.is_waited_for(&state), "no rotation is under way");
    let state = taken(&taken(&state, &rotation), &prepared("r", "B"));
    assert!(second.is_waited_for(&state) && !first.is_waited_for(&state));
    let due = second.due(&state, NOW).await.unwrap();
    assert_eq!((due.root, due.why), (root("B"), Why::None));
    assert_eq!(issuers("ca-1", "s1", &keys).due(&state, NOW).await, None, "it was asked first");
    assert!(!second.is_waited_for(&taken(&state, &due.event())), "it is asked for");
}

#[tokio::test]
async fn an_issuer_that_begins_in_the_future_is_replaced_once() {
    let keys = Arc::new(MemoryKeys::new());
    let state = two(&keys).await;
    let mut second = issuers("ca-2", "t1", &keys);
    let due = second.due(&state, NOW).await.unwrap();
    let state = taken(&state, &due.event());
    let key = key(&keys, "two").await;
    let begins_at_two_thousand = |request_id: &RequestId| {
        let mut params = rcgen::CertificateParams::default();
        let at = |secs| rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(secs);
        (params.not_before, params.not_after) = (at(2_000), at(50_000));
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let der = certificate.der().to_vec();
        let issuer = SignedIssuer {
            id: CertificateId::of(&der),
            root: root("A"),
            chain: vec![Der::from(der.as_slice())],
            key: key.as_str().parse().unwrap(),
            not_after: Timestamp::from_secs(50_000),
            rehearsal: None,
        };
        Event::IssuerSigned { request_id: request_id.clone(), issuer }
    };
    let state = taken(&state, &begins_at_two_thousand(&due.request_id));
    let later = Timestamp::from_secs(2_000);
    assert!(issuers("ca-2", "t1", &keys).can_sign(&state, later).await);
    assert!(!second.can_sign(&state, NOW).await);
    let ahead = second.due(&state, NOW).await.unwrap();
    assert_eq!(ahead.why, Why::Ahead);
    // Where the next one begins no earlier the authority's clock is ahead, and asking again does not help.
    let state = taken(&taken(&state, &ahead.event()), &begins_at_two_thousand(&ahead.request_id));
    assert_eq!(second.due(&state, NOW).await, None);
}
