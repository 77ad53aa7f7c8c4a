//! Roots and issuers read back as the profile says, under every kind of key.

use super::*;
use crate::KeySpec;
use crate::call::RequestId;
use crate::memory::MemoryKeys;
use trust::SeededRandomness;
use trust::csr::ParsedCsr;
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

struct Made {
    keys: MemoryKeys,
    root_key: KeyHandle,
    root: Root,
}

fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").expect("trust domain")
}

fn validity(from: i64, to: i64) -> Validity {
    Validity::new(Timestamp::from_secs(from), Timestamp::from_secs(to)).expect("validity")
}

async fn key(keys: &MemoryKeys, name: &str, spec: KeySpec) -> KeyHandle {
    keys.generate(&RequestId::parse(name).expect("id"), spec).await.expect("key")
}

async fn made(spec: KeySpec) -> Made {
    let keys = MemoryKeys::new();
    let root_key = key(&keys, "root", spec).await;
    let profile = RootProfile {
        trust_domain: domain(),
        serial: Serial::random(&SeededRandomness::new(1)),
        validity: validity(1_700_000_000, 2_700_000_000),
    };
    let root = build_root(&keys, &root_key, &profile).await.expect("root");
    Made { keys, root_key, root }
}

async fn issue(made: &Made, public: &PublicKey) -> Result<Certificate, BuildError> {
    let signer = CaSigner {
        keys: &made.keys,
        key_id: &made.root_key.id,
        certificate: made.root.certificate(),
    };
    let profile = IssuerProfile {
        trust_domain: domain(),
        serial: Serial::random(&SeededRandomness::new(2)),
        validity: validity(1_700_000_000, 1_800_000_000),
        path_len: 0,
    };
    sign_issuer(&signer, public, &profile).await
}

fn critical(certificate: &Certificate, wanted: fn(&ParsedExtension<'_>) -> bool) -> bool {
    let (_, parsed) = X509Certificate::from_der(certificate.der()).expect("certificate");
    parsed.extensions().iter().find(|e| wanted(e.parsed_extension())).expect("extension").critical
}

#[tokio::test]
async fn a_root_has_the_profile_of_a_root() {
    for spec in KeySpec::ALL {
        let made = made(spec).await;
        let root = made.root.certificate();
        let extensions = root.extensions();
        let constraints = extensions.basic_constraints.expect("constraints");
        assert!(constraints.ca && constraints.critical);
        assert_eq!(constraints.path_len, None);
        let usage = extensions.key_usage.expect("usage");
        assert!(
            usage.key_cert_sign && usage.crl_sign && usage.critical && !usage.digital_signature
        );
        assert_eq!(extensions.extended_key_usage, None);
        assert_eq!(root.names().uris, ["spiffe://example.org"]);
        assert_eq!(extensions.subject_key_id.as_ref().map(Vec::len), Some(20));
        assert_eq!(root.validity(), validity(1_700_000_000, 2_700_000_000));
        let serial = root.serial().expect("serial of our form").to_string();
        assert!(root.subject_text().contains(&serial), "{}", root.subject_text());
        assert_eq!(root.spki_der(), made.root_key.public.spki_der());
        assert!(critical(root, |e| matches!(e, ParsedExtension::KeyUsage(_))));
    }
}

#[tokio::test]
async fn an_issuer_has_the_profile_of_an_issuer() {
    for spec in KeySpec::ALL {
        let made = made(spec).await;
        let issuer_key = key(&made.keys, "issuer", KeySpec::P256).await;
        let issuer = issue(&made, &issuer_key.public).await.expect("issuer");
        let extensions = issuer.extensions();
        let constraints = extensions.basic_constraints.expect("constraints");
        assert!(constraints.ca && constraints.critical);
        assert_eq!(constraints.path_len, Some(0));
        assert!(extensions.key_usage.is_some_and(|u| u.key_cert_sign && u.crl_sign && u.critical));
        assert_eq!(issuer.names().uris, ["spiffe://example.org"]);
        assert_eq!(
            extensions.authority_key_id,
            made.root.certificate().extensions().subject_key_id
        );
        assert_ne!(extensions.subject_key_id, extensions.authority_key_id);
        assert_eq!(issuer.issuer_der(), made.root.certificate().subject_der());
        assert_eq!(issuer.spki_der(), issuer_key.public.spki_der());
        let (_, parsed) = X509Certificate::from_der(issuer.der()).expect("issuer");
        let (_, root) = X509Certificate::from_der(made.root.der()).expect("root");
        assert!(
            parsed.verify_signature(Some(root.public_key())).is_ok(),
            "another library verifies it"
        );
    }
}

#[tokio::test]
async fn two_roots_never_share_a_subject() {
    let keys = MemoryKeys::new();
    let root_key = key(&keys, "root", KeySpec::P256).await;
    let randomness = SeededRandomness::new(7);
    let mut subjects = Vec::new();
    for _ in 0..2 {
        let profile = RootProfile {
            trust_domain: domain(),
            serial: Serial::random(&randomness),
            validity: validity(1_700_000_000, 2_700_000_000),
        };
        let root = build_root(&keys, &root_key, &profile).await.expect("root");
        subjects.push(root.certificate().subject_der().to_vec());
    }
    assert_ne!(subjects.first(), subjects.last());
}

#[tokio::test]
async fn a_csr_proves_possession_and_asks_for_no_names() {
    let keys = MemoryKeys::new();
    for spec in KeySpec::ALL {
        let handle = key(&keys, spec.as_str(), spec).await;
        let csr = build_issuer_csr(&keys, &handle).await.expect("csr");
        let verified = ParsedCsr::from_der(&csr).expect("parses").verify().expect("verifies");
        assert_eq!(verified.public_key(), &handle.public);
        assert_eq!(verified.names().spiffe_id, None);
    }
}

#[tokio::test]
async fn a_validity_outside_of_what_certificates_can_say_is_refused() {
    let keys = MemoryKeys::new();
    let root_key = key(&keys, "root", KeySpec::P256).await;
    for (from, to) in [(-1, 100), (0, Timestamp::MAX.as_secs() + 1)] {
        let profile = RootProfile {
            trust_domain: domain(),
            serial: Serial::random(&SeededRandomness::new(1)),
            validity: validity(from, to),
        };
        let refused = build_root(&keys, &root_key, &profile).await;
        assert!(matches!(refused, Err(BuildError::Validity { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn the_last_second_that_certificates_can_say_is_written() {
    let keys = MemoryKeys::new();
    let root_key = key(&keys, "root", KeySpec::P256).await;
    let profile = RootProfile {
        trust_domain: domain(),
        serial: Serial::random(&SeededRandomness::new(1)),
        validity: validity(0, Timestamp::MAX.as_secs()),
    };
    let root = build_root(&keys, &root_key, &profile).await.expect("root");
    assert_eq!(root.certificate().validity(), profile.validity);
}

#[tokio::test]
async fn a_backend_that_signs_with_another_key_is_found_out() {
    let keys = MemoryKeys::new();
    let root_key = key(&keys, "root", KeySpec::P256).await;
    let other = key(&keys, "other", KeySpec::P256).await;
    let mixed = KeyHandle { id: other.id, public: root_key.public };
    let refused = build_issuer_csr(&keys, &mixed).await;
    assert_eq!(refused, Err(BuildError::Signature));
}

/// A root whose name rcgen would shorten: two organisational units, which no builder of ours writes.
#[tokio::test]
async fn a_root_whose_name_would_be_lost_is_refused() {
    let keys = MemoryKeys::new();
    let root_key = key(&keys, "root", KeySpec::P256).await;
    let public = PublicKey::parse(root_key.public.spki_der()).expect("key");
    let mut params = ca_params(
        "root",
        &domain(),
        Serial::random(&SeededRandomness::new(1)),
        validity(0, 9_000_000_000),
    )
    .expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationalUnitName, "a");
    params.distinguished_name.push(DnType::OrganizationName, "b");
    let signer = Signer::new(&public);
    let tbs = signer.record(|r| params.self_signed(r).map(|_| ())).expect("tbs");
    // The second name's type, 2.5.4.10, becomes 2.5.4.11 in subject and issuer: the unit is there twice.
    let mut twice = tbs.clone();
    for at in 0..twice.len() - 3 {
        if twice[at..at + 3] == [0x55, 0x04, 0x0a] {
            twice[at + 2] = 0x0b;
        }
    }
    assert_ne!(tbs, twice);
    let der = finish(&keys, &root_key.id, &signer, &twice).await.expect("signed");
    let made = Made { root: Root::parse(&der).expect("root"), keys, root_key };
    assert_eq!(issue(&made, &public).await, Err(BuildError::SubjectLost));
}
