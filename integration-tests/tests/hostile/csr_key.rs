//! Family "CSR key".

use integration_tests::untrusted::csr::{CsrDraft, der, pem, rsa_spki, spki};
use integration_tests::untrusted::istio::Attempt;
use integration_tests::untrusted::{CaOptions, TestCa, TestClient, eventually};
use rcgen::PublicKeyData as _;
use std::time::Duration;
use tonic::Code;
use trust::Certificate;
use trust::der::oid;

use crate::judge::assert_refused;
use crate::{Case, fixture, judge_family};

const INVALID: &str = "CSR_KEY_INVALID";
const WEAK: &str = "CSR_KEY_WEAK";
const UNSUPPORTED: &str = "CSR_KEY_UNSUPPORTED";
/// id-X25519 (RFC 8410 §3).
const X25519: &[u8] = &[0x2b, 0x65, 0x6e];
const F4: &[u8] = &[1, 0, 1];

/// An odd number of so many bits.
fn modulus(bits: usize) -> Vec<u8> {
    let mut number = vec![0xff; bits.div_ceil(8)];
    number[0] >>= (8 - bits % 8) % 8;
    number
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_no_good_are_refused() {
    judge_family(async |ca| {
        let curve = der(|w| w.oid(oid::P256));
        let point = rcgen::KeyPair::generate().unwrap().der_bytes().to_vec();
        let mut off_curve = point.clone();
        off_curve[64] ^= 1;
        let case =
            |heading, key, reason| Case::csr(ca, heading, CsrDraft::new().spki(key).pem(), reason);
        let ec =
            |heading, point: &[u8]| case(heading, spki(oid::EC_PUBLIC_KEY, &curve, point), INVALID);
        let rsa = |heading, bits, exponent, reason| {
            case(heading, rsa_spki(&modulus(bits), exponent), reason)
        };
        vec![
            Case::csr(ca, "odd curve: P-521", fixture!("p521"), UNSUPPORTED),
            Case::csr(ca, "odd curve: secp256k1", fixture!("secp256k1"), UNSUPPORTED),
            Case::csr(ca, "odd curve: Ed448", fixture!("ed448"), UNSUPPORTED),
            Case::csr(ca, "explicit parameters", fixture!("p256-explicit"), UNSUPPORTED),
            ec("point off curve", &off_curve),
            ec("point at infinity", &[0]),
            ec("point at the origin", &[&[4][..], &[0; 64]].concat()),
            ec("coordinates above the prime", &[&[4][..], &[0xff; 64]].concat()),
            Case::csr(ca, "RSA < 2048, real", fixture!("rsa-1024"), WEAK),
            Case::csr(ca, "RSA > 4096, real", fixture!("rsa-4104"), UNSUPPORTED),
            rsa("RSA < 2048", 2047, F4, WEAK),
            rsa("RSA > 4096", 4097, F4, UNSUPPORTED),
            rsa("RSA > 4096: as long as a CSR may be", 10_000 * 8, F4, UNSUPPORTED),
            Case::csr(ca, "e != 65537, real", fixture!("rsa-exponent-3"), WEAK),
            rsa("e != 65537: 1", 2048, &[1], WEAK),
            rsa("e != 65537: huge", 2048, &modulus(2047), WEAK),
            Case::csr(ca, "PSS-only OID", fixture!("rsa-key-pss"), UNSUPPORTED),
            case("X25519", spki(X25519, &[], &[9; 32]), UNSUPPORTED),
        ]
    })
    .await;
}

/// A CSR for one of the CA's own keys, with a good signature by that key.
async fn csr_of_ca(ca: &TestCa, certificate: &Certificate) -> String {
    let draft = CsrDraft::new().spki(certificate.spki_der().to_vec());
    let signature = ca.sign_with(certificate.spki_hash(), &draft.info()).await;
    pem(&draft.with_signature(&signature))
}

async fn key_of_ca(ca: &TestCa, heading: &'static str, certificate: &Certificate) -> Case {
    let attempt = Attempt::with_csr(ca, csr_of_ca(ca, certificate).await);
    Case::new(heading, attempt, Code::PermissionDenied, "KEY_OF_CA")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_leaf_is_issued_for_a_key_of_the_ca_present_or_retired() {
    let issuer_life = "[root]\nissuer_lifetime = \"40m\"\n";
    let ca = TestCa::start(CaOptions::with(issuer_life)).await;
    let client = TestClient::connect(&ca).await;
    // The horizon follows the clock, so leaves may be refused for a moment after it was put forward.
    let issuer = async || {
        let answer = client.create(&Attempt::good(&ca)).await.ok()?;
        Some(Certificate::parse(&answer.chain_der()[1]).unwrap())
    };
    let (root, first) = (ca.bundle().roots()[0].certificate().clone(), issuer().await.unwrap());
    for (heading, certificate) in [("our own root's key", &root), ("our own issuer's key", &first)]
    {
        assert_refused(&ca, &client, &key_of_ca(&ca, heading, certificate).await).await;
    }
    // Past half of its life the issuer is renewed, with a new key.
    ca.clock().advance(Duration::from_secs(21 * 60));
    eventually("the issuer is renewed", async || {
        issuer().await.is_some_and(|issuer| issuer.spki_hash() != first.spki_hash())
    })
    .await;
    assert_refused(&ca, &client, &key_of_ca(&ca, "a retired issuer's key", &first).await).await;
    let ca = ca.restart().await.unwrap();
    let client = TestClient::connect(&ca).await;
    assert_refused(
        &ca,
        &client,
        &key_of_ca(&ca, "a retired issuer's key, after a restart", &first).await,
    )
    .await;
    ca.stop().await;
}
