use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use time::OffsetDateTime;
use trust::{PeerRole, Timestamp};

use crate::{Actor, OpenSsl, RustlsWebpki, Scene, Unshaken, Verdict, Verifier, program, shake};

const NOW: i64 = 1_800_000_000;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn openssl() -> OpenSsl {
    let found = program(None, std::env::var_os("PATH").as_deref()).expect("install openssl");
    OpenSsl::at(found).unwrap()
}

fn verifiers() -> [Arc<dyn Verifier>; 2] {
    [Arc::new(RustlsWebpki), Arc::new(openssl())]
}

fn ca_params(name: &str, is_ca: IsCa, days: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = is_ca;
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = OffsetDateTime::from_unix_timestamp(NOW - 86_400 * 30).unwrap();
    params.not_after = OffsetDateTime::from_unix_timestamp(NOW + 86_400 * days).unwrap();
    params.use_authority_key_identifier_extension = true;
    params
}

fn ca(path_len: u8) -> IsCa {
    IsCa::Ca(BasicConstraints::Constrained(path_len))
}

fn root(name: &str) -> Ca {
    CertifiedIssuer::self_signed(ca_params(name, ca(2), 30), key()).unwrap()
}

fn below(name: &str, root: &Ca) -> Ca {
    CertifiedIssuer::signed_by(ca_params(name, ca(0), 20), key(), root).unwrap()
}

fn actor(issuer: &Ca, root: &str) -> Arc<Actor> {
    let pair = key();
    let mut params = ca_params("", IsCa::ExplicitNoCa, 1);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names =
        vec![SanType::URI("spiffe://example.org/banyan/rehearsal".try_into().unwrap())];
    let leaf = params.signed_by(&pair, issuer).unwrap();
    let chain = vec![leaf.der().to_vec(), issuer.der().to_vec()];
    Arc::new(Actor { profile: "workload", root: root.to_owned(), chain, key: pair.serialize_der() })
}

fn scene(bundle: &[&Ca], client: &Arc<Actor>, server: &Arc<Actor>) -> Scene {
    let bundle = Arc::new(bundle.iter().map(|root| root.der().to_vec()).collect());
    let (client, server) = (Arc::clone(client), Arc::clone(server));
    Scene { phase: "draining", bundle, roots: "old and new".to_owned(), client, server }
}

/// What each verifier makes of a scene, the one of rustls first.
fn both(scene: &Scene) -> [Result<(), Unshaken>; 2] {
    verifiers().map(|verifier| shake(scene, &verifier, Timestamp::from_secs(NOW)))
}

fn refusal(shaken: Result<(), Unshaken>) -> (String, PeerRole, String) {
    match shaken {
        Err(Unshaken::Failed(failure)) => (failure.verifier, failure.role.0, failure.said),
        other => panic!("no refusal: {other:?}"),
    }
}

#[test]
fn leaves_of_both_roots_meet_with_both_trusted_and_not_with_one() {
    let (old, new) = (root("old"), root("new"));
    let (a, b) = (actor(&below("old ca", &old), "old"), actor(&below("new ca", &new), "new"));
    for (client, server) in [(&a, &a), (&a, &b), (&b, &a), (&b, &b)] {
        assert_eq!(both(&scene(&[&old, &new], client, server)), [Ok(()), Ok(())]);
    }
    assert_eq!(both(&scene(&[&new], &b, &b)), [Ok(()), Ok(())]);
    for shaken in both(&scene(&[&new], &a, &b)) {
        assert_eq!(refusal(shaken).1, PeerRole::Client, "its leaf is the one of the old root");
    }
    for shaken in both(&scene(&[&old], &a, &b)) {
        assert_eq!(refusal(shaken).1, PeerRole::Server);
    }
}

#[test]
fn an_anchor_that_has_expired_or_is_no_ca_or_has_no_room_is_found_by_the_second_alone() {
    let flawed = [
        ("certificate has expired", ca_params("bad", ca(2), -1)),
        ("invalid CA certificate", ca_params("bad", IsCa::ExplicitNoCa, 30)),
        ("path length constraint exceeded", ca_params("bad", ca(0), 30)),
    ];
    for (said, params) in flawed {
        let bad = CertifiedIssuer::self_signed(params, key()).unwrap();
        let leaf = actor(&below("ca", &bad), "bad");
        let [first, second] = both(&scene(&[&bad], &leaf, &leaf));
        assert_eq!(first, Ok(()), "{said}: webpki does not look at it");
        let (verifier, _, found) = refusal(second);
        assert!(verifier.starts_with("OpenSSL 3") && found.contains(said), "{verifier}: {found}");
    }
}

/// A root and an issuer with keys of a curve that rustls with ring does not know, by the command, since ring cannot make them.
#[test]
fn a_chain_over_a_curve_that_rustls_does_not_know_is_found_by_the_first_alone() {
    let place = tempfile::tempdir().unwrap();
    let run = |args: &str| {
        let words = args.split_whitespace();
        let done = Command::new("openssl").args(words).current_dir(place.path()).output();
        let done = done.expect("install openssl");
        assert!(done.status.success(), "{args}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let written = |name: &str, text: &str| std::fs::write(place.path().join(name), text).unwrap();
    written("ca", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n");
    written(
        "leaf",
        "extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=URI:spiffe://example.org/x\n",
    );
    run("ecparam -name secp521r1 -genkey -noout -out root.key");
    run("req -x509 -new -key root.key -subj /CN=odd -days 30 -out root.pem");
    run("ecparam -name secp521r1 -genkey -noout -out ca.key");
    run("req -new -key ca.key -subj /CN=oddca -out ca.csr");
    run(
        "x509 -req -in ca.csr -CA root.pem -CAkey root.key -set_serial 7 -days 20 -extfile ca -out ca.pem",
    );
    run("ecparam -name prime256v1 -genkey -noout -out sec1.key");
    run("pkcs8 -topk8 -nocrypt -in sec1.key -out leaf.key");
    run("req -new -key leaf.key -subj /CN=leaf -out leaf.csr");
    run(
        "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -set_serial 8 -days 1 -extfile leaf -out leaf.pem",
    );
    let der = |name: &str| {
        let text = std::fs::read(place.path().join(name)).unwrap();
        pem::parse(text).unwrap().into_contents()
    };
    let now = std::fs::metadata(place.path().join("leaf.pem")).unwrap().modified().unwrap();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().cast_signed() + 1;
    let chain = vec![der("leaf.pem"), der("ca.pem")];
    let leaf = Arc::new(Actor {
        profile: "workload",
        root: "odd".to_owned(),
        chain,
        key: der("leaf.key"),
    });
    let bundle = Arc::new(vec![der("root.pem")]);
    let (client, server) = (Arc::clone(&leaf), leaf);
    let scene = Scene { phase: "withdrawing", bundle, roots: "odd".to_owned(), client, server };
    let [first, second] = verifiers().map(|one| shake(&scene, &one, Timestamp::from_secs(now)));
    assert_eq!(second, Ok(()), "OpenSSL knows that curve");
    assert_eq!(refusal(first).0, "rustls-webpki");
}

#[test]
fn a_failure_names_verifier_profile_phase_and_chain() {
    let (old, new) = (root("old"), root("new"));
    let leaf = actor(&below("new ca", &new), "the new root");
    let [first, _] = both(&scene(&[&old], &leaf, &leaf));
    let said = first.unwrap_err().to_string();
    for part in
        ["rustls-webpki", "\"workload\"", "the new root", "draining", "new ca", "old and new"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_second_verifier_that_is_not_there_or_is_none_says_so_and_judges_nothing() {
    let place = tempfile::tempdir().unwrap();
    let missing = place.path().join("openssl");
    let said = program(Some(&missing), None).unwrap_err();
    assert!(said.contains("rotation.openssl") && said.contains("openssl"), "{said}");
    let said = program(None, Some(place.path().as_os_str())).unwrap_err();
    assert!(said.contains("install OpenSSL 3"), "{said}");
    let other = program(Some(&PathBuf::from("/bin/sh")), None).unwrap();
    assert!(OpenSsl::at(other).is_err(), "a program that is no OpenSSL");
    // What is no certificate is no refusal of a certificate.
    let anchors = [b"no certificate".to_vec()];
    let presented = crate::Presented {
        chain: &anchors,
        anchors: &anchors,
        role: PeerRole::Server,
        now: Timestamp::from_secs(NOW),
    };
    assert!(matches!(openssl().verify(&presented), Err(Verdict::CouldNotJudge(_))));
}
