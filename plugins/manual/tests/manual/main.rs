//! The plugin with real files and the real openssl: the suite, wrong answers, days and restarts.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod days;
mod human;
mod refused;
mod world;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use host::SystemClock;
use human::{Human, bring, commands, requests};
use plugin_manual::{Ceremony, Folder};
use plugins::state::MemoryState;
use plugins::{HealthState, KeySpec, Outcome};
use plugins_conformance::authority::{Subject, run};
use world::{World, context, domain, issuer_request, opened, pending};

#[tokio::test(flavor = "multi_thread")]
async fn a_person_with_openssl_passes_the_suite() {
    let home = tempfile::tempdir().unwrap();
    let (folder, state) = (home.path().join("ceremonies"), Arc::new(MemoryState::new()));
    let human = Human::beside(&folder);
    let open = {
        let folder = folder.clone();
        move || opened(&folder, &state, Arc::new(SystemClock), "")
    };
    let subject = Subject::new(open, domain(), Arc::new(SystemClock));
    let report = run(&subject.answering_within(Duration::from_secs(20))).await;
    let followed = human.stop();
    report.assert_conforms();
    let lacking = [
        "retire-of-signing-root-is-denied",
        "retired-root-is-gone",
        "retired-request-makes-no-second-root",
        "cross-certificate-is-safe",
        "cross-sign-same-request-same-bytes",
        "cross-sign-other-contents-is-denied",
        "cross-sign-under-unknown-root-is-denied",
        "cross-sign-outliving-its-root-is-denied",
    ];
    assert_eq!(report.skipped(), lacking, "it has no root's key to destroy or to sign with");
    assert!(followed > 8, "only {followed} ceremonies");
    assert_eq!(requests(&folder), Vec::<PathBuf>::new(), "answered ones are put aside");
}

#[tokio::test]
async fn the_commands_make_roots_and_issuers_of_every_kind() {
    let world = World::new();
    for key in [KeySpec::P256, KeySpec::P384, KeySpec::Ed25519] {
        let root = world.root_of(&format!("{key}.root"), key).await;
        let (id, request) = (format!("{key}.issuer"), issuer_request(root).await);
        let name = pending(world.sign(&id, &request).await);
        bring(&world.folder, &name, &world.vault.follow(&world.request(&name)));
        let outcome = world.sign(&id, &request).await;
        assert!(matches!(outcome, Outcome::Ready(_)), "{key}: {}", world.said().await);
    }
    assert_eq!(world.authority.check(&context("check")).await.state, HealthState::Ok);
}

#[tokio::test]
async fn a_text_that_went_out_reads_back_and_damage_is_seen() {
    let world = World::new();
    let root = world.root("one.root").await;
    let name = pending(world.sign("one.issuer", &issuer_request(root).await).await);
    let text = fs::read_to_string(world.request(&name)).unwrap();
    let read = Ceremony::read(&text).unwrap();
    assert_eq!((read.text(), read.name()), (text.clone(), name.as_str()));
    assert_eq!(read.commands(), commands(&text));
    for (from, to) in [
        ("format 1", "format 2"),
        ("csr-sha256:", "csr:"),
        ("issuer-", "issuer-0"),
        ("root:  ", "root: 0"),
    ] {
        assert!(Ceremony::read(&text.replacen(from, to, 1)).is_err(), "{from}");
    }
    let waiting = Folder::at(&world.folder).waiting().unwrap();
    assert_eq!(waiting.iter().map(Ceremony::name).collect::<Vec<_>>(), [name.as_str()]);
}
