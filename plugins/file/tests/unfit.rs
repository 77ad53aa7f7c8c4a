//! Roots and keys of openssl that are not taken: each is told with file, place, subject, what it is, and what to do.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use plugin_file::FilePlugin;
use plugins::memory::MemoryKeys;
use plugins::state::MemoryState;
use plugins::{AuthorityDeps, AuthorityPlugin, CallContext, HealthState, RequestId};
use trust::{ManualClock, SeededRandomness, Timestamp, TrustDomain};

const NOW: Timestamp = Timestamp::from_secs(1_780_272_000);
const CA: &str = "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign";
const P256: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256";

fn run(directory: &Path, commands: &str) {
    let shell =
        Command::new("sh").args(["-euc", commands]).current_dir(directory).output().unwrap();
    let said = String::from_utf8_lossy(&shell.stderr).into_owned();
    assert!(
        shell.status.success(),
        "{commands}\n{said}\ninstall the operating system's package `openssl` (3.0 or later)"
    );
}

/// Commands that make a root that signs by itself.
fn root(options: &str) -> String {
    format!(
        "openssl req -x509 -nodes -days 3650 -subj '/O=bad root' -keyout ca-key.pem -out root-cert.pem {options}\n\
         cp root-cert.pem ca-cert.pem"
    )
}

/// What the plugin says of the files that these commands make.
async fn said(commands: &str) -> String {
    let home = tempfile::tempdir().unwrap();
    run(home.path(), commands);
    let settings = format!("directory = {:?}", home.path().to_str().unwrap()).parse().unwrap();
    let (keys, state) = (Arc::new(MemoryKeys::new()), Arc::new(MemoryState::new()));
    let (clock, randomness) = (Arc::new(ManualClock::at(NOW)), Arc::new(SeededRandomness::new(1)));
    let domain = TrustDomain::parse("example.org").unwrap();
    let deps = AuthorityDeps::new(domain, keys, state, clock, randomness);
    let authority = FilePlugin.open(&settings, deps).unwrap();
    let context = CallContext::new(RequestId::parse("check").unwrap(), Duration::from_secs(5));
    let health = authority.check(&context).await;
    assert_eq!(health.state, HealthState::Down, "{}", health.detail);
    assert!(!health.detail.contains("MII"), "nothing of the contents is told: {}", health.detail);
    let told = authority.roots(&context).await.unwrap_err().to_string();
    assert!(
        told.contains(&health.detail) || health.detail.contains(&told),
        "{told}\n{}",
        health.detail
    );
    health.detail
}

#[tokio::test]
async fn roots_that_are_not_taken_are_told_with_file_line_subject_kind_and_remedy() {
    let remedy = "ECDSA on P-256 or P-384, Ed25519, or RSA";
    for (options, words) in [
        (format!("-newkey rsa:1024 {CA}"), ["RSA key of 1024 bits", "2048", remedy]),
        (
            format!("-newkey rsa:2048 -sha256 -sigopt rsa_padding_mode:pss {CA}"),
            ["RSA-PSS", "PKCS #1 v1.5", remedy],
        ),
        (format!("-newkey rsa-pss:2048 {CA}"), ["RSA-PSS key", "not supported", remedy]),
        (format!("{P256} -sha512 {CA}"), ["ECDSA with SHA-512", "SHA-256 or SHA-384", remedy]),
        (format!("-newkey rsa:2048 -sha1 {CA}"), ["RSA with SHA-1", "SHA-256 or SHA-384", remedy]),
        (
            format!("-newkey ec -pkeyopt ec_paramgen_curve:P-521 {CA}"),
            ["EC key on P-521", "not supported", remedy],
        ),
        (
            format!(
                "{P256} -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,digitalSignature"
            ),
            ["keyCertSign", "make another one", "root-cert.pem"],
        ),
    ] {
        let told = said(&root(&options)).await;
        for words in words.iter().chain(&["root-cert.pem", "line 1", "O=bad root"]) {
            assert!(told.contains(words), "{words:?} is missing: {told}");
        }
    }
}

#[tokio::test]
async fn a_key_that_is_not_taken_is_told_with_its_file_and_kind_and_remedy() {
    let good = root(&format!("{P256} {CA}"));
    for (make, kind) in [
        ("openssl ecparam -name secp521r1 -genkey -noout -out ca-key.pem", "EC key on P-521"),
        (
            "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out ca-key.pem",
            "EC key on P-521",
        ),
        (
            "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out ca-key.pem",
            "RSA key of 1024 bits",
        ),
        ("openssl genpkey -algorithm ED448 -out ca-key.pem", "Ed448 key"),
    ] {
        let told = said(&format!("{good}\n{make}")).await;
        for words in ["ca-key.pem", kind, "ECDSA on P-256 or P-384, Ed25519, or RSA"] {
            assert!(told.contains(words), "{words:?} is missing: {told}");
        }
    }
}
