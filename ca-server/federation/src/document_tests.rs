use rcgen::{
    BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
};
use serde_json::{Value, json};

use super::*;

fn domain() -> TrustDomain {
    TrustDomain::parse("other.org").unwrap()
}

fn der(algorithm: &'static rcgen::SignatureAlgorithm, ca: bool) -> Vec<u8> {
    let mut params = CertificateParams::default();
    if ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    }
    let key = KeyPair::generate_for(algorithm).unwrap();
    params.self_signed(&key).unwrap().der().to_vec()
}

fn root() -> Vec<u8> {
    der(&PKCS_ECDSA_P256_SHA256, true)
}

fn written(ders: &[Vec<u8>]) -> Value {
    let bundle = Bundle::from_ders(domain(), Sequence(7), ders).unwrap();
    serde_json::from_slice(&write(&bundle, Duration::from_secs(300)).unwrap()).unwrap()
}

fn judged(document: &Value) -> Result<Document, DocumentRefused> {
    read(document.to_string().as_bytes(), &domain())
}

#[test]
fn what_is_written_is_read_back_with_each_kind_of_key() {
    let ders = [root(), der(&PKCS_ECDSA_P384_SHA384, true), der(&PKCS_ED25519, true)];
    let document = written(&ders);
    assert_eq!(
        (document["spiffe_sequence"].as_u64(), document["spiffe_refresh_hint"].as_u64()),
        (Some(7), Some(300))
    );
    for key in document["keys"].as_array().unwrap() {
        assert_eq!(key["use"], "x509-svid");
        assert!(key.get("kid").is_none() && key["x5c"].as_array().unwrap().len() == 1);
    }
    let read = judged(&document).unwrap();
    assert_eq!((read.sequence, read.refresh_hint), (Some(7), Some(300)));
    assert_eq!(read.bundle, Bundle::from_ders(domain(), Sequence(0), &ders).unwrap());
}

#[test]
fn what_is_about_something_else_is_skipped_and_numbers_may_be_missing() {
    let mut document = written(&[root()]);
    let keys = document["keys"].as_array_mut().unwrap();
    keys.push(
        json!({ "kty": "EC", "use": "jwt-svid", "kid": "a", "crv": "P-256", "x": "a", "y": "b" }),
    );
    keys.push(json!({ "kty": "EC", "use": "of-the-future" }));
    keys.push(json!({ "kty": "EC" }));
    document.as_object_mut().unwrap().retain(|name, _| name == "keys");
    let read = judged(&document).unwrap();
    assert_eq!((read.sequence, read.refresh_hint, read.bundle.roots().len()), (None, None, 1));
}

#[test]
fn what_is_no_bundle_is_refused_by_name() {
    let good = written(&[root(), root()]);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut document = good.clone();
        change(&mut document);
        judged(&document).unwrap_err().to_string()
    };
    let text = |value: &[u8]| STANDARD.encode(value);
    for (refused, says) in [
        (with(&|it| it["keys"] = json!([])), "no key with the use x509-svid"),
        (with(&|it| it["keys"][1]["d"] = json!("AA")), "a private key is in it (entry 2)"),
        (with(&|it| it["keys"][0]["kid"] = json!("one")), "entry 1: it has a kid"),
        (with(&|it| it["keys"][0]["x5c"] = json!([])), "x5c has 0 certificates"),
        (with(&|it| it["keys"][0]["x5c"] = json!(["AA", "AA"])), "x5c has 2 certificates"),
        (with(&|it| it["keys"][0]["x5c"] = json!(["?"])), "entry 1: x5c is no base64"),
        (with(&|it| it["keys"][0]["x5c"] = json!([text(b"no")])), "certificate"),
        (
            with(&|it| it["keys"][0]["x5c"] = json!([text(&der(&PKCS_ECDSA_P256_SHA256, false))])),
            "not a CA certificate",
        ),
        (with(&|it| it["keys"][0] = it["keys"][1].clone()), "twice"),
        (
            with(&|it| it["keys"][0]["x"] = it["keys"][1]["x"].clone()),
            "entry 1: the key that it says is not",
        ),
        (with(&|it| it["keys"][0]["kty"] = json!("RSA")), "entry 1: the key that it says is not"),
        (with(&|it| it["spiffe_sequence"] = json!(-1)), "no SPIFFE bundle document"),
        (with(&|it| *it = json!([])), "no SPIFFE bundle document"),
    ] {
        assert!(refused.contains(says), "{refused}");
    }
    let twice = format!("{{\"keys\":{},\"keys\":[]}}", good["keys"]);
    let twice = read(twice.as_bytes(), &domain()).unwrap_err().to_string();
    assert!(twice.contains("duplicate field"), "{twice}");
    let long = vec![b' '; DOCUMENT_BYTES_MAX + 1];
    assert_eq!(read(&long, &domain()), Err(DocumentRefused::TooLong));
}

#[test]
fn by_hand_it_may_be_pem_and_never_with_a_key() {
    let der = root();
    let pem = trust::certificate::pem_block(&der);
    let read = read_given(pem.as_bytes(), &domain()).unwrap();
    assert_eq!((read.sequence, read.bundle.roots().len()), (None, 1));
    let key = KeyPair::generate().unwrap().serialize_pem();
    let with_key = read_given(format!("{pem}{key}").as_bytes(), &domain());
    assert_eq!(with_key, Err(DocumentRefused::PrivateKey(1)));
    assert!(matches!(read_given(b"hello", &domain()), Err(DocumentRefused::NoPem(_))));
    let document = written(&[der]).to_string();
    assert_eq!(read_given(document.as_bytes(), &domain()).unwrap().sequence, Some(7));
}
