//! The rehearsal of a new root at a real server: what both verifiers take, what one of them refuses, and what is said when one is
//! missing.
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for product code")]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use ca_server::Running;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{
    DecideRotationRequest, GetRotationRequest, ReadJournalRequest, Rotation, StartRotationRequest,
    StatusRequest, StatusResponse, Verb,
};
use rotation::{Event, Rehearsal};
use rotation_driver::JournalEntry;
use support::cacerts::OtherCa;
use support::{Place, admin, admin_channel, eventually, once_free, stop};

const SELF_SIGNED: &str = "[authority.main]\nplugin = \"self-signed\"\n";
const FILES: &str = "[authority.corp]\nplugin = \"file\"\ndirectory = \"corp\"\nexclusive = true\n";
const LONG: Duration = Duration::from_secs(86_400 * 3_650);

fn quick(more: &str) -> String {
    format!("{SELF_SIGNED}[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"1s\"\n{more}\n")
}

async fn rotation(running: &Running) -> Rotation {
    let mut rotations = RotationServiceClient::new(admin_channel(running).await);
    rotations.get_rotation(GetRotationRequest {}).await.unwrap().into_inner()
}

async fn status(running: &Running) -> StatusResponse {
    admin(running).await.status(StatusRequest {}).await.unwrap().into_inner()
}

async fn start(running: &Running, id: &str, authority: &str, mode: &str) {
    let mut rotations = RotationServiceClient::new(admin_channel(running).await);
    let (request_id, authority, mode) = (id.to_owned(), authority.to_owned(), mode.to_owned());
    let wish = StartRotationRequest { request_id, authority, mode, ..Default::default() };
    rotations.start_rotation(wish).await.unwrap();
}

/// What a rotation would come to: why it would not get on, and what is said of it.
async fn forecast(running: &Running) -> (Vec<String>, Vec<String>) {
    let mut rotations = RotationServiceClient::new(admin_channel(running).await);
    let (request_id, dry_run) = ("dry".to_owned(), true);
    let wish = StartRotationRequest { request_id, dry_run, ..Default::default() };
    let answer = rotations.start_rotation(wish).await.unwrap().into_inner();
    (answer.obstacles, answer.forecast)
}

async fn abort(running: &Running) {
    let mut rotations = RotationServiceClient::new(admin_channel(running).await);
    let (request_id, verb) = ("abort".to_owned(), Verb::Abort.into());
    rotations
        .decide_rotation(DecideRotationRequest { request_id, verb, ..Default::default() })
        .await
        .unwrap();
}

async fn phase(running: &Running, wanted: &str) {
    eventually(wanted, async || rotation(running).await.phase == wanted).await;
}

async fn over(running: &Running, id: &str) {
    eventually(id, async || {
        let rotation = rotation(running).await;
        rotation.phase == "steady" && rotation.done.iter().any(|done| done == id)
    })
    .await;
}

fn has(said: &[String], words: &[&str]) -> bool {
    said.iter().any(|text| words.iter().all(|word| text.contains(word)))
}

/// Waits until the rotation says why it stays in staging, and looks that nothing was published.
async fn stays(running: &Running, words: &[&str]) {
    eventually("it says why", async || has(&rotation(running).await.troubles, words)).await;
    assert!(has(&status(running).await.conditions, words), "status says it too");
    assert_eq!(rotation(running).await.phase, "staging");
    assert_eq!(running.bundle().roots().len(), 1, "nothing is published");
    let legal = rotation(running).await.legal;
    assert!(legal.iter().any(|verb| verb == "abort"), "{legal:?}");
}

/// What the journal says of the rehearsals of this server's issuers, the first one's apart: it met nobody.
async fn journaled(running: &Running) -> Vec<Rehearsal> {
    let mut rotations = RotationServiceClient::new(admin_channel(running).await);
    let page = rotations.read_journal(ReadJournalRequest::default()).await.unwrap().into_inner();
    let entries = page.entries.iter().map(|entry| serde_json::from_slice(&entry.entry).unwrap());
    let of = |entry: JournalEntry| match entry.event {
        Event::IssuerSigned { issuer, .. } => issuer.rehearsal,
        _ => None,
    };
    entries.filter_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_verifiers_judge_before_anything_is_published_and_the_journal_names_them() {
    let place = Place::new(&quick(""));
    let running = place.start().await.unwrap();
    let (obstacles, said) = forecast(&running).await;
    assert_eq!(obstacles, Vec::<String>::new());
    assert!(has(&said, &["rustls-webpki and /", "openssl"]), "{said:#?}");
    assert_eq!(journaled(&running).await, [], "the first root has nobody to meet");
    start(&running, "one", "main", "manual").await;
    phase(&running, "distributing").await;
    let rehearsed = journaled(&running).await;
    let [rehearsal] = rehearsed.as_slice() else { panic!("{rehearsed:?}") };
    assert_eq!(rehearsal.verifiers[0], "rustls-webpki");
    assert!(rehearsal.verifiers[1].starts_with("OpenSSL "), "{rehearsal:?}");
    // Two profiles, five meetings, two verifiers.
    assert_eq!((rehearsal.handshakes, rehearsal.left_out.as_slice()), (20, [].as_slice()));
    let explained = rotation(&running).await.rehearsed;
    assert!(has(&explained, &["20 handshakes", "rustls-webpki and OpenSSL"]), "{explained:?}");
    assert!(!has(&status(&running).await.waiting, &["not rehearsed"]));
    // The leaves that were made for it are no members' leaves.
    abort(&running).await;
    over(&running, "one").await;
    start(&running, "two", "main", "auto").await;
    over(&running, "two").await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_forbids_the_servers_own_name_stays_in_staging_over_a_restart_until_it_is_given_up()
 {
    let place = Place::durable(&format!("{FILES}{}", quick("")));
    let only_corp = OtherCa::named_only("corp", LONG, "corp.example");
    only_corp.put(&only_corp, &place.path().join("corp"));
    let running = place.start().await.unwrap();
    start(&running, "one", "corp", "auto").await;
    let words = ["the rehearsal failed: rustls-webpki refuses", "\"server\"", "draining", "abort"];
    stays(&running, &words).await;
    assert_eq!(journaled(&running).await, [], "no issuer of it was taken");
    stop(running).await;
    let running = once_free(&place).await.unwrap();
    stays(&running, &words).await;
    abort(&running).await;
    over(&running, "one").await;
    let free = OtherCa::root("corp two", LONG);
    free.put(&free, &place.path().join("corp"));
    start(&running, "two", "corp", "auto").await;
    over(&running, "two").await;
    assert_eq!(running.bundle().roots()[0].id(), free.id());
    stop(running).await;
}

/// An intermediate that names its issuer by a serial number that is not the root's, as one that outlived the renewal of its root:
/// webpki looks at names and keys alone.
#[tokio::test(flavor = "multi_thread")]
async fn what_openssl_alone_refuses_holds_the_rotation_and_a_mended_authority_gets_another_chance()
{
    let place = Place::new(&format!("{FILES}{}", quick("")));
    let root = OtherCa::root("corp", LONG);
    let stale = root.below_serial("intermediate", LONG, 7);
    let directory = place.path().join("corp");
    stale.put(&root, &directory);
    let running = place.start().await.unwrap();
    start(&running, "one", "corp", "auto").await;
    stays(&running, &["the rehearsal failed: OpenSSL 3", "issuer certificate", "intermediate"])
        .await;
    root.below("intermediate", LONG, 1).put(&root, &directory);
    over(&running, "one").await;
    assert_eq!(running.bundle().roots()[0].id(), root.id());
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_second_verifier_is_said_and_holds_nothing_unless_both_are_asked_for() {
    let missing = "openssl = \"/nonexistent/openssl\"";
    let place = Place::new(&quick(missing));
    let running = place.start().await.unwrap();
    let (obstacles, said) = forecast(&running).await;
    assert_eq!(obstacles, Vec::<String>::new());
    assert!(has(&said, &["rustls-webpki alone", "/nonexistent/openssl"]), "{said:#?}");
    start(&running, "one", "main", "manual").await;
    phase(&running, "distributing").await;
    let words = ["no second verifier judged", "/nonexistent/openssl"];
    let [rehearsal] = &journaled(&running).await[..] else { panic!() };
    assert_eq!(rehearsal.verifiers, ["rustls-webpki"]);
    assert!(has(&rehearsal.left_out, &words), "{rehearsal:?}");
    assert!(has(&rotation(&running).await.rehearsed, &words));
    assert!(has(&status(&running).await.waiting, &words), "{:?}", status(&running).await.waiting);
    assert_eq!(status(&running).await.conditions, Vec::<String>::new(), "it is not wrong");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_both_asked_for_nothing_is_begun_until_the_second_verifier_is_there() {
    let place = Place::new("");
    let program = place.path().join("openssl");
    let more = format!("rehearse = \"both\"\nopenssl = \"{}\"", program.display());
    let place =
        place.reconfigured("reflection = true\n", &format!("reflection = true\n{}", quick(&more)));
    let running = place.start().await.unwrap();
    let words =
        ["rotation.rehearse is \"both\"", "the second verifier is missing", "rotation.openssl"];
    assert!(has(&status(&running).await.conditions, &words), "before anybody needs it");
    assert!(has(&forecast(&running).await.0, &words));
    start(&running, "one", "main", "auto").await;
    stays(&running, &words).await;
    assert!(rotation(&running).await.to_root.is_empty(), "no root was asked for");
    std::os::unix::fs::symlink(openssl(), &program).unwrap();
    over(&running, "one").await;
    assert_eq!(journaled(&running).await[0].verifiers.len(), 2);
    assert_eq!(status(&running).await.conditions, Vec::<String>::new());
    stop(running).await;
}

fn openssl() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let mut found = std::env::split_paths(&path).map(|place| place.join("openssl"));
    found.find(|program| program.is_file()).expect("install openssl")
}
