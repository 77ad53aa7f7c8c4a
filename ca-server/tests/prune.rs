//! Retired roots that a server forgets by an operator's word.
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for product code")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use ca_server::{HostDeps, Running};
use host::{OsRandomness, RealDisk, SystemClock};
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::token_service_client::TokenServiceClient;
use proto::banyan::admin::v1::{
    DecideRotationRequest, GetRotationRequest, ListRootsRequest, PruneRootsRequest,
    PruneRootsResponse, ReadJournalRequest, RevokeTokensRequest, Root, StartRotationRequest, Verb,
};
use proto::banyan::downstream::v1::RemoveDownstreamRequest;
use proto::banyan::downstream::v1::downstream_admin_service_client::DownstreamAdminServiceClient;
use support::{Place, admin, admin_channel, eventually, reason, stop};
use tonic::Status;
use tonic_types::StatusExt as _;
use trust::{Clock as _, ManualClock};

const LONG: &str = "lifetime = \"3650d\"\nissuer_lifetime = \"365d\"";
const SHORT: &str = "lifetime = \"8h\"\nissuer_lifetime = \"4h\"";
const DAY: Duration = Duration::from_secs(86_400);

async fn start(place: &Place, clock: &Arc<ManualClock>) -> Running {
    let (clock, randomness) = (Arc::<ManualClock>::clone(clock), Arc::new(OsRandomness::new()));
    place.start_with(HostDeps { clock, randomness, disk: Arc::new(RealDisk) }).await.unwrap()
}

async fn roots(running: &Running) -> Vec<Root> {
    admin(running).await.list_roots(ListRootsRequest::default()).await.unwrap().into_inner().roots
}

fn in_state(roots: &[Root], state: &str) -> Vec<Vec<u8>> {
    roots.iter().filter(|root| root.state == state).map(|root| root.id.clone()).collect()
}

async fn prune(
    running: &Running,
    roots: Vec<Vec<u8>>,
    dry_run: bool,
) -> Result<PruneRootsResponse, Status> {
    let mut client = RotationServiceClient::new(admin_channel(running).await);
    let request = PruneRootsRequest {
        request_id: format!("prune-{dry_run}"),
        roots,
        dry_run,
        by: "ann".to_owned(),
        reason: "housekeeping".to_owned(),
    };
    client.prune_roots(request).await.map(tonic::Response::into_inner)
}

/// A rotation to a root that is given up before it signs.
async fn stage_and_abort(running: &Running) {
    let mut client = RotationServiceClient::new(admin_channel(running).await);
    let request_id = "one".to_owned();
    let wish = StartRotationRequest { request_id, mode: "manual".to_owned(), ..Default::default() };
    client.start_rotation(wish).await.unwrap();
    let phase = async || {
        let mut client = RotationServiceClient::new(admin_channel(running).await);
        client.get_rotation(GetRotationRequest {}).await.unwrap().into_inner().phase
    };
    eventually("the new root is trusted", async || phase().await == "distributing").await;
    let request_id = "two".to_owned();
    let abort =
        DecideRotationRequest { request_id, verb: Verb::Abort.into(), ..Default::default() };
    client.decide_rotation(abort).await.unwrap();
    eventually("the rotation is over", async || phase().await == "steady").await;
}

/// The journal's entry of what was pruned: who, and why.
async fn journaled(running: &Running) -> Vec<[String; 2]> {
    let mut client = RotationServiceClient::new(admin_channel(running).await);
    let page = client.read_journal(ReadJournalRequest::default()).await.unwrap().into_inner();
    let entries = page.entries.iter().map(|entry| serde_json::from_slice(&entry.entry).unwrap());
    let text = |entry: &serde_json::Value, name: &str| {
        entry.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    };
    let has = |entry: &serde_json::Value, name: &str, inner: &str| {
        entry.get(name).is_some_and(|value| value.get(inner).is_some())
    };
    let pruned = entries.filter(|entry: &serde_json::Value| {
        has(entry, "event", "prune_requested") && has(entry, "outcome", "changed")
    });
    pruned.map(|entry| [text(&entry, "by"), text(&entry, "reason")]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_root_is_forgotten_when_it_is_over_and_a_refusal_before_that_says_when() {
    let extra = format!(
        "[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"1s\"\n[leaf]\nttl_max = \"1h\"\n[root]\n{LONG}\n"
    );
    let place = Place::durable(&extra);
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    clock.set_boot("first");
    stop(start(&place, &clock).await).await;
    let place = place.reconfigured(LONG, SHORT);
    let running = start(&place, &clock).await;
    // Uptime passes, or no gate would settle.
    let ticking = tokio::spawn({
        let clock = Arc::clone(&clock);
        async move {
            let mut tick = tokio::time::interval(Duration::from_millis(100));
            loop {
                tick.tick().await;
                clock.advance(Duration::from_millis(100));
            }
        }
    });
    stage_and_abort(&running).await;
    ticking.abort();
    let before = roots(&running).await;
    let (retired, active) = (in_state(&before, "retired"), in_state(&before, "active"));
    assert_eq!((retired.len(), active.len()), (1, 1), "{before:?}");

    for dry_run in [true, false] {
        let refused = prune(&running, retired.clone(), dry_run).await.unwrap_err();
        assert_eq!(reason(&refused), "ROTATION_REFUSED");
        let from = before.iter().find(|root| root.state == "retired").unwrap().forgettable_from;
        let from = trust::Timestamp::from_secs(from).to_string();
        assert!(
            refused.message().contains(&format!("it can be forgotten from {from} on")),
            "{refused}"
        );
        let refused = prune(&running, active.clone(), dry_run).await.unwrap_err();
        assert!(refused.message().contains("only a retired root can be forgotten"), "{refused}");
        assert!(refused.get_details_error_info().is_some());
    }
    let none = prune(&running, Vec::new(), true).await.unwrap();
    assert!(none.forgotten.is_empty() && none.kept.len() == 1, "{none:?}");
    assert_eq!(roots(&running).await, before);
    stop(running).await;

    clock.advance(DAY);
    let running = start(&place, &clock).await;
    let preview = prune(&running, Vec::new(), true).await.unwrap();
    assert_eq!((preview.forgotten.len(), preview.kept.len()), (1, 0), "{preview:?}");
    assert!(!preview.forgotten[0].keys.is_empty(), "the keys that stay are named");
    assert_eq!(roots(&running).await.len(), 2, "a preview changes nothing");
    let pruned = prune(&running, retired.clone(), false).await.unwrap();
    assert_eq!(pruned.forgotten[0].id, retired[0]);
    assert_eq!(in_state(&roots(&running).await, "active"), active);
    assert_eq!(roots(&running).await.len(), 1);
    let [said] = journaled(&running).await.try_into().unwrap();
    let [by, why] = said;
    assert!(by.starts_with("ann (") && why == "housekeeping", "{by}: {why}");
    stop(running).await;
    // And it stays forgotten.
    let running = start(&place, &clock).await;
    assert_eq!(roots(&running).await.len(), 1);
    stop(running).await;
}

/// What is to be done about a refusal.
fn advice(refused: &Status) -> String {
    let info = refused.get_details_error_info().unwrap();
    info.metadata.get("advice").cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_nothing_is_not_in_the_journal_and_a_refusal_has_its_advice_apart() {
    let place = Place::new("");
    let running = place.start().await.unwrap();
    let none = prune(&running, Vec::new(), false).await.unwrap();
    assert!(none.forgotten.is_empty() && none.kept.is_empty(), "{none:?}");
    let mut downstreams = DownstreamAdminServiceClient::new(admin_channel(&running).await);
    let gone = RemoveDownstreamRequest { name: "x".to_owned(), ..Default::default() };
    let refused = downstreams.remove_downstream(gone).await.unwrap_err();
    assert_eq!(reason(&refused), "DOWNSTREAM_UNKNOWN");
    assert!(advice(&refused).contains("`banyan downstream list`"), "{refused:?}");
    let mut tokens = TokenServiceClient::new(admin_channel(&running).await);
    let unknown = RevokeTokensRequest { ids: vec!["ff".to_owned()], ..Default::default() };
    let refused = tokens.revoke_tokens(unknown).await.unwrap_err();
    assert!(advice(&refused).contains("`banyan token list`"), "{refused:?}");
    let mut client = RotationServiceClient::new(admin_channel(&running).await);
    let page = client.read_journal(ReadJournalRequest::default()).await.unwrap().into_inner();
    let entries = page.entries.iter().map(|entry| String::from_utf8_lossy(&entry.entry));
    let said = entries
        .filter(|entry| entry.contains("operator_acted") || entry.contains("prune_requested"));
    assert_eq!(said.count(), 0);
    stop(running).await;
}
