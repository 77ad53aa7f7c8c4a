//! Standby roots by policy at a real server: prepared, replaced before their ends, held back with a cause, and what an operator is
//! told of them in an emergency.
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for product code")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use ca_server::{HostDeps, Running};
use host::{OsRandomness, RealDisk, SystemClock};
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{
    AddRelyingPartyRequest, DecideRotationRequest, GetRotationRequest, ListRootsRequest,
    ReadJournalRequest, Root, RootVerb, Rotation, RuleRootRequest, StatusRequest, StatusResponse,
    Verb,
};
use rotation_driver::JournalEntry;
use support::cacerts::OtherCa;
use support::{Place, admin, admin_channel, eventually, once_free, stop};
use trust::{Clock as _, ManualClock};

const AUTHORITIES: &str =
    "[authority.main]\nplugin = \"self-signed\"\n[authority.spare]\nplugin = \"self-signed\"\n";
const FILES: &str = "[authority.main]\nplugin = \"self-signed\"\n[authority.spare]\nplugin = \"file\"\ndirectory = \"spare\"\nexclusive = true\n";
const QUICK: &str = "[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"1s\"\n";
const STANDBY: &str = "[root.standby]\nauthority = \"spare\"\n";
const LONG: Duration = Duration::from_secs(86_400 * 3_650);

async fn rotation(running: &Running) -> Rotation {
    let mut rotations = RotationServiceClient::new(admin_channel(running).await);
    rotations.get_rotation(GetRotationRequest {}).await.unwrap().into_inner()
}

async fn status(running: &Running) -> StatusResponse {
    admin(running).await.status(StatusRequest {}).await.unwrap().into_inner()
}

async fn roots(running: &Running, state: &str) -> Vec<Root> {
    let listed = admin(running).await.list_roots(ListRootsRequest::default()).await.unwrap();
    listed.into_inner().roots.into_iter().filter(|root| root.state == state).collect()
}

async fn is_steady(running: &Running) -> bool {
    rotation(running).await.phase == "steady"
}

/// Waits until so many standby roots are trusted and nothing is under way.
async fn standby(running: &Running, count: usize) -> Vec<Root> {
    eventually("standby roots", async || {
        is_steady(running).await && roots(running, "published").await.len() == count
    })
    .await;
    roots(running, "published").await
}

fn has(said: &[String], words: &[&str]) -> bool {
    said.iter().any(|text| words.iter().all(|word| text.contains(word)))
}

async fn conditions_have(running: &Running, words: &[&str]) {
    eventually("status says it", async || has(&status(running).await.conditions, words)).await;
}

/// What `schedule` asked for, and why, in order.
async fn scheduled(running: &Running) -> Vec<(String, String)> {
    let mut rotations = RotationServiceClient::new(admin_channel(running).await);
    let page = rotations.read_journal(ReadJournalRequest::default()).await.unwrap().into_inner();
    let entries = page.entries.iter().map(|entry| serde_json::from_slice(&entry.entry).unwrap());
    let of = |entry: JournalEntry| {
        let ours = entry.by == "schedule";
        ours.then(|| (entry.event.name().to_owned(), entry.reason.clone()))
    };
    entries.filter_map(of).collect()
}

async fn rule(running: &Running, root: &[u8], verb: RootVerb, dry_run: bool) -> Vec<String> {
    let mut rotations = RotationServiceClient::new(admin_channel(running).await);
    let request = RuleRootRequest {
        request_id: format!("{}-{dry_run}", verb.as_str_name().to_lowercase().replace('_', "-")),
        root: root.to_vec(),
        verb: verb.into(),
        by: "ann".to_owned(),
        reason: "a drill".to_owned(),
        dry_run,
        ..RuleRootRequest::default()
    };
    rotations.rule_root(request).await.unwrap().into_inner().said
}

async fn abort(running: &Running) {
    let mut rotations = RotationServiceClient::new(admin_channel(running).await);
    let (request_id, verb) = ("abort".to_owned(), Verb::Abort.into());
    let abort = DecideRotationRequest { request_id, verb, ..Default::default() };
    rotations.decide_rotation(abort).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_prepared_without_being_asked_and_the_next_when_it_was_promoted() {
    let place = Place::new(&format!("{STANDBY}{AUTHORITIES}{QUICK}"));
    let running = place.start().await.unwrap();
    let first = standby(&running, 1).await.remove(0);
    assert_eq!(first.authority, "spare");
    let asked = scheduled(&running).await;
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(
        asked[0].1.contains("[root.standby]: there is no standby root of authority spare"),
        "{asked:?}"
    );
    assert_eq!(status(&running).await.conditions, Vec::<String>::new());
    rule(&running, &first.id, RootVerb::Promote, false).await;
    eventually("it signs, and another one stands by", async || {
        let (signs, stands_by) =
            (roots(&running, "active").await, roots(&running, "published").await);
        is_steady(&running).await && signs[0].id == first.id && stands_by.len() == 1
    })
    .await;
    assert_eq!(scheduled(&running).await.len(), 2, "two were prepared");
    stop(running).await;
}

/// Roots of an hour, of which the next one is made half an hour before.
const SHORT: &str = "[root]\nlifetime = \"2h\"\nissuer_lifetime = \"1h\"\n[root.standby]\nauthority = \"spare\"\nrenew_before = \"1h\"\n[leaf]\nttl_default = \"6m\"\nttl_max = \"6m\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ends_is_replaced_by_the_next_before_it_goes_and_no_bundle_is_without_one() {
    let place = Place::new(&format!("{SHORT}{AUTHORITIES}{QUICK}"));
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let deps = HostDeps {
        clock: Arc::<ManualClock>::clone(&clock),
        randomness: Arc::new(OsRandomness::new()),
        disk: Arc::new(RealDisk),
    };
    let running = place.start_with(deps).await.unwrap();
    // The clock stands still unless somebody turns it, and `settle` is counted on it.
    let turning = Arc::clone(&clock);
    let turns = tokio::spawn(async move {
        loop {
            turning.advance(Duration::from_millis(500));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let first = standby(&running, 1).await.remove(0);
    let counted = running.bundle().roots().len();
    assert_eq!(counted, 2);
    for _ in 0..62 {
        clock.advance(Duration::from_secs(60));
        tokio::task::yield_now().await;
    }
    eventually("the next one alone stands by", async || {
        let stands_by = roots(&running, "published").await;
        is_steady(&running).await && stands_by.len() == 1 && stands_by[0].id != first.id
    })
    .await;
    let names: Vec<_> = scheduled(&running).await.into_iter().collect();
    let events: Vec<_> = names.iter().map(|(event, _)| event.as_str()).collect();
    assert_eq!(
        events[..3],
        ["rotation_requested", "rotation_requested", "standby_dropped"],
        "{names:?}"
    );
    assert!(
        names[1].1.contains("ends at") && names[2].1.contains("another one is trusted"),
        "{names:?}"
    );
    turns.abort();
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_away_is_said_with_its_cause_and_keeps_nobody_else_waiting() {
    let place = Place::durable(&format!("{STANDBY}{FILES}{QUICK}"));
    let running = place.start().await.unwrap();
    let words = ["[root.standby]", "spare", "is missing"];
    conditions_have(&running, &["there is no standby root", words[0], words[2]]).await;
    assert!(is_steady(&running).await, "nothing is begun that would not get on");
    assert_eq!(scheduled(&running).await, []);
    // Without one, the emergency says who would have to make a root, and who else could.
    let signing = roots(&running, "active").await.remove(0);
    let said = rule(&running, &signing.id, RootVerb::Distrust, true).await;
    assert!(has(&said, &["there is no standby root"]), "{said:?}");
    let root = OtherCa::root("spare", LONG);
    root.put(&root, &place.path().join("spare"));
    let prepared = standby(&running, 1).await.remove(0);
    assert_eq!(prepared.id, root.id().as_bytes());
    eventually("all is well", async || status(&running).await.conditions.is_empty()).await;

    // Away again, after it was prepared: the emergency goes on without it.
    std::fs::rename(place.path().join("spare"), place.path().join("elsewhere")).unwrap();
    conditions_have(&running, &["root authority spare is unhealthy"]).await;
    let said = rule(&running, &signing.id, RootVerb::Distrust, true).await;
    assert!(has(&said, &["authority spare", "unhealthy", "it is not needed for that"]), "{said:?}");
    stop(running).await;

    // The day after, without the setting: what is there stays, and nothing is asked for.
    let place = place.reconfigured(STANDBY, "");
    let running = once_free(&place).await.unwrap();
    rule(&running, &prepared.id, RootVerb::Drop, false).await;
    standby(&running, 0).await;
    assert_eq!(scheduled(&running).await.len(), 1, "the first one alone");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_given_up_is_not_begun_again_at_once_and_a_restart_changes_nothing_of_that() {
    let place = Place::durable(&format!("{STANDBY}{FILES}{QUICK}"));
    let running = place.start().await.unwrap();
    // Somebody who must confirm by name, and does not: it stays at the trust gate.
    let mut rotations = RotationServiceClient::new(admin_channel(&running).await);
    let partner = AddRelyingPartyRequest { name: "partner".to_owned(), ..Default::default() };
    rotations.add_relying_party(partner).await.unwrap();
    let root = OtherCa::root("spare", LONG);
    root.put(&root, &place.path().join("spare"));
    eventually("it is distributed", async || rotation(&running).await.phase == "distributing")
        .await;
    stop(running).await;
    let running = once_free(&place).await.unwrap();
    let under_way = rotation(&running).await;
    assert_eq!((under_way.phase.as_str(), under_way.mode.as_str()), ("distributing", "standby"));
    abort(&running).await;
    conditions_have(
        &running,
        &["the last attempt at one was given up", "rotation.retry_aborted_after"],
    )
    .await;
    stop(running).await;
    let running = once_free(&place).await.unwrap();
    conditions_have(&running, &["the last attempt at one was given up"]).await;
    assert!(is_steady(&running).await);
    assert_eq!(scheduled(&running).await.len(), 1, "it was asked for once");
    stop(running).await;
}
