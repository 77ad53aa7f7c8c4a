//! Certificates made by another library, judged by roots, bundles and chains.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType, date_time_ymd,
};
use trust::{
    Bundle, BundleError, Certificate, CertificateError, Chain, ChainError, PeerRole, Root,
    RootError, Sequence, Timestamp, TrustDomain,
};

/// 2026-06-01, inside every default validity below.
const NOW: Timestamp = Timestamp::from_secs(1_780_272_000);

struct Made {
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf_params(uri: &str) -> CertificateParams {
    let mut params = params("leaf");
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn root(params: CertificateParams) -> Made {
    let key = KeyPair::generate().unwrap();
    let der = params.self_signed(&key).unwrap().der().to_vec();
    Made { der, issuer: Issuer::new(params, key) }
}

fn signed(params: CertificateParams, by: &Made) -> Made {
    let key = KeyPair::generate().unwrap();
    let der = params.signed_by(&key, &by.issuer).unwrap().der().to_vec();
    Made { der, issuer: Issuer::new(params, key) }
}

fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn bundle(roots: &[&Made]) -> Bundle {
    let ders: Vec<_> = roots.iter().map(|root| &root.der).collect();
    Bundle::from_ders(domain(), Sequence(1), &ders).unwrap()
}

struct Mesh {
    root: Made,
    middle: Made,
    leaf: Made,
}

fn mesh() -> Mesh {
    let root = root(ca_params("root"));
    let middle = signed(ca_params("middle"), &root);
    let leaf = signed(leaf_params("spiffe://example.org/a"), &middle);
    Mesh { root, middle, leaf }
}

#[test]
fn a_good_chain_ends_in_its_root() {
    let mesh = mesh();
    let other = root(ca_params("other"));
    let bundle = bundle(&[&other, &mesh.root]);
    let chain = Chain::parse(&[&mesh.leaf.der, &mesh.middle.der]).unwrap();
    let expected = Root::parse(&mesh.root.der).unwrap().id();
    assert_eq!(chain.verify(&bundle, NOW, PeerRole::Client), Ok(expected));
    assert_eq!(chain.verify(&bundle, NOW, PeerRole::Server), Ok(expected));
    assert_eq!(chain.leaf().spiffe_id().unwrap().path(), "/a");
}

#[test]
fn a_chain_is_refused_with_its_reason() {
    let mesh = mesh();
    let chain = Chain::parse(&[&mesh.leaf.der, &mesh.middle.der]).unwrap();
    let trusted = bundle(&[&mesh.root]);
    let stranger = bundle(&[&root(ca_params("stranger"))]);
    assert_eq!(chain.verify(&stranger, NOW, PeerRole::Client), Err(ChainError::UnknownRoot));
    let namesake = bundle(&[&root(ca_params("root"))]);
    assert!(matches!(chain.verify(&namesake, NOW, PeerRole::Client), Err(ChainError::Path(_))));
    for outside in [1_700_000_000, 1_830_000_000] {
        let now = Timestamp::from_secs(outside);
        assert_eq!(chain.verify(&trusted, now, PeerRole::Client), Err(ChainError::NotValidNow));
    }
    let mut server_only = leaf_params("spiffe://example.org/a");
    server_only.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server_only =
        Chain::parse(&[&signed(server_only, &mesh.middle).der, &mesh.middle.der]).unwrap();
    assert!(matches!(
        server_only.verify(&trusted, NOW, PeerRole::Client),
        Err(ChainError::Path(_))
    ));
    let ca = Chain::parse(&[&mesh.middle.der]).unwrap();
    assert_eq!(ca.verify(&trusted, NOW, PeerRole::Client), Err(ChainError::CaAsLeaf));
}

#[test]
fn an_expired_root_is_no_anchor_although_webpki_would_take_it() {
    let mut short = ca_params("root");
    short.not_after = date_time_ymd(2026, 3, 1);
    let root = root(short);
    let leaf = signed(leaf_params("spiffe://example.org/a"), &root);
    let chain = Chain::parse(&[&leaf.der]).unwrap();
    assert_eq!(
        chain.verify(&bundle(&[&root]), NOW, PeerRole::Server),
        Err(ChainError::UnknownRoot)
    );
}

#[test]
fn a_renewed_root_with_the_same_key_carries_the_chain_when_the_former_expired() {
    let key = KeyPair::generate().unwrap();
    let mut former = ca_params("root");
    former.not_after = date_time_ymd(2026, 3, 1);
    let former_der = former.self_signed(&key).unwrap().der().to_vec();
    let renewed = ca_params("root");
    let renewed_der = renewed.self_signed(&key).unwrap().der().to_vec();
    let leaf = signed(
        leaf_params("spiffe://example.org/a"),
        &Made { der: renewed_der.clone(), issuer: Issuer::new(renewed, key) },
    );
    let bundle = Bundle::from_ders(domain(), Sequence(1), &[&former_der, &renewed_der]).unwrap();
    let expected = Root::parse(&renewed_der).unwrap().id();
    let chain = Chain::parse(&[&leaf.der]).unwrap();
    assert_eq!(chain.verify(&bundle, NOW, PeerRole::Server), Ok(expected));
}

#[test]
fn a_chain_ends_in_each_of_two_roots_with_one_key_and_in_no_other() {
    let key = KeyPair::generate().unwrap();
    let mut renewed = ca_params("root");
    renewed.not_after = date_time_ymd(2046, 1, 1);
    let (former, other) = (ca_params("root"), mesh().root);
    let former_der = former.self_signed(&key).unwrap().der().to_vec();
    let renewed_der = renewed.self_signed(&key).unwrap().der().to_vec();
    let leaf = signed(
        leaf_params("spiffe://example.org/a"),
        &Made { der: renewed_der.clone(), issuer: Issuer::new(renewed, key) },
    );
    let bundle =
        Bundle::from_ders(domain(), Sequence(1), &[&former_der, &renewed_der, &other.der]).unwrap();
    let chain = Chain::parse(&[&leaf.der]).unwrap();
    let ends_in = |der: &[u8]| {
        chain.verify_under(&bundle, Root::parse(der).unwrap().id(), NOW, PeerRole::Server)
    };
    assert_eq!((ends_in(&former_der), ends_in(&renewed_der)), (Ok(()), Ok(())));
    assert!(ends_in(&other.der).is_err(), "the same name alone is not enough");
}

#[test]
fn chains_out_of_order_are_not_built() {
    let Mesh { root, middle, leaf } = mesh();
    assert_eq!(Chain::parse::<Vec<u8>>(&[]), Err(ChainError::Length(0)));
    assert_eq!(Chain::parse(&[&leaf.der; 9]), Err(ChainError::Length(9)));
    assert_eq!(Chain::parse(&[&leaf.der, &leaf.der]), Err(ChainError::OutOfPlace(1)));
    assert_eq!(Chain::parse(&[&leaf.der, &root.der]), Err(ChainError::OutOfPlace(1)));
    assert_eq!(Chain::parse(&[&leaf.der, &middle.der, &root.der]), Err(ChainError::OutOfPlace(2)));
    assert_eq!(
        Chain::parse(&[&leaf.der, &middle.der, &middle.der]),
        Err(ChainError::OutOfPlace(2))
    );
}

#[test]
fn what_is_no_root_is_refused_with_its_reason() {
    let refused = |der: &[u8]| Root::parse(der).unwrap_err();
    let Mesh { root: good, middle, leaf } = mesh();
    assert_eq!(refused(&leaf.der), RootError::NotCa);
    assert_eq!(refused(&middle.der), RootError::NotSelfSigned);
    let mut flat = ca_params("root");
    flat.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    assert_eq!(refused(&root(flat).der), RootError::PathLength);
    let mut unable = ca_params("root");
    unable.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    assert_eq!(refused(&root(unable).der), RootError::NoCertSign);
    let mut constrained = ca_params("root");
    constrained.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("example.org".into())],
        excluded_subtrees: vec![],
    });
    assert!(Root::parse(&root(constrained).der).is_ok(), "DNS constraints do no harm");
    let mut trailing = good.der.clone();
    trailing.push(0);
    assert!(matches!(refused(&trailing), RootError::Certificate(CertificateError::Encoding(_))));
    let mut broken = good.der.clone();
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&broken), RootError::NotSelfSigned);
}

#[test]
fn what_is_no_bundle_is_refused_with_its_reason() {
    let root_a = root(ca_params("a"));
    let none: [&[u8]; 0] = [];
    assert_eq!(Bundle::from_ders(domain(), Sequence(1), &none), Err(BundleError::Empty));
    let many = [&root_a.der; 65];
    assert_eq!(Bundle::from_ders(domain(), Sequence(1), &many), Err(BundleError::TooManyRoots(65)));
    let id = Root::parse(&root_a.der).unwrap().id();
    let twice = [&root_a.der, &root_a.der];
    assert_eq!(
        Bundle::from_ders(domain(), Sequence(1), &twice),
        Err(BundleError::DuplicateRoot(id))
    );
    let mut foreign = ca_params("b");
    foreign.subject_alt_names = vec![SanType::URI("spiffe://elsewhere.org".try_into().unwrap())];
    assert!(matches!(
        Bundle::from_ders(domain(), Sequence(1), &[&root(foreign).der]),
        Err(BundleError::OtherTrustDomain { .. })
    ));
}

#[test]
fn the_digest_is_that_of_the_content_in_any_order_and_of_no_other() {
    let [a, b] = ["a", "b"].map(|name| root(ca_params(name)));
    assert_eq!(bundle(&[&a, &b]).digest(), bundle(&[&b, &a]).digest());
    assert_ne!(bundle(&[&a]).digest(), bundle(&[&b]).digest());
    let elsewhere = TrustDomain::parse("elsewhere.org").unwrap();
    let other = Bundle::from_ders(elsewhere, Sequence(1), &[&a.der]).unwrap();
    assert_ne!(other.digest(), bundle(&[&a]).digest());
    let later = Bundle::from_ders(domain(), Sequence(2), &[&a.der]).unwrap();
    assert_eq!(later.digest(), bundle(&[&a]).digest());
    assert_ne!(later, bundle(&[&a]));
}

#[test]
fn the_union_trusts_both_and_takes_the_later_sequence() {
    let [a, b, c] = ["a", "b", "c"].map(|name| root(ca_params(name)));
    let later = Bundle::from_ders(domain(), Sequence(7), &[&b.der, &c.der]).unwrap();
    let union = bundle(&[&a, &b]).union(&later).unwrap();
    assert_eq!((union.sequence(), union.roots().len()), (Sequence(7), 3));
    assert!(
        bundle(&[&a]).roots().iter().chain(later.roots()).all(|root| union.contains(&root.id()))
    );
    assert_eq!(union.pem().matches("BEGIN CERTIFICATE").count(), 3);
}

#[test]
fn two_uri_names_are_no_spiffe_identity() {
    let mut params = leaf_params("spiffe://example.org/a");
    params.subject_alt_names.push(SanType::URI("spiffe://example.org/b".try_into().unwrap()));
    let leaf = signed(params, &root(ca_params("root")));
    let certificate = Certificate::parse(&leaf.der).unwrap();
    assert_eq!(certificate.spiffe_id(), Err(CertificateError::UriNames(2)));
}
