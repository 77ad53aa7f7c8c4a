//! Waivers at a real server: gates go on without whom they cover, for as long as they stand, and everybody is told.
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for product code")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use ca_server::{HostDeps, Running};
use host::{OsRandomness, RealDisk, SystemClock};
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::waiver_service_client::WaiverServiceClient;
use proto::banyan::admin::v1::{
    AddWaiverRequest, GetRotationRequest, ListWaiversRequest, RemoveWaiverRequest, Rotation,
    StartRotationRequest, StatusRequest,
};
use proto::banyan::agent::v1::agent_message::Message as Said;
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use proto::banyan::agent::v1::{AgentMessage, Hello};
use rcgen::KeyPair;
use support::{Place, admin, admin_channel, agent, channel, eventually, reason, stop, workload};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use trust::{Clock as _, ManualClock};

const WEB: &str = "spiffe://example.org/ns/shop/web";
const TILL: &str = "spiffe://example.org/ns/pay/till";
/// Gates that open as soon as they may, and leaves that outlive a test.
const QUICK: &str = "[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"1s\"\n";

/// An agent that joined, with a leaf for its workload; it says nothing more.
async fn member(running: &Running, name: &str, id: &str) -> AgentServiceClient<Channel> {
    let identity = agent(running, name, &[id]).await;
    let mut client = AgentServiceClient::new(channel(running, Some(identity)).await);
    workload(&mut client, id, &KeyPair::generate().unwrap()).await.unwrap();
    client
}

fn agent_id(name: &str) -> String {
    format!("spiffe://example.org/banyan/agent/{name}")
}

async fn waivers(running: &Running) -> WaiverServiceClient<Channel> {
    WaiverServiceClient::new(admin_channel(running).await)
}

async fn rotation(running: &Running) -> Rotation {
    let mut client = RotationServiceClient::new(admin_channel(running).await);
    client.get_rotation(GetRotationRequest {}).await.unwrap().into_inner()
}

async fn rotate(running: &Running) {
    let mut rotations = RotationServiceClient::new(admin_channel(running).await);
    let request = StartRotationRequest { request_id: "one".to_owned(), ..Default::default() };
    rotations.start_rotation(request).await.unwrap();
}

/// How many hold the trust gate.
async fn held(running: &Running) -> Option<u64> {
    let gate = rotation(running).await.gate.unwrap_or_default();
    (gate.name == "trust").then_some(gate.holders_total)
}

async fn until_held_by(running: &Running, many: u64) {
    eventually("as many hold the trust gate", || async { held(running).await == Some(many) }).await;
}

fn waiver(name: &str, covers: &[&str]) -> AddWaiverRequest {
    AddWaiverRequest {
        name: name.to_owned(),
        covers: covers.iter().map(ToString::to_string).collect(),
        lasts_seconds: 3_600,
        by: "ann".to_owned(),
        reason: "the shop is closed".to_owned(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trust_gate_goes_on_without_whom_a_waiver_covers_and_nobody_else() {
    let place = Place::new(QUICK);
    let running = place.start().await.unwrap();
    drop(member(&running, "node-1", WEB).await);
    drop(member(&running, "node-2", TILL).await);
    let mut client = waivers(&running).await;
    let before = client.add_waiver(AddWaiverRequest { dry_run: true, ..waiver("a", &[WEB]) }).await;
    let before = before.unwrap().into_inner();
    assert_eq!((before.leaves_total, before.gate.as_str()), (0, ""), "nothing waits yet");
    rotate(&running).await;
    until_held_by(&running, 4).await;

    for (wrong, why) in [
        (AddWaiverRequest { reason: " ".to_owned(), ..waiver("a", &[WEB]) }, "without a reason"),
        (waiver("a", &[]), "of nobody"),
        (waiver("a", &["spiffe://example.org/ns/*/web"]), "a star in the middle"),
        (waiver("a", &["spiffe://other.org/*"]), "of another trust domain"),
        (AddWaiverRequest { lasts_seconds: 59, ..waiver("a", &[WEB]) }, "too short"),
        (AddWaiverRequest { lasts_seconds: 7_776_001, ..waiver("a", &[WEB]) }, "too long"),
        (AddWaiverRequest { until: 9, ..waiver("a", &[WEB]) }, "both"),
        (AddWaiverRequest { until: 9, lasts_seconds: 0, ..waiver("a", &[WEB]) }, "over"),
    ] {
        let refused = client.add_waiver(wrong).await.unwrap_err();
        assert_eq!(reason(&refused), "REQUEST_INVALID", "{why}: {refused:?}");
    }

    let shop = waiver("shop", &["spiffe://example.org/ns/shop/*", &agent_id("node-1")]);
    let dry = AddWaiverRequest { dry_run: true, ..shop.clone() };
    let preview = client.add_waiver(dry).await.unwrap().into_inner();
    assert_eq!((preview.gate.as_str(), preview.holds_before), ("trust", 4));
    assert_eq!((preview.leaves_total, preview.leaves.len()), (2, 2));
    assert!(preview.leaves.iter().all(|leaf| leaf.risk.contains("node-1") && !leaf.held));
    assert_eq!(held(&running).await, Some(4), "a preview changes nothing");

    client.add_waiver(shop).await.unwrap();
    until_held_by(&running, 2).await;
    let status = admin(&running).await.status(StatusRequest {}).await.unwrap().into_inner();
    assert!(
        status.waiting.iter().any(|line| line.contains("waiver shop of ann")),
        "{:?}",
        status.waiting
    );
    let rests_on = rotation(&running).await.gate.unwrap_or_default().rests_on;
    assert!(rests_on.contains(&"waived: 2".to_owned()), "{rests_on:?}");

    client.add_waiver(waiver("all", &["spiffe://example.org/*"])).await.unwrap();
    eventually("the new root signs", || async { rotation(&running).await.phase == "draining" })
        .await;
    // The gate of leaves knows no waiver: an old leaf is old until its end.
    assert_eq!(rotation(&running).await.gate.unwrap_or_default().holders_total, 4);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiver_ends_with_its_time_or_its_removal_and_gates_wait_again() {
    let place = Place::durable(QUICK);
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let deps = || HostDeps {
        clock: Arc::<ManualClock>::clone(&clock),
        randomness: Arc::new(OsRandomness::new()),
        disk: Arc::new(RealDisk),
    };
    let running = place.start_with(deps()).await.unwrap();
    drop(member(&running, "node-1", WEB).await);
    drop(member(&running, "node-2", TILL).await);
    rotate(&running).await;
    until_held_by(&running, 4).await;
    let mut client = waivers(&running).await;
    let until = clock.now().as_secs() + 600;
    let pay = ["spiffe://example.org/ns/pay/*"];
    let short = AddWaiverRequest { lasts_seconds: 0, until, ..waiver("pay", &pay) };
    let added = client.add_waiver(short).await.unwrap().into_inner().waiver.unwrap();
    assert_eq!((added.until, added.stands), (until, true));
    client.add_waiver(waiver("shop", &[WEB])).await.unwrap();
    until_held_by(&running, 2).await;

    stop(running).await;
    let running = place.start_with(deps()).await.unwrap();
    until_held_by(&running, 2).await;
    let mut client = waivers(&running).await;
    let remove = || RemoveWaiverRequest { name: "shop".to_owned(), ..Default::default() };
    client.remove_waiver(remove()).await.unwrap();
    until_held_by(&running, 3).await;
    assert_eq!(reason(&client.remove_waiver(remove()).await.unwrap_err()), "WAIVER_UNKNOWN");
    clock.advance(Duration::from_secs(599));
    assert_eq!(held(&running).await, Some(3));
    clock.advance(Duration::from_secs(1));
    until_held_by(&running, 4).await;
    let listed = client.list_waivers(ListWaiversRequest::default()).await.unwrap().into_inner();
    let listed: Vec<_> =
        listed.waivers.iter().map(|waiver| (waiver.name.as_str(), waiver.stands)).collect();
    assert_eq!(listed, [("pay", false)], "what is over is told until it is removed");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_agent_is_connected_is_waived_only_by_force() {
    let place = Place::new(QUICK);
    let running = place.start().await.unwrap();
    let mut client = member(&running, "node-1", WEB).await;
    rotate(&running).await;
    until_held_by(&running, 2).await;
    let (up, messages) = mpsc::channel(4);
    up.send(AgentMessage { message: Some(Said::Hello(Hello::default())) }).await.unwrap();
    let mut down = client.connect(ReceiverStream::new(messages)).await.unwrap().into_inner();
    down.message().await.unwrap().unwrap();
    let mut operator = waivers(&running).await;
    let refused = operator.add_waiver(waiver("web", &[WEB])).await.unwrap_err();
    assert_eq!(reason(&refused), "LEAF_HELD");
    assert!(
        refused.message().contains(WEB) && refused.message().contains("--force"),
        "{refused:?}"
    );
    assert_eq!(held(&running).await, Some(2));
    let forced = AddWaiverRequest { force: true, ..waiver("web", &[WEB]) };
    operator.add_waiver(forced).await.unwrap();
    until_held_by(&running, 1).await;
    stop(running).await;
}
