//! Each wrong issuer is refused for what is wrong with it.

use std::collections::BTreeSet;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod,
    KeyUsagePurpose,
};
use trust::{RootId, SignatureAlgorithm, Timestamp, TrustDomain};

use super::forge::{self, ForgeKey, NOW, UNTIL, WeakRsa};
use super::*;
use crate::answers::JudgedIssuer;
use crate::authority::{IssuerChain, IssuerRequest};
use crate::keys::KeySpec;
use crate::ring_keys::RingKey;

/// A root, and an issuer's key to be certified under it.
struct World {
    root_params: CertificateParams,
    root_key: ForgeKey,
    root: Vec<u8>,
    issuer_key: ForgeKey,
    retired: BTreeSet<RootId>,
    path_len: u8,
}

impl World {
    fn new() -> Self {
        let (root_params, root_key) = (forge::params("root"), ForgeKey::new());
        let root = forge::root(&root_params, &root_key);
        Self {
            root,
            root_params,
            root_key,
            issuer_key: ForgeKey::new(),
            retired: BTreeSet::new(),
            path_len: 0,
        }
    }

    fn with_root(root_params: CertificateParams) -> Self {
        let root_key = ForgeKey::new();
        let root = forge::root(&root_params, &root_key);
        Self { root, root_params, root_key, ..Self::new() }
    }

    fn issuer(&self, params: &CertificateParams) -> Vec<u8> {
        forge::signed(params, &self.issuer_key, (&self.root_params, &self.root_key))
    }

    fn root_id(&self) -> RootId {
        RootId::of(&self.root)
    }

    fn check(&self, certificates: Vec<Vec<u8>>) -> Result<CheckedIssuer, Unsafe> {
        self.check_for(self.root_id(), certificates)
    }

    fn check_for(&self, root: RootId, certificates: Vec<Vec<u8>>) -> Result<CheckedIssuer, Unsafe> {
        let expected = IssuerExpectation {
            key: self.issuer_key.public(),
            trust_domain: &TrustDomain::parse("example.org").expect("domain"),
            root,
            path_len: self.path_len,
            now: Timestamp::from_secs(NOW),
            covers_until: Timestamp::from_secs(UNTIL),
            announced: &[forge::parsed(&self.root)],
            retired: &self.retired,
        };
        check_issuer_answer(&IssuerChain { certificates }, &expected)
    }

    /// The fault of an issuer with these parameters.
    fn fault_of(&self, spoil: impl FnOnce(&mut CertificateParams)) -> Fault {
        let mut params = forge::params("issuer");
        spoil(&mut params);
        fault(self.check(vec![self.issuer(&params)]), Which::Issuer)
    }
}

fn fault(result: Result<CheckedIssuer, Unsafe>, expected: Which) -> Fault {
    match result {
        Err(Unsafe::Certificate { which, fault }) if which == expected => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_issuer_passes_with_its_root() {
    let world = World::new();
    let issuer = world.issuer(&forge::params("issuer"));
    let checked = world.check(vec![issuer.clone()]).expect("good");
    assert_eq!(checked.root(), world.root_id());
    assert_eq!(checked.chain().first().map(|c| c.der().to_vec()), Some(issuer));
    assert_eq!(checked.not_after(), Timestamp::from_secs(UNTIL + 86_400));
}

#[test]
fn a_good_issuer_under_an_intermediate_passes() {
    let world = World::new();
    let (params, key) = (forge::params("intermediate"), ForgeKey::new());
    let intermediate = forge::signed(&params, &key, (&world.root_params, &world.root_key));
    let issuer = forge::signed(&forge::params("issuer"), &world.issuer_key, (&params, &key));
    assert!(world.check(vec![issuer.clone(), intermediate.clone()]).is_ok());
    let turned = world.check(vec![intermediate, issuer.clone()]);
    assert_eq!(fault(turned, Which::Issuer), Fault::WrongKey);
    assert_eq!(world.check(vec![issuer]), Err(Unsafe::UnknownRoot), "the intermediate is missing");
}

#[test]
fn an_issuer_for_another_key_is_refused() {
    let world = World::new();
    let other = forge::signed(
        &forge::params("issuer"),
        &ForgeKey::new(),
        (&world.root_params, &world.root_key),
    );
    assert_eq!(fault(world.check(vec![other]), Which::Issuer), Fault::WrongKey);
}

#[test]
fn an_issuer_that_is_no_ca_is_refused() {
    assert_eq!(World::new().fault_of(|params| params.is_ca = IsCa::ExplicitNoCa), Fault::NotCa);
    assert_eq!(World::new().fault_of(|params| params.is_ca = IsCa::NoCa), Fault::NotCa);
}

#[test]
fn constraints_that_are_not_critical_are_refused() {
    let world = World::new();
    let good = world.issuer(&forge::params("issuer"));
    let critical = [0x06, 0x03, 0x55, 0x1d, 0x13, 0x01, 0x01, 0xff];
    let loose = [0x06, 0x03, 0x55, 0x1d, 0x13, 0x01, 0x01, 0x00];
    let bad = forge::patched(&good, &world.root_key, &critical, &loose);
    assert_eq!(fault(world.check(vec![bad]), Which::Issuer), Fault::ConstraintsNotCritical);
}

#[test]
fn an_issuer_that_may_not_sign_certificates_is_refused() {
    let only_crls =
        |params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::CrlSign];
    assert_eq!(World::new().fault_of(only_crls), Fault::NoCertSign);
    assert_eq!(World::new().fault_of(|params| params.key_usages.clear()), Fault::NoCertSign);
}

#[test]
fn an_issuer_whose_leaves_may_only_serve_is_refused() {
    let servers = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    assert_eq!(World::new().fault_of(servers), Fault::ExtendedKeyUsage);
}

#[test]
fn a_path_too_short_is_refused_wherever_it_is() {
    let zero =
        |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let world = World { path_len: 1, ..World::new() };
    assert_eq!(world.fault_of(zero), Fault::PathLength { found: 0, needed: 1 });

    let mut short = forge::params("root");
    short.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    let world = World::with_root(short);
    let (params, key) = (forge::params("intermediate"), ForgeKey::new());
    let intermediate = forge::signed(&params, &key, (&world.root_params, &world.root_key));
    let issuer = forge::signed(&forge::params("issuer"), &world.issuer_key, (&params, &key));
    let refused = fault(world.check(vec![issuer, intermediate]), Which::Root(world.root_id()));
    assert_eq!(refused, Fault::PathLength { found: 1, needed: 2 });
}

#[test]
fn missing_or_wrong_key_identifiers_are_refused() {
    let world = World::new();
    let good = world.issuer(&forge::params("issuer"));
    let unnamed = forge::patched(
        &good,
        &world.root_key,
        &[0x06, 3, 0x55, 0x1d, 0x0e],
        &[0x06, 3, 0x55, 0x1d, 0x7f],
    );
    assert_eq!(fault(world.check(vec![unnamed]), Which::Issuer), Fault::NoSubjectKeyId);

    let without =
        |params: &mut CertificateParams| params.use_authority_key_identifier_extension = false;
    assert_eq!(world.fault_of(without), Fault::AuthorityKeyId);

    let mut other = world.root_params.clone();
    other.key_identifier_method = KeyIdMethod::PreSpecified(vec![7; 20]);
    let wrong =
        forge::signed(&forge::params("issuer"), &world.issuer_key, (&other, &world.root_key));
    assert_eq!(fault(world.check(vec![wrong]), Which::Issuer), Fault::AuthorityKeyId);
}

#[test]
fn a_validity_that_does_not_cover_what_was_asked_is_refused() {
    let ends = UNTIL - 1;
    let short = World::new().fault_of(|params| forge::set_validity(params, NOW - 60, ends));
    let (ends, needed) = (Timestamp::from_secs(ends), Timestamp::from_secs(UNTIL));
    assert_eq!(short, Fault::EndsTooEarly { ends, needed });
    let later = World::new().fault_of(|params| forge::set_validity(params, NOW + 1, UNTIL));
    assert_eq!(later, Fault::NotYetValid(Timestamp::from_secs(NOW + 1)));

    let mut ending = forge::params("root");
    forge::set_validity(&mut ending, NOW - 60, UNTIL - 1);
    let world = World::with_root(ending);
    let refused = fault(
        world.check(vec![world.issuer(&forge::params("issuer"))]),
        Which::Root(world.root_id()),
    );
    assert_eq!(refused, Fault::EndsTooEarly { ends, needed });
}

#[test]
fn an_issuer_that_was_signed_a_moment_ago_covers_what_was_asked_for_then() {
    let world = World::new();
    let mut params = forge::params("issuer");
    forge::set_validity(&mut params, NOW - 60, UNTIL);
    let certificate = world.issuer(&params);
    let lifetime = Duration::from_secs(u64::try_from(UNTIL - NOW).expect("later"));
    let domain = TrustDomain::parse("example.org").expect("domain");
    let request = IssuerRequest::new(world.root_id(), Vec::new(), domain, lifetime);
    let judged_at = |moment: i64| {
        let (chain, root) =
            (IssuerChain::new(vec![certificate.clone()]), forge::parsed(&world.root));
        let now = Timestamp::from_secs(moment);
        JudgedIssuer::of_request(chain, &request, world.issuer_key.public(), &root, now).map(drop)
    };
    for later in [0, 1, 60] {
        assert_eq!(judged_at(NOW + later), Ok(()), "{later} s later");
    }
    let (ends, needed) = (Timestamp::from_secs(UNTIL), Timestamp::from_secs(UNTIL + 1));
    let late = judged_at(NOW + 61).expect_err("it was asked for more than a minute ago");
    assert_eq!(fault(Err(late), Which::Issuer), Fault::EndsTooEarly { ends, needed });
}

#[test]
fn weak_signature_algorithms_are_refused() {
    const ECDSA_SHA1: &[u8] = &[0x30, 0x09, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
    let world = World::new();
    let good = world.issuer(&forge::params("issuer"));
    let ecdsa = SignatureAlgorithm::EcdsaP256Sha256.der();
    for (inside, outside) in [(ECDSA_SHA1, ECDSA_SHA1), (ECDSA_SHA1, ecdsa), (ecdsa, ECDSA_SHA1)] {
        let bad = forge::with_algorithm(&good, &world.root_key, inside, outside);
        let refused = fault(world.check(vec![bad]), Which::Issuer);
        assert!(
            matches!(&refused, Fault::SignatureAlgorithm(name) if name.starts_with("ECDSA")),
            "{refused:?}"
        );
    }
    let same = forge::with_algorithm(&good, &world.root_key, ecdsa, ecdsa);
    assert!(world.check(vec![same]).is_ok(), "the forge itself spoils nothing else");
}

#[test]
fn a_weak_rsa_key_in_the_chain_is_refused() {
    let world = World::new();
    let issuer = world.issuer(&forge::params("issuer"));
    let weak = forge::signed(
        &forge::params("weak"),
        &WeakRsa::new(),
        (&world.root_params, &world.root_key),
    );
    let refused = fault(world.check(vec![issuer, weak]), Which::Intermediate(1));
    let key = "RSA key of 1024 bits".to_owned();
    assert_eq!(refused, Fault::WeakKey { key, problem: trust::key::KeyError::RsaTooShort });
}

#[test]
fn extensions_that_peers_refuse_are_refused() {
    let unknown = |params: &mut CertificateParams| {
        params.custom_extensions =
            vec![forge::extension(&[1, 3, 6, 1, 4, 1, 99999, 1], &[0x05, 0x00], true)];
    };
    assert_eq!(
        World::new().fault_of(unknown),
        Fault::CriticalExtension("1.3.6.1.4.1.99999.1".to_owned())
    );
    let constrained = |params: &mut CertificateParams| {
        params.custom_extensions = vec![forge::uri_name_constraints()];
    };
    assert_eq!(World::new().fault_of(constrained), Fault::UriNameConstraints);
}

#[test]
fn an_issuer_of_another_trust_domain_is_refused() {
    for other in
        ["spiffe://example.com", "spiffe://example.org.evil.net", "spiffe://example.com/ca"]
    {
        let refused =
            World::new().fault_of(|params| params.subject_alt_names = vec![forge::uri(other)]);
        assert_eq!(refused, Fault::OtherTrustDomain(other.to_owned()));
    }
}

#[test]
fn a_chain_whose_links_do_not_hold_is_refused() {
    let world = World::new();
    let (params, key) = (forge::params("intermediate"), ForgeKey::new());
    let intermediate = forge::signed(&params, &key, (&world.root_params, &world.root_key));
    let forged =
        forge::signed(&forge::params("issuer"), &world.issuer_key, (&params, &ForgeKey::new()));
    let refused = fault(world.check(vec![forged, intermediate.clone()]), Which::Issuer);
    assert_eq!(refused, Fault::NotSignedByNext, "another key");
    let renamed =
        forge::signed(&forge::params("issuer"), &world.issuer_key, (&forge::params("other"), &key));
    let refused = fault(world.check(vec![renamed, intermediate]), Which::Issuer);
    assert_eq!(refused, Fault::NotSignedByNext, "another name");
}

#[test]
fn a_chain_to_a_root_that_was_not_announced_is_refused() {
    let (world, other) = (World::new(), World::new());
    let issuer = forge::signed(
        &forge::params("issuer"),
        &world.issuer_key,
        (&other.root_params, &other.root_key),
    );
    assert_eq!(world.check(vec![issuer]), Err(Unsafe::UnknownRoot));
}

#[test]
fn a_chain_to_another_root_than_asked_is_refused() {
    let world = World::new();
    let (asked, found) = (RootId::of(b"another"), world.root_id());
    let result = world.check_for(asked, vec![world.issuer(&forge::params("issuer"))]);
    assert_eq!(result, Err(Unsafe::OtherRoot { asked, found }));
}

#[test]
fn a_chain_to_a_retired_root_is_refused() {
    let mut world = World::new();
    let id = world.root_id();
    world.retired.insert(id);
    let issuer = world.issuer(&forge::params("issuer"));
    assert_eq!(world.check(vec![issuer]), Err(Unsafe::RetiredRoot(id)));
}

#[test]
fn a_root_in_the_chain_is_refused() {
    let world = World::new();
    let issuer = world.issuer(&forge::params("issuer"));
    let result = world.check(vec![issuer, world.root.clone()]);
    assert_eq!(fault(result, Which::Intermediate(1)), Fault::RootInChain);
}

#[test]
fn chains_of_odd_lengths_and_sizes_are_refused() {
    let world = World::new();
    assert_eq!(world.check(vec![]), Err(Unsafe::ChainLength { count: 0 }));
    let issuer = world.issuer(&forge::params("issuer"));
    assert_eq!(world.check(vec![issuer; 8]), Err(Unsafe::ChainLength { count: 8 }));
    let len = MAX_ANSWER_LEN + 1;
    assert_eq!(world.check(vec![vec![0; len]]), Err(Unsafe::TooLarge { len }));
}

#[test]
fn bytes_that_are_no_certificate_are_refused() {
    let world = World::new();
    let mut trailing = world.issuer(&forge::params("issuer"));
    trailing.push(0);
    let (_, private_key) = RingKey::generate(KeySpec::P256).expect("key");
    for bytes in [b"".to_vec(), b"nonsense".to_vec(), trailing, private_key.to_vec()] {
        let refused = fault(world.check(vec![bytes]), Which::Issuer);
        assert!(matches!(refused, Fault::Malformed(_)), "{refused:?}");
    }
}
