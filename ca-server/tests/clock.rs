//! A wall clock that is set while the server runs, or while it is down.
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for product code")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use ca_server::{HostDeps, Running};
use host::{OsRandomness, RealDisk, SystemClock};
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{
    AcceptClockRequest, AcceptClockResponse, Gate, GetRotationRequest, ReadJournalRequest,
    Rotation, StartRotationRequest, StatusRequest, StatusResponse,
};
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use rcgen::KeyPair;
use rotation::Event;
use rotation_driver::JournalEntry;
use support::{
    Place, admin, admin_channel, agent, channel, eventually, http_get, reason, stop, try_channel,
    workload,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use trust::{Clock as _, ManualClock};

const WEB: &str = "spiffe://example.org/web";
const QUICK: &str = "[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"1s\"\n";
const HOUR: Duration = Duration::from_secs(3_600);
const TWO_DAYS: Duration = Duration::from_secs(2 * 86_400);

fn clock() -> Arc<ManualClock> {
    let clock = ManualClock::at(SystemClock.now());
    clock.set_boot("first");
    Arc::new(clock)
}

async fn start(place: &Place, clock: &Arc<ManualClock>) -> Running {
    let (clock, randomness) = (Arc::<ManualClock>::clone(clock), Arc::new(OsRandomness::new()));
    place.start_with(HostDeps { clock, randomness, disk: Arc::new(RealDisk) }).await.unwrap()
}

async fn status(running: &Running) -> StatusResponse {
    admin(running).await.status(StatusRequest {}).await.unwrap().into_inner()
}

async fn rotation(running: &Running) -> Rotation {
    let mut client = RotationServiceClient::new(admin_channel(running).await);
    client.get_rotation(GetRotationRequest {}).await.unwrap().into_inner()
}

async fn accept(running: &Running) -> Result<AcceptClockResponse, Status> {
    let (by, reason) = ("an operator".to_owned(), "a paused machine".to_owned());
    let answer = admin(running).await.accept_clock(AcceptClockRequest { by, reason }).await;
    answer.map(tonic::Response::into_inner)
}

async fn is_ready(running: &Running) -> bool {
    http_get(running, "/readyz").await.starts_with("HTTP/1.1 200")
}

fn assert_fenced(refused: &Status) {
    assert_eq!(
        (refused.code(), reason(refused).as_str()),
        (Code::Unavailable, "CLOCK_DIVERGED"),
        "{refused}"
    );
    assert!(refused.get_details_retry_info().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_for_a_moment_loses_no_row_and_leads_no_certificate() {
    let (place, clock) = (Place::new(""), clock());
    let running = start(&place, &clock).await;
    let identity = agent(&running, "node-1", &[WEB]).await;
    let mut client = AgentServiceClient::new(channel(&running, Some(identity)).await);
    workload(&mut client, WEB, &KeyPair::generate().unwrap()).await.unwrap();
    let before = status(&running).await;
    assert!(before.healthy, "{:?}", before.conditions);
    let now = clock.now();
    for jump in [now.plus(TWO_DAYS), now.minus(TWO_DAYS)] {
        clock.jump_to(jump);
        // At the use: no tick has to come first.
        assert_fenced(
            &workload(&mut client, WEB, &KeyPair::generate().unwrap()).await.unwrap_err(),
        );
        eventually("it is not ready", async || !is_ready(&running).await).await;
        let said = status(&running).await;
        assert!(!said.healthy && said.conditions[0].contains("172800 s"), "{:?}", said.conditions);
        assert!(said.conditions[0].contains("banyan clock accept"), "{:?}", said.conditions);
        assert_fenced(
            &workload(&mut client, WEB, &KeyPair::generate().unwrap()).await.unwrap_err(),
        );
        // This client's clock did not jump: the certificate that the server shows is valid for it.
        try_channel(&running, None).await.unwrap();
        clock.jump_to(now);
        eventually("it is ready", async || is_ready(&running).await).await;
    }
    let after = status(&running).await;
    assert!(after.healthy, "{:?}", after.conditions);
    assert_eq!(after.ledger.unwrap().live_rows, before.ledger.unwrap().live_rows);
    workload(&mut client, WEB, &KeyPair::generate().unwrap()).await.unwrap();
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_gate_opens_and_no_root_goes_by_a_clock_that_jumped() {
    let (place, clock) = (Place::new(QUICK), clock());
    let running = start(&place, &clock).await;
    let identity = agent(&running, "node-1", &[WEB]).await;
    let mut client = AgentServiceClient::new(channel(&running, Some(identity)).await);
    workload(&mut client, WEB, &KeyPair::generate().unwrap()).await.unwrap();
    let mut rotations = RotationServiceClient::new(admin_channel(&running).await);
    let request =
        StartRotationRequest { request_id: "one".to_owned(), ..StartRotationRequest::default() };
    rotations.start_rotation(request).await.unwrap();
    eventually("nobody acknowledges: the trust gate waits for the day", async || {
        let sealed = |gate: Gate| !gate.holds.iter().any(|hold| hold.contains("segment"));
        let rotation = rotation(&running).await;
        rotation.phase == "distributing"
            && rotation.gate.is_some_and(|gate| !gate.open && sealed(gate))
    })
    .await;
    let waits = rotation(&running).await.gate.unwrap().opens_at_latest;
    let now = clock.now();
    clock.jump_to(now.plus(TWO_DAYS));
    eventually("it is seen", async || !is_ready(&running).await).await;
    let during = rotation(&running).await;
    assert!(
        during.gate.is_none() && during.troubles.iter().any(|said| said.contains("172800 s")),
        "{during:?}"
    );
    clock.jump_to(now);
    eventually("it is over", async || is_ready(&running).await).await;
    let after = rotation(&running).await;
    assert_eq!(
        (after.phase.as_str(), after.gate.unwrap().opens_at_latest),
        ("distributing", waits)
    );
    assert_eq!(running.bundle().roots().len(), 2);
    // A day that really passes opens it.
    clock.advance(HOUR * 27);
    eventually("both gates open", async || {
        clock.advance(Duration::from_secs(1));
        running.bundle().roots().len() == 1 && rotation(&running).await.phase == "steady"
    })
    .await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_explains_no_jump_and_an_operators_word_does() {
    let (place, clock) = (Place::durable(""), clock());
    let running = start(&place, &clock).await;
    let identity = agent(&running, "node-1", &[WEB]).await;
    eventually("the clock is noted", async || place.data().join("clock.json").exists()).await;
    stop(running).await;
    let now = clock.now();
    clock.jump_to(now.plus(TWO_DAYS));
    let running = start(&place, &clock).await;
    eventually("it is not ready", async || !is_ready(&running).await).await;
    let said = status(&running).await;
    assert_eq!(said.ledger.unwrap().live_rows, 2, "the agent's and its own: no row is over");
    let mut client = AgentServiceClient::new(channel(&running, Some(identity)).await);
    assert_fenced(&workload(&mut client, WEB, &KeyPair::generate().unwrap()).await.unwrap_err());

    let unexplained = AcceptClockRequest { by: "x".to_owned(), reason: " ".to_owned() };
    let refused = admin(&running).await.accept_clock(unexplained).await.unwrap_err();
    assert_eq!(reason(&refused), "REQUEST_INVALID");
    let answer = accept(&running).await.unwrap();
    assert_eq!(
        (answer.wall - answer.expected, answer.diverged, answer.restart_needed),
        (172_800, true, false)
    );
    eventually("it is ready", async || is_ready(&running).await).await;
    assert_eq!(status(&running).await.conditions, Vec::<String>::new());
    let mut journal = RotationServiceClient::new(admin_channel(&running).await);
    let page =
        journal.read_journal(ReadJournalRequest { from: 0, limit: 0 }).await.unwrap().into_inner();
    let events = page.entries.iter().map(|entry| JournalEntry::decode(&entry.entry).unwrap().event);
    let accepted = events.filter(
        |event| matches!(event, Event::ClockAccepted { by, .. } if by.starts_with("an operator (uid ")),
    );
    assert_eq!(accepted.count(), 1);
    assert!(!accept(&running).await.unwrap().diverged, "once is enough");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_ahead_and_is_set_back_gets_its_rows_back_by_a_restart() {
    let (place, clock) = (Place::durable(""), clock());
    let running = start(&place, &clock).await;
    let identity = agent(&running, "node-1", &[WEB]).await;
    stop(running).await;
    // The machine is started with a clock that is days ahead, which nobody can tell from days that it was off.
    let now = clock.now();
    clock.set_boot("second");
    clock.jump_to(now.plus(TWO_DAYS));
    let running = start(&place, &clock).await;
    assert_eq!(status(&running).await.ledger.unwrap().live_rows, 1, "only its own");
    clock.jump_to(now);
    eventually("it is not ready", async || !is_ready(&running).await).await;
    assert!(accept(&running).await.unwrap().restart_needed);
    let said = status(&running).await;
    assert!(said.conditions[0].contains("restart this server"), "{:?}", said.conditions);
    stop(running).await;
    let running = start(&place, &clock).await;
    eventually("it is ready", async || is_ready(&running).await).await;
    let mut client = AgentServiceClient::new(channel(&running, Some(identity)).await);
    workload(&mut client, WEB, &KeyPair::generate().unwrap()).await.unwrap();
    stop(running).await;
}
