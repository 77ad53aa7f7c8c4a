//! Authorities of others at a real server: roots that come a second time, requests that are taken back, and what they would
//! give now that is not what signs.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy takes helpers of tests for product code"
)]

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use ca_server::Running;
use proto::banyan::admin::v1::authority_service_client::AuthorityServiceClient;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{
    DecideRotationRequest, GetRotationRequest, Issuer, ListAuthoritiesRequest, ListRootsRequest,
    ReadJournalRequest, RenewIssuerRequest, Rotation, StartRotationRequest, StartRotationResponse,
    StatusRequest, Verb,
};
use support::cacerts::OtherCa;
use support::{Place, admin, admin_channel, eventually, http_get, reason, stop};
use tonic::Status;
use trust::RootId;

const QUICK: &str = "[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"1s\"\n";
const SELF_SIGNED: &str = "[authority.main]\nplugin = \"self-signed\"\n";
const DAY: Duration = Duration::from_secs(86_400);
const LONG: Duration = Duration::from_secs(86_400 * 3_650);

/// A section for a directory beside the configuration.
fn files(name: &str) -> String {
    format!("[authority.{name}]\nplugin = \"file\"\ndirectory = \"{name}\"\nexclusive = true\n")
}

async fn rotation(running: &Running) -> Rotation {
    let mut rotations = RotationServiceClient::new(admin_channel(running).await);
    rotations.get_rotation(GetRotationRequest {}).await.unwrap().into_inner()
}

async fn start(
    running: &Running,
    wish: StartRotationRequest,
) -> Result<StartRotationResponse, Status> {
    let mut rotations = RotationServiceClient::new(admin_channel(running).await);
    rotations.start_rotation(wish).await.map(tonic::Response::into_inner)
}

fn wish(request_id: &str, authority: &str) -> StartRotationRequest {
    StartRotationRequest {
        request_id: request_id.to_owned(),
        authority: authority.to_owned(),
        ..StartRotationRequest::default()
    }
}

async fn abort(running: &Running, request_id: &str) {
    let mut rotations = RotationServiceClient::new(admin_channel(running).await);
    let verb = Verb::Abort.into();
    let abort =
        DecideRotationRequest { request_id: request_id.to_owned(), verb, ..Default::default() };
    rotations.decide_rotation(abort).await.unwrap();
}

async fn until(running: &Running, what: &str, holds: impl Fn(&Rotation) -> bool) {
    eventually(what, async || holds(&rotation(running).await)).await;
}

/// Waits until a rotation is over and this root alone is trusted.
async fn over(running: &Running, request_id: &str, root: RootId) {
    until(running, request_id, |rotation| {
        let (bundle, is_done) =
            (running.bundle(), rotation.done.iter().any(|done| done == request_id));
        rotation.phase == "steady"
            && is_done
            && bundle.roots().len() == 1
            && bundle.roots()[0].id() == root
    })
    .await;
}

async fn conditions(running: &Running) -> Vec<String> {
    admin(running).await.status(StatusRequest {}).await.unwrap().into_inner().conditions
}

async fn issuers(running: &Running) -> Vec<Issuer> {
    let listed = admin(running).await.list_roots(ListRootsRequest::default()).await.unwrap();
    listed.into_inner().roots.into_iter().flat_map(|root| root.issuers).collect()
}

/// What is told of an authority's drift to who asks for it.
async fn drift(running: &Running, name: &str) -> String {
    let mut authorities = AuthorityServiceClient::new(admin_channel(running).await);
    let asked = ListAuthoritiesRequest { name: name.to_owned() };
    authorities.list_authorities(asked).await.unwrap().into_inner().authorities[0].drift.clone()
}

async fn renew(running: &Running, request_id: &str, cancel: bool) -> Result<(), Status> {
    let mut authorities = AuthorityServiceClient::new(admin_channel(running).await);
    let (request_id, by) = (request_id.to_owned(), "alice".to_owned());
    let asked = RenewIssuerRequest { request_id, cancel, by, ..RenewIssuerRequest::default() };
    authorities.renew_issuer(asked).await.map(drop)
}

/// Entries of the journal that have all these words.
async fn journaled(running: &Running, words: &[&str]) -> usize {
    let mut rotations = RotationServiceClient::new(admin_channel(running).await);
    let page = rotations.read_journal(ReadJournalRequest::default()).await.unwrap().into_inner();
    let texts = page.entries.iter().map(|entry| String::from_utf8_lossy(&entry.entry));
    texts.filter(|text| words.iter().all(|word| text.contains(word))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_whose_rotation_was_aborted_is_taken_at_the_next_try() {
    let place = Place::new(&format!("{SELF_SIGNED}{}{QUICK}", files("two")));
    let root = OtherCa::root("two", LONG);
    root.put(&root, &place.path().join("two"));
    let running = place.start().await.unwrap();
    let first = running.bundle().roots()[0].id();
    let by_hand = StartRotationRequest { mode: "manual".to_owned(), ..wish("one", "two") };
    start(&running, by_hand).await.unwrap();
    let both = || running.bundle().roots().iter().any(|known| known.id() == root.id());
    until(&running, "it is published", |rotation| rotation.phase == "distributing" && both()).await;
    abort(&running, "stop").await;
    over(&running, "one", first).await;

    let dry = StartRotationRequest { dry_run: true, ..wish("two", "two") };
    assert_eq!(start(&running, dry).await.unwrap().obstacles, Vec::<String>::new());
    start(&running, wish("two", "two")).await.unwrap();
    over(&running, "two", root.id()).await;
    stop(running).await;
}

/// Names of the ceremonies of this kind that wait for somebody.
fn waiting(directory: &Path, kind: &str) -> Vec<String> {
    let names =
        fs::read_dir(directory.join("outbox")).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    let texts = names.filter_map(|name| name.strip_suffix(".txt").map(str::to_owned));
    texts.filter(|name| name.starts_with(kind)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ceremony_of_an_aborted_rotation_leaves_the_outbox() {
    let offline = "[authority.offline]\nplugin = \"manual\"\ndirectory = \"offline\"\nexclusive = true\nlook_every_secs = 1\n";
    let place = Place::new(&format!("{SELF_SIGNED}{offline}{QUICK}"));
    let directory = place.path().join("offline");
    let running = place.start().await.unwrap();
    start(&running, wish("one", "offline")).await.unwrap();
    let goes_out = async |kind: &'static str| {
        eventually(kind, async || {
            directory.join("outbox").exists() && !waiting(&directory, kind).is_empty()
        })
        .await;
        waiting(&directory, kind)
    };
    let names = goes_out("root").await;
    let root = OtherCa::root("offline", LONG);
    let arriving = directory.join("inbox/arriving");
    fs::write(&arriving, root.pem()).unwrap();
    fs::rename(&arriving, directory.join("inbox").join(format!("{}.pem", names[0]))).unwrap();
    goes_out("issuer").await;
    assert_eq!(waiting(&directory, "").len(), 1, "the root's is done");

    abort(&running, "stop").await;
    eventually("nobody is asked for an issuer that nobody wants", async || {
        waiting(&directory, "").is_empty()
    })
    .await;
    stop(running).await;
}

/// Asks until an authority's drift is told with these words, and looks where else it must be told.
async fn drifts(running: &Running, words: &[&str]) {
    let told = |text: &str| words.iter().all(|word| text.contains(word));
    eventually("the drift is a condition", async || {
        conditions(running).await.iter().any(|condition| told(condition))
    })
    .await;
    let asked = drift(running, "main").await;
    assert!(told(&asked), "{asked}");
    let scrape = http_get(running, "/metrics").await;
    assert!(scrape.contains("banyan_authority_drift{authority=\"main\"} 1"), "{scrape}");
}

/// A server whose first root is in files, and does not follow them.
async fn unfollowed(signing: &OtherCa, root: &OtherCa) -> (Place, Running) {
    let place = Place::new(&format!("{}{QUICK}follow_authority = false\n", files("main")));
    signing.put(root, &place.path().join("main"));
    let running = place.start().await.unwrap();
    assert_eq!(conditions(&running).await, Vec::<String>::new());
    (place, running)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_intermediate_under_the_same_root_is_told_everywhere_until_an_issuer_below_it_is_renewed()
 {
    let root = OtherCa::root("root", LONG);
    let (place, running) = unfollowed(&root.below("first intermediate", LONG, 1), &root).await;
    root.below("second intermediate", LONG, 1).put(&root, &place.path().join("main"));
    drifts(&running, &["second intermediate", "`banyan issuer renew`"]).await;
    let dry = StartRotationRequest { dry_run: true, ..wish("dry", "main") };
    let obstacles = start(&running, dry).await.unwrap().obstacles;
    assert!(obstacles.len() == 1 && obstacles[0].contains("has no new root"), "{obstacles:?}");

    let before = issuers(&running).await;
    renew(&running, "renew", false).await.unwrap();
    eventually("nothing is told any more", async || conditions(&running).await.is_empty()).await;
    assert_eq!(drift(&running, "main").await, "");
    assert!(
        !http_get(&running, "/metrics")
            .await
            .contains("banyan_authority_drift{authority=\"main\"} 1")
    );
    let (new, old) = (issuers(&running).await, before[0].id.clone());
    assert!(new.iter().any(|issuer| issuer.active && issuer.id != old), "{new:?}");
    assert!(journaled(&running, &["alice"]).await > 0);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_below_another_intermediate_is_asked_for_where_the_authority_is_followed() {
    let place = Place::new(&format!("{}{QUICK}", files("main")));
    let root = OtherCa::root("root", LONG);
    root.below("first intermediate", LONG, 1).put(&root, &place.path().join("main"));
    let running = place.start().await.unwrap();
    let before = issuers(&running).await;
    root.below("second intermediate", LONG, 1).put(&root, &place.path().join("main"));
    eventually("another issuer signs", async || {
        issuers(&running).await.iter().any(|issuer| issuer.active && issuer.id != before[0].id)
    })
    .await;
    eventually("nothing is told", async || drift(&running, "main").await.is_empty()).await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_does_not_get_on_can_be_cancelled_and_asked_for_again() {
    let root = OtherCa::root("root", LONG);
    let (place, running) = unfollowed(&root.below("intermediate", LONG, 1), &root).await;
    let (directory, before) = (place.path().join("main"), issuers(&running).await);
    let none = renew(&running, "too-early", true).await.unwrap_err();
    assert_eq!(reason(&none), "ROTATION_REFUSED", "{none:?}");
    root.below("ends tomorrow", DAY, 1).put(&root, &directory);
    drifts(&running, &["ends tomorrow"]).await;
    renew(&running, "one", false).await.unwrap();
    let says =
        |rotation: &Rotation, words: &str| rotation.troubles.iter().any(|one| one.contains(words));
    until(&running, "it is refused", |rotation| says(rotation, "root.issuer_lifetime_min")).await;
    renew(&running, "never-mind", true).await.unwrap();
    until(&running, "nobody waits", |rotation| rotation.troubles.is_empty()).await;

    root.below("lasts again", LONG, 1).put(&root, &directory);
    drifts(&running, &["lasts again"]).await;
    assert_eq!(issuers(&running).await, before, "what was cancelled gave none");
    renew(&running, "two", false).await.unwrap();
    eventually("another issuer signs", async || {
        issuers(&running).await.iter().any(|issuer| issuer.active && issuer.id != before[0].id)
    })
    .await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_and_a_withdrawn_root_return_only_by_somebodys_word_which_is_kept() {
    let root = OtherCa::root("root", LONG);
    let (place, running) = unfollowed(&root, &root).await;
    let renewed = root.renewed();
    for (number, (next, means)) in
        [(&renewed, "the key and the name"), (&root, "was withdrawn")].iter().enumerate()
    {
        next.put(next, &place.path().join("main"));
        drifts(
            &running,
            &["banyan rotate start --to main --stage-again", &next.id().short().to_string()],
        )
        .await;
        let dry = StartRotationRequest { dry_run: true, ..wish("dry", "main") };
        let obstacles = start(&running, dry).await.unwrap().obstacles;
        assert!(obstacles.iter().any(|one| one.contains("--stage-again")), "{obstacles:?}");

        let name = format!("again-{number}");
        let stage_again = next.id().as_bytes().to_vec();
        let by = "alice".to_owned();
        let somebodys = StartRotationRequest { stage_again, by, ..wish(&name, "main") };
        let dry = StartRotationRequest { dry_run: true, ..somebodys.clone() };
        let answer = start(&running, dry).await.unwrap();
        assert!(answer.obstacles.is_empty() && answer.meaning.contains(means), "{answer:?}");
        let answer = start(&running, somebodys).await.unwrap();
        assert!(answer.meaning.contains(means), "{answer:?}");
        over(&running, &name, next.id()).await;
        let id = next.id().to_string();
        assert!(journaled(&running, &["alice", &name, "stage_again", &id]).await > 0);
        eventually("nothing is told any more", async || conditions(&running).await.is_empty())
            .await;
    }
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_lives_no_longer_than_what_stands_above_it_and_none_is_made_that_ends_too_soon() {
    let (root, short) = (OtherCa::root("root", LONG), OtherCa::root("short root", DAY * 90));
    for (signing, root) in [(&root.below("intermediate", DAY * 90, 1), &root), (&short, &short)] {
        let settings = |min: &str| {
            format!(
                "{}[root]\nauthority = \"main\"\nissuer_lifetime_min = \"{min}\"\n",
                files("main")
            )
        };
        let place = Place::new(&settings("100d"));
        signing.put(root, &place.path().join("main"));
        let refused = place.start().await.unwrap_err().to_string();
        assert!(
            refused.contains("root.issuer_lifetime_min") && refused.contains("ends at"),
            "{refused}"
        );

        let place = Place::new(&settings("80d"));
        signing.put(root, &place.path().join("main"));
        let running = place.start().await.unwrap();
        let issuers = issuers(&running).await;
        let lives = issuers[0].not_after - issuers[0].not_before;
        let days = i64::try_from(DAY.as_secs()).unwrap();
        assert!(lives > 89 * days && lives < 91 * days, "{issuers:?}");
        stop(running).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_the_authority_refused_is_made_anew_from_the_settings_and_files_of_the_next_start()
 {
    let settings = "[root]\nauthority = \"main\"\nissuer_lifetime = \"365d\"\n";
    let place = Place::durable(&format!("{}{settings}", files("main")));
    let (root, directory) = (OtherCa::root("root", LONG), place.path().join("main"));
    root.below("no room below it", LONG, 0).put(&root, &directory);
    let refused = place.start().await.unwrap_err().to_string();
    assert!(refused.contains("no room below it"), "{refused}");
    root.below("intermediate", LONG, 1).put(&root, &directory);
    let place = place.reconfigured("\"365d\"", "\"60d\"");
    // In the same process, what the refused one had begun ends a moment after it.
    let running = support::once_free(&place).await.unwrap();
    let issuers = issuers(&running).await;
    let lives = issuers[0].not_after - issuers[0].not_before;
    assert!(lives < 61 * i64::try_from(DAY.as_secs()).unwrap(), "{issuers:?}");
    stop(running).await;
}
