use plugins::ca_certificate::{RootProfile, build_root};
use plugins::memory::MemoryKeys;
use plugins::{KeyBackend as _, KeySpec};
use rotation::{Der, Event, Policy, PreparedRoot, RootState, SignedIssuer, step};
use trust::{CertificateId, SeededRandomness, Sequence, Serial, TrustDomain, Validity};

use super::*;

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);
const WHOSE: Whose<'static> = Whose { name: "istio", place: "the files in /etc/cacerts" };

/// One life for each name; the same name twice is one key and one subject.
pub(crate) async fn roots<const N: usize>(wanted: [(&str, u32); N]) -> [Root; N] {
    let keys = MemoryKeys::new();
    let mut made = Vec::new();
    for (name, days) in wanted {
        let id = plugins::RequestId::parse(name).unwrap();
        let key = keys.generate(&id, KeySpec::P256).await.unwrap();
        let profile = RootProfile {
            trust_domain: TrustDomain::parse("example.org").unwrap(),
            serial: Serial::random(&SeededRandomness::new(u64::try_from(name.len()).unwrap())),
            validity: Validity::new(NOW, NOW.plus(DAY * days)).unwrap(),
        };
        made.push(build_root(&keys, &key, &profile).await.unwrap());
    }
    let Ok(made) = made.try_into() else { panic!("as many as were wanted") };
    made
}

pub(crate) fn taken(state: State, event: &Event) -> State {
    step(&state, event, NOW, &Policy::default()).unwrap().next
}

pub(crate) fn bootstrapped(root: &Root) -> State {
    let request_id: rotation::RequestId = "f".parse().unwrap();
    let issuer = SignedIssuer {
        id: CertificateId::of(b"i"),
        root: root.id(),
        chain: vec![Der::from(b"i".as_slice())],
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
    .fold(State::uninitialised(TrustDomain::parse("example.org").unwrap()), taken)
}

fn names(own: &Root, further: &[&Root]) -> RootSet {
    let further = further.iter().map(|root| root.der().to_vec()).collect();
    RootSet::new(vec![own.der().to_vec()], Some(own.id()), 1).with_further(further)
}

fn seen(state: &State, set: &RootSet) -> Difference {
    compare(state, &WHOSE, set, &BTreeSet::new(), NOW)
}

/// What the difference asks for, done.
fn followed(state: State, set: &RootSet) -> State {
    let Difference { to_add, gone, .. } = seen(&state, set);
    let authority = || "istio".parse().unwrap();
    let sequence = state.sequence.next();
    let state = match to_add.is_empty() {
        false => {
            let named = BTreeSet::new();
            taken(state, &Event::FurtherRootsAdded { authority: authority(), roots: to_add, named })
        }
        true => taken(state, &Event::FurtherRootsRemoved { authority: authority(), roots: gone }),
    };
    taken(state, &Event::BundlePublished { sequence })
}

#[tokio::test]
async fn what_is_named_is_to_be_added_and_what_is_named_no_more_is_gone() {
    let [own, one, two] = roots([("a", 900), ("bb", 900), ("ccc", 900)]).await;
    let state = bootstrapped(&own);
    assert_eq!(seen(&state, &names(&own, &[])), Difference::default());
    let both = names(&own, &[&one, &two]);
    assert_eq!(seen(&state, &both).to_add.len(), 2);
    let state = followed(state, &both);
    assert_eq!(seen(&state, &both), Difference::default(), "it is so");
    let left = seen(&state, &names(&own, &[&two]));
    assert_eq!((left.to_add.len(), left.gone.clone()), (0, [one.id()].into()));
    let said = waiting(&state, &WHOSE, &left, Some(Duration::from_secs(30)), None).unwrap();
    for words in [
        "/etc/cacerts",
        "no longer names",
        &one.id().short().to_string(),
        "in 30 s",
        "name it there again",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let state = followed(state, &names(&own, &[&two]));
    assert_eq!(state.bundle().len(), 2);
    // One that becomes the authority's own is not gone: trust has no gap while the mesh moves to it.
    let moved = RootSet::new(vec![two.der().to_vec(), own.der().to_vec()], Some(two.id()), 2);
    assert_eq!(seen(&state, &moved), Difference::default());
}

#[tokio::test]
async fn a_root_of_our_own_goes_by_its_rotation_although_the_file_still_has_it() {
    let [own, next] = roots([("a", 900), ("bb", 900)]).await;
    let state = followed(bootstrapped(&own), &names(&own, &[&next]));
    // The next one signs at the authority, and the file has both in either order.
    let moved = names(&next, &[&own]);
    assert_eq!(seen(&state, &moved), Difference::default(), "the former one still signs here");
    let mut withdrawn = state;
    let entry = withdrawn.roots.get_mut(&own.id()).unwrap();
    (entry.state, entry.horizon) = (RootState::Retired, Some(NOW));
    let left = seen(&withdrawn, &moved);
    assert!(
        left.to_add.is_empty() && left.refused[0].contains("withdrawn here before"),
        "{left:?}"
    );
}

#[tokio::test]
async fn a_renewed_root_of_ours_is_refused_and_a_withdrawn_one_comes_back_only_by_name() {
    let [own, twin, gone] = roots([("a", 900), ("a", 1_000), ("bb", 900)]).await;
    let mut state = bootstrapped(&own);
    let refused = seen(&state, &names(&own, &[&twin]));
    assert!(
        refused.to_add.is_empty() && refused.refused[0].contains("key and the name"),
        "{refused:?}"
    );
    let mut entry = state.roots[&own.id()].clone();
    (entry.state, entry.horizon, entry.der) =
        (RootState::Retired, Some(NOW), Der::from(gone.der()));
    state.roots.insert(gone.id(), entry);
    let set = names(&own, &[&gone]);
    let refused = seen(&state, &set);
    let advice = format!("trust_again = [\"{}\"] in section [authority.istio]", gone.id());
    assert!(refused.to_add.is_empty() && refused.refused[0].contains(&advice), "{refused:?}");
    let again = compare(&state, &WHOSE, &set, &[gone.id()].into(), NOW);
    assert_eq!((again.to_add.len(), again.refused.len()), (1, 0));
    state.roots.get_mut(&gone.id()).unwrap().tainted = true;
    let never = compare(&state, &WHOSE, &set, &[gone.id()].into(), NOW);
    assert!(never.to_add.is_empty() && never.refused[0].contains("compromised"), "{never:?}");
}

#[tokio::test]
async fn an_authority_that_never_signed_here_has_nothing_trusted() {
    let [own, other] = roots([("a", 900), ("bb", 900)]).await;
    let state = bootstrapped(&own);
    let stranger = Whose { name: "spare", place: "" };
    let set = names(&own, &[&other]);
    assert_eq!(compare(&state, &stranger, &set, &BTreeSet::new(), NOW), Difference::default());
}

#[tokio::test]
async fn status_tells_of_an_authority_without_section_and_of_an_end() {
    let [own, soon, long] = roots([("a", 900), ("bb", 10), ("ccc", 900)]).await;
    let state = followed(bootstrapped(&own), &names(&own, &[&soon, &long]));
    let month = DAY * 30;
    let [ends] = &conditions(&state, |_| true, NOW, month)[..] else { panic!("one ends") };
    assert!(
        ends.contains(&soon.id().short().to_string()) && ends.contains("takes its place"),
        "{ends}"
    );
    let orphans = conditions(&state, |_| false, NOW, Duration::ZERO);
    assert_eq!(orphans.len(), 2);
    assert!(orphans[0].contains("no section [authority.istio]"), "{orphans:?}");
    let said = forecast(&state).unwrap();
    assert!(said.contains("stay trusted") && said.contains("named by istio"), "{said}");
    assert_eq!(forecast(&bootstrapped(&own)), None);
}

#[tokio::test]
async fn another_root_of_the_authority_that_drains_is_named() {
    let [own, next] = roots([("a", 900), ("bb", 900)]).await;
    let mut state = bootstrapped(&own);
    assert!(others_draining(&state, "istio").is_empty());
    let mut former = state.roots[&own.id()].clone();
    (former.state, former.der) = (RootState::Draining, Der::from(next.der()));
    state.roots.insert(next.id(), former);
    let [said] = &others_draining(&state, "istio")[..] else { panic!("one drains") };
    assert!(said.contains("another root of this authority is still trusted"), "{said}");
    assert!(said.contains(&next.id().short().to_string()), "{said}");
    assert!(others_draining(&state, "own").is_empty());
}
