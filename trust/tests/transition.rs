//! A change of the bundle is believed only from a CA that the bundle before it trusts.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SigningKey as _, date_time_ymd,
};
use trust::transition::{Statement, Transition, TransitionRefused};
use trust::{Bundle, Sequence, Timestamp, TrustDomain};

/// 2026-06-01, inside every validity below.
const NOW: Timestamp = Timestamp::from_secs(1_780_272_000);

struct Ca {
    root: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

fn ca(name: &str) -> Ca {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap().der().to_vec();
    Ca { root, issuer: Issuer::new(params, key) }
}

fn bundle(sequence: u64, roots: &[&Ca]) -> Bundle {
    let ders: Vec<_> = roots.iter().map(|ca| ca.root.clone()).collect();
    Bundle::from_ders(TrustDomain::parse("example.org").unwrap(), Sequence(sequence), &ders)
        .unwrap()
}

fn signed(by: &Ca, id: &str, before: &Bundle, after: &Bundle) -> Transition {
    let mut params = params("leaf");
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &by.issuer).unwrap().der().to_vec();
    let statement = Statement::between(before, after, NOW).encode();
    let signature = key.sign(&statement).unwrap();
    Transition { statement, signature, chain: vec![leaf] }
}

const CA_ID: &str = "spiffe://example.org/banyan/ca/ca-1";

#[test]
fn a_ca_of_the_bundle_before_leads_to_the_bundle_after() {
    let (old, new) = (ca("old"), ca("new"));
    let (one, two, three) = (bundle(1, &[&old]), bundle(2, &[&old, &new]), bundle(3, &[&new]));
    assert_eq!(signed(&old, CA_ID, &one, &two).verify(&one, &two), Ok(()));
    assert_eq!(signed(&new, CA_ID, &two, &three).verify(&two, &three), Ok(()));
    let pinned = bundle(0, &[&old]);
    assert_eq!(signed(&old, CA_ID, &one, &two).verify(&pinned, &two), Ok(()), "roots from a file");
    let again = bundle(4, &[&old]);
    let later = signed(&old, CA_ID, &again, &bundle(5, &[&old, &new]));
    assert_eq!(
        later.verify(&one, &bundle(5, &[&old, &new])),
        Ok(()),
        "the same roots under a later number"
    );
}

#[test]
fn nobody_else_leads_anywhere() {
    let (old, new) = (ca("old"), ca("new"));
    let (one, two) = (bundle(1, &[&old]), bundle(2, &[&old, &new]));
    let refused = |by: &Ca, id: &str| signed(by, id, &one, &two).verify(&one, &two).unwrap_err();
    assert!(
        matches!(refused(&new, CA_ID), TransitionRefused::Signer(_)),
        "the new root signs for itself"
    );
    assert_eq!(refused(&old, "spiffe://example.org/web"), TransitionRefused::NotACa);
    assert_eq!(refused(&old, "spiffe://example.org/banyan/agent/a"), TransitionRefused::NotACa);
    assert_eq!(refused(&old, "spiffe://other.org/banyan/ca/ca-1"), TransitionRefused::NotACa);
}

#[test]
fn a_statement_is_about_exactly_these_two_bundles_and_leads_forward() {
    let (old, new) = (ca("old"), ca("new"));
    let (one, two, three) = (bundle(1, &[&old]), bundle(2, &[&old, &new]), bundle(3, &[&new]));
    let good = signed(&old, CA_ID, &one, &two);
    assert_eq!(good.verify(&one, &three), Err(TransitionRefused::OtherBundle));
    assert_eq!(good.verify(&two, &three), Err(TransitionRefused::OtherBundle));
    assert_eq!(good.verify(&one, &bundle(7, &[&old, &new])), Err(TransitionRefused::OtherBundle));
    assert_eq!(
        good.verify(&bundle(9, &[&old]), &two),
        Err(TransitionRefused::OtherBundle),
        "never back"
    );
    let nowhere = signed(&old, CA_ID, &one, &bundle(1, &[&old, &new]));
    assert_eq!(nowhere.verify(&one, &bundle(1, &[&old, &new])), Err(TransitionRefused::NotForward));
}

#[test]
fn no_byte_of_a_transition_can_be_changed() {
    let (old, new) = (ca("old"), ca("new"));
    let (one, two) = (bundle(1, &[&old]), bundle(2, &[&old, &new]));
    let good = signed(&old, CA_ID, &one, &two);
    let changed = |change: &dyn Fn(&mut Transition)| {
        let mut altered = good.clone();
        change(&mut altered);
        altered.verify(&one, &two).is_err()
    };
    for place in 0..good.statement.len() {
        assert!(changed(&|altered| altered.statement[place] ^= 1), "statement byte {place}");
    }
    for place in 0..good.signature.len() {
        assert!(changed(&|altered| altered.signature[place] ^= 1), "signature byte {place}");
    }
    for place in 0..good.chain[0].len() {
        assert!(changed(&|altered| altered.chain[0][place] ^= 1), "leaf byte {place}");
    }
    assert!(changed(&|altered| altered.chain.clear()));
    assert!(changed(&|altered| altered.statement.truncate(20)));
}
