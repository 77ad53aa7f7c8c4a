//! Each wrong set of roots is refused for what is wrong with it; a key that does not match is found out.

use std::collections::BTreeSet;

use rcgen::{BasicConstraints, CertificateParams, IsCa};
use trust::{Root, RootId, SeededRandomness, Timestamp, TrustDomain};

use super::forge::{self, ForgeKey, NOW, UNTIL};
use super::*;
use crate::authority::RootSet;
use crate::call::RequestId;
use crate::keys::{KeyBackend, KeySpec};
use crate::memory::MemoryKeys;

#[derive(Default)]
struct World {
    before: Option<CheckedRoots>,
    known: Vec<Root>,
    retired: BTreeSet<RootId>,
    on_purpose: BTreeSet<RootId>,
    path_len: u8,
    /// How many seconds before [`UNTIL`] the roots must last.
    earlier: i64,
}

impl World {
    fn check(&self, roots: &[&[u8]], generation: u64) -> Result<CheckedRoots, Unsafe> {
        let signing = roots.first().map(|der| RootId::of(der));
        self.check_set(&RootSet::new(
            roots.iter().map(|der| der.to_vec()).collect(),
            signing,
            generation,
        ))
    }

    fn check_set(&self, set: &RootSet) -> Result<CheckedRoots, Unsafe> {
        let expected = RootsExpectation {
            trust_domain: &TrustDomain::parse("example.org").expect("domain"),
            path_len: self.path_len.max(1),
            now: Timestamp::from_secs(NOW),
            covers_until: Timestamp::from_secs(UNTIL - self.earlier),
            before: self.before.as_ref(),
            known: &self.known,
            retired: &self.retired,
            on_purpose: &self.on_purpose,
        };
        check_roots(set, &expected)
    }

    fn after(roots: &[&[u8]]) -> Self {
        Self { before: Some(Self::default().check(roots, 5).expect("good")), ..Self::default() }
    }
}

fn root(name: &str) -> Vec<u8> {
    forge::root(&forge::params(name), &ForgeKey::new())
}

fn spoilt(spoil: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = forge::params("root");
    spoil(&mut params);
    forge::root(&params, &ForgeKey::new())
}

fn fault(result: Result<CheckedRoots, Unsafe>) -> Fault {
    match result {
        Err(Unsafe::Certificate { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_set_passes_sorted_by_id() {
    let (a, b) = (root("a"), root("b"));
    let checked = World::default().check(&[&a, &b], 3).expect("good");
    assert!(checked.roots().is_sorted_by_key(Root::id));
    assert_eq!(checked.roots().len(), 2);
    assert_eq!((checked.signing(), checked.generation()), (Some(RootId::of(&a)), 3));
}

#[test]
fn an_empty_set_passes_only_before_the_first_root() {
    assert!(World::default().check(&[], 0).is_ok());
    let old = root("old");
    assert_eq!(World::after(&[&old]).check(&[], 6), Err(Unsafe::NoRootsLeft));
}

#[test]
fn a_change_adds_or_removes_but_never_both() {
    let (a, b, c) = (root("a"), root("b"), root("c"));
    let world = World::after(&[&a, &b]);
    assert!(world.check(&[&a, &b, &c], 6).is_ok());
    assert!(world.check(&[&a], 6).is_ok());
    assert_eq!(world.check(&[&a, &c], 6), Err(Unsafe::AddedAndRemoved { added: 1, removed: 1 }));
}

#[test]
fn a_generation_never_goes_back_and_every_change_raises_it() {
    let (a, b) = (root("a"), root("b"));
    let world = World::after(&[&a]);
    assert!(world.check(&[&a], 5).is_ok());
    assert_eq!(world.check(&[&a], 4), Err(Unsafe::Generation { before: 5, after: 4 }));
    assert_eq!(world.check(&[&a, &b], 5), Err(Unsafe::Generation { before: 5, after: 5 }));
}

#[test]
fn a_signing_root_that_is_not_announced_is_refused() {
    let stranger = RootId::of(b"stranger");
    let set = RootSet::new(vec![root("a")], Some(stranger), 1);
    assert_eq!(World::default().check_set(&set), Err(Unsafe::SigningNotAnnounced(stranger)));
}

#[test]
fn the_same_root_twice_is_refused() {
    let a = root("a");
    assert_eq!(World::default().check(&[&a, &a], 1), Err(Unsafe::DuplicateRoot(RootId::of(&a))));
}

#[test]
fn a_retired_root_comes_back_only_on_purpose() {
    let a = root("a");
    let id = RootId::of(&a);
    let mut world = World { retired: [id].into(), ..World::default() };
    assert_eq!(world.check(&[&a], 1), Err(Unsafe::RetiredRoot(id)));
    world.on_purpose.insert(id);
    assert!(world.check(&[&a], 1).is_ok());
}

#[test]
fn a_renewed_root_with_the_same_key_and_subject_is_taken_only_on_purpose() {
    let key = ForgeKey::new();
    let old = forge::root(&forge::params("root"), &key);
    let mut renewed = forge::params("root");
    forge::set_validity(&mut renewed, NOW - 60, UNTIL + 999_999);
    let renewed = forge::root(&renewed, &key);
    let (known, found) = (RootId::of(&old), RootId::of(&renewed));
    let mut world = World { known: vec![forge::parsed(&old)], ..World::default() };
    assert_eq!(world.check(&[&renewed], 1), Err(Unsafe::SameKeyAndSubject { found, known }));
    world.on_purpose.insert(found);
    assert!(world.check(&[&renewed], 1).is_ok());
    let both = World::default().check(&[&old, &renewed], 1);
    assert!(
        matches!(both, Err(Unsafe::SameKeyAndSubject { .. })),
        "nor two of them in one answer: {both:?}"
    );
}

#[test]
fn a_root_with_too_short_a_path_is_refused() {
    let zero = spoilt(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    assert_eq!(
        fault(World::default().check(&[&zero], 1)),
        Fault::PathLength { found: 0, needed: 1 }
    );
    let one = spoilt(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1)));
    assert!(World::default().check(&[&one], 1).is_ok());
    let crossing = World { path_len: 2, ..World::default() };
    assert_eq!(fault(crossing.check(&[&one], 1)), Fault::PathLength { found: 1, needed: 2 });
}

#[test]
fn a_root_of_another_trust_domain_is_refused() {
    let other = spoilt(|params| params.subject_alt_names = vec![forge::uri("spiffe://other.org")]);
    let refused = fault(World::default().check(&[&other], 1));
    assert_eq!(refused, Fault::OtherTrustDomain("spiffe://other.org".to_owned()));
}

#[test]
fn a_root_with_uri_name_constraints_is_refused() {
    let constrained =
        spoilt(|params| params.custom_extensions = vec![forge::uri_name_constraints()]);
    assert_eq!(fault(World::default().check(&[&constrained], 1)), Fault::UriNameConstraints);
}

#[test]
fn a_new_root_must_last_but_one_that_was_there_may_run_out() {
    let mut ending = forge::params("root");
    forge::set_validity(&mut ending, NOW - 60, UNTIL - 1);
    let ending = forge::root(&ending, &ForgeKey::new());
    assert!(matches!(fault(World::default().check(&[&ending], 1)), Fault::EndsTooEarly { .. }));
    // It was checked when it had longer to go: two days before.
    let earlier = World { earlier: 2 * 86_400, ..World::default() };
    let before = earlier.check(&[&ending], 1).expect("it lasted then");
    let world = World { before: Some(before), ..World::default() };
    assert!(world.check(&[&ending], 2).is_ok());
}

#[test]
fn a_ca_that_is_not_self_signed_is_no_root() {
    let (params, key) = (forge::params("root"), ForgeKey::new());
    let below = forge::signed(&forge::params("below"), &ForgeKey::new(), (&params, &key));
    let refused = fault(World::default().check(&[&below], 1));
    assert_eq!(refused, Fault::NotARoot(trust::RootError::NotSelfSigned));
}

#[test]
fn an_answer_above_the_limit_is_not_looked_at() {
    let half = vec![0; MAX_ANSWER_LEN / 2 + 1];
    let result = World::default().check(&[&half, &half], 1);
    assert_eq!(result, Err(Unsafe::TooLarge { len: MAX_ANSWER_LEN + 2 }));
}

#[tokio::test]
async fn a_key_proves_itself_and_another_does_not() {
    let (keys, randomness) = (MemoryKeys::new(), SeededRandomness::new(1));
    for spec in KeySpec::ALL {
        let request = |name: &str| RequestId::parse(&format!("{name}-{spec}")).expect("id");
        let mine = keys.generate(&request("mine"), spec).await.expect("key");
        let other = keys.generate(&request("other"), spec).await.expect("key");
        assert_eq!(prove_key(&keys, &mine.id, &mine.public, &randomness).await, Ok(()));
        let wrong = prove_key(&keys, &other.id, &mine.public, &randomness).await;
        assert_eq!(wrong, Err(KeyProofError::Unsafe(Unsafe::PrivateKeyMismatch)));
        keys.destroy(&mine.id).await.expect("destroyed");
        let gone = prove_key(&keys, &mine.id, &mine.public, &randomness).await;
        assert!(matches!(gone, Err(KeyProofError::Backend { .. })), "{gone:?}");
    }
}
