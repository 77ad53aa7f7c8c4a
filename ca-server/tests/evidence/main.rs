//! What agents say of trust, and what gates make of it: over real sockets, with agents made by hand.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy takes helpers of tests for product code"
)]

mod canary;
mod hand_made;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use ca_server::{HostDeps, Running};
use hand_made::{HandMade, stored};
use host::{OsRandomness, RealDisk, SystemClock};
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{
    AddRelyingPartyRequest, ConfirmRelyingPartyRequest, DecideRotationRequest, GetRotationRequest,
    Holder, Rotation, StartRotationRequest, StatusRequest, Verb,
};
use proto::banyan::agent::v1::agent_message::Message as Up;
use proto::banyan::agent::v1::{Doubt, Refusals, Refused, Release};
use support::{Place, SOON, admin, admin_channel, eventually, reason, stop};
use tonic::Code;
use trust::{Clock as _, ManualClock, Timestamp};

const WEB: &str = "spiffe://example.org/web";
/// Gates that open as soon as they may, and leaves that outlive a test.
const QUICK: &str = "[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"1s\"\n";

async fn rotate(running: &Running) {
    let mut rotations = RotationServiceClient::new(admin_channel(running).await);
    let request = StartRotationRequest { request_id: "one".to_owned(), ..Default::default() };
    rotations.start_rotation(request).await.unwrap();
    eventually("the bundle of both roots", || {
        std::future::ready(running.bundle().roots().len() == 2)
    })
    .await;
}

async fn rotation(running: &Running) -> Rotation {
    let mut rotations = RotationServiceClient::new(admin_channel(running).await);
    rotations.get_rotation(GetRotationRequest {}).await.unwrap().into_inner()
}

/// The holders of the gate, once there are so many.
async fn holders(running: &Running, count: usize) -> Vec<Holder> {
    let last = std::sync::Mutex::new(Vec::new());
    let named = async || {
        let gate = rotation(running).await.gate.unwrap_or_default();
        let there = gate.name == "trust" && gate.holders.len() == count;
        *last.lock().unwrap() = gate.holders;
        there
    };
    let poll = async {
        while !named().await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let outcome = tokio::time::timeout(SOON, poll).await;
    let last = last.into_inner().unwrap();
    assert!(outcome.is_ok(), "{last:#?}\n{:#?}", rotation(running).await);
    last
}

async fn conditions(running: &Running) -> Vec<String> {
    admin(running).await.status(StatusRequest {}).await.unwrap().into_inner().conditions
}

#[tokio::test(flavor = "multi_thread")]
async fn no_leaf_born_at_a_bundle_goes_to_an_agent_that_has_not_stored_it() {
    let place = Place::new(QUICK);
    let running = place.start().await.unwrap();
    let mut agent = HandMade::join(&running, "node-1").await;
    agent.issue(true).await.unwrap();
    agent.renew().await.unwrap();
    rotate(&running).await;
    for refused in [agent.issue(true).await, agent.issue(false).await, agent.renew().await] {
        let refused = refused.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::Aborted, "BUNDLE_NOT_STORED")
        );
        assert!(refused.message().contains("store it first"), "{}", refused.message());
    }
    let behind = std::mem::take(&mut agent.stored);
    let refused = agent.issue(true).await.unwrap_err();
    assert!(refused.message().contains("upgrade the agent"), "{}", refused.message());
    agent.stored = (running.bundle().sequence().0, behind.1);
    let refused = agent.issue(true).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "BUNDLE_DIFFERS")
    );
    let says = async {
        while !conditions(&running)
            .await
            .iter()
            .any(|text| text.contains("agent node-1 holds bundle 2"))
        {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, says).await.unwrap();
    // What it has now is known; that somebody published other roots is for an operator to explain.
    agent.stored = stored(&running.bundle());
    agent.issue(true).await.unwrap();
    agent.renew().await.unwrap();
    let said = conditions(&running).await;
    assert!(said.iter().any(|text| text.contains("agent node-1 holds bundle 2")), "{said:?}");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_refuses_the_bundle_holds_the_gate_by_name_until_it_has_it() {
    let place = Place::new(QUICK);
    let running = place.start().await.unwrap();
    let mut agent = HandMade::join(&running, "node-1").await;
    let leaf = agent.issue(true).await.unwrap();
    let own = agent.own.clone();
    let mut line = agent.connect(&[&own, &leaf]).await;
    assert_eq!(
        line.doubt().await,
        Doubt { rows: Vec::new(), last: true },
        "it named all that it has"
    );
    rotate(&running).await;
    line.say(Up::Refusals(Refusals {
        refused: vec![Refused {
            serial: Vec::new(),
            reason: "it came with other roots".to_owned(),
        }],
    }))
    .await;
    let refuses = |said: &[String]| {
        said.iter().any(|text| {
            text.contains("agent node-1 refuses bundle 2") && text.contains("with other roots")
        })
    };
    eventually("the refusal is a condition", async || refuses(&conditions(&running).await)).await;
    let held = holders(&running, 2).await;
    assert!(
        held.iter()
            .all(|holder| holder.agent == "node-1" && holder.last_nack.contains("other roots"))
    );
    assert!(
        held.iter().all(|holder| holder.until > 0 && !holder.own_trust),
        "their leaves end by themselves"
    );
    assert_eq!(
        reason(&agent.renew().await.unwrap_err()),
        "BUNDLE_NOT_STORED",
        "and it gets no others"
    );
    line.ack(&[&own, &leaf], 2).await;
    line.say(Up::Refusals(Refusals::default())).await;
    eventually("the new root signs", async || rotation(&running).await.phase != "distributing")
        .await;
    assert!(!refuses(&conditions(&running).await));
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_of_other_roots_under_the_same_number_counts_for_nothing() {
    let place = Place::new(QUICK);
    let running = place.start().await.unwrap();
    let mut agent = HandMade::join(&running, "node-1").await;
    let leaf = agent.issue(true).await.unwrap();
    let own = agent.own.clone();
    rotate(&running).await;
    agent.stored = (2, vec![7; 32]);
    let mut line = agent.connect(&[&own, &leaf]).await;
    line.doubt().await;
    line.ack(&[&own, &leaf], 2).await;
    // What is said later is heard later.
    let refused = Refused { serial: Vec::new(), reason: "it came with other roots".to_owned() };
    line.say(Up::Refusals(Refusals { refused: vec![refused] })).await;
    let refuses =
        |said: Vec<String>| said.iter().any(|text| text.contains("agent node-1 refuses bundle 2"));
    eventually("the refusal is a condition", async || refuses(conditions(&running).await)).await;
    let held = holders(&running, 2).await;
    assert!(held.iter().all(|holder| holder.agent == "node-1"), "{held:#?}");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_with_trust_of_its_own_is_named_and_only_a_word_that_covers_it_opens_the_gate() {
    let place = Place::new(QUICK);
    let running = place.start().await.unwrap();
    let mut agent = HandMade::join(&running, "node-1").await;
    let leaf = agent.issue(false).await.unwrap();
    let mut rotations = RotationServiceClient::new(admin_channel(&running).await);
    let dry =
        StartRotationRequest { request_id: "dry".to_owned(), dry_run: true, ..Default::default() };
    let answer = rotations.start_rotation(dry).await.unwrap().into_inner();
    let (forecast, outlook) = (answer.forecast, answer.outlook.unwrap());
    assert_eq!(
        (outlook.signs_within_seconds, outlook.ends_within_seconds),
        (None, None),
        "only a word ends that"
    );
    assert!(outlook.exclusive && !outlook.unknown.is_empty(), "{outlook:#?}");
    let away = "agent node-1 is not connected";
    assert!(
        forecast.iter().any(|text| text.starts_with("behind already: ") && text.contains(away)),
        "{forecast:#?}"
    );
    let says = |words: &str| forecast.iter().any(|text| text.contains(words));
    assert!(
        says("spiffe://example.org/web (agent-held, agent node-1) takes no validation secret"),
        "{forecast:#?}"
    );
    assert!(says("the new root never signs by itself"), "{forecast:#?}");
    rotate(&running).await;
    // Everybody else is there, and the holder has a later leaf: that changes nothing.
    agent.stored = stored(&running.bundle());
    let own = agent.own.clone();
    let mut line = agent.connect(&[&own, &leaf]).await;
    line.doubt().await;
    let later = agent.issue(false).await.unwrap();
    line.ack(&[&own], 2).await;
    line.say(Up::Release(Release { serials: vec![leaf] })).await;
    let held = holders(&running, 1).await;
    assert_eq!(
        (held[0].identity.as_str(), held[0].agent.as_str(), held[0].serial.clone()),
        (WEB, "node-1", later)
    );
    assert!(held[0].own_trust && held[0].until == 0, "{held:#?}");
    assert_eq!(rotation(&running).await.gate.unwrap_or_default().opens_at_latest, 0);
    let early = DecideRotationRequest {
        request_id: "early".to_owned(),
        verb: Verb::Activate.into(),
        ..Default::default()
    };
    let refused = rotations.decide_rotation(early).await.unwrap_err();
    for words in [
        WEB,
        "no validation secret",
        "banyan relying-party add NAME --covers",
        "it does not open by itself",
    ] {
        assert!(refused.message().contains(words), "{words} is missing in: {}", refused.message());
    }
    let covers = vec![WEB.to_owned()];
    let file = || "file".to_owned();
    let request = AddRelyingPartyRequest { name: file(), covers, ..Default::default() };
    rotations.add_relying_party(request).await.unwrap();
    let held = holders(&running, 2).await;
    assert!(
        held.iter().any(|holder| holder.text.contains("banyan relying-party confirm file")),
        "{held:#?}"
    );
    rotations
        .confirm_relying_party(ConfirmRelyingPartyRequest { name: file(), ..Default::default() })
        .await
        .unwrap();
    eventually("the new root signs", async || rotation(&running).await.phase != "distributing")
        .await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_may_assume_the_trust_of_such_holders_after_a_time() {
    let place = Place::new(&format!("{QUICK}own_trust_after = \"1h\"\n"));
    let running = place.start().await.unwrap();
    let mut agent = HandMade::join(&running, "node-1").await;
    agent.issue(false).await.unwrap();
    rotate(&running).await;
    let held = holders(&running, 2).await;
    let holder = held.iter().find(|holder| holder.own_trust).unwrap();
    assert!(holder.text.contains("the gate goes on without it at"), "{}", holder.text);
    let gate = rotation(&running).await.gate.unwrap_or_default();
    assert!(gate.opens_at_latest > gate.at, "{gate:#?}");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_opens_over_such_holders_when_the_time_of_the_policy_is_over_and_not_before() {
    let place = Place::new(&format!("{QUICK}own_trust_after = \"1h\"\n"));
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let deps = HostDeps {
        clock: Arc::<ManualClock>::clone(&clock),
        randomness: Arc::new(OsRandomness::new()),
        disk: Arc::new(RealDisk),
    };
    let running = place.start_with(deps).await.unwrap();
    let mut agent = HandMade::join(&running, "node-1").await;
    let leaf = agent.issue(false).await.unwrap();
    rotate(&running).await;
    agent.stored = stored(&running.bundle());
    let own = agent.own.clone();
    let mut line = agent.connect(&[&own, &leaf]).await;
    line.doubt().await;
    line.ack(&[&own], 2).await;
    let held = holders(&running, 1).await;
    assert!(
        held[0].own_trust && held[0].text.contains("the gate goes on without it at"),
        "{held:#?}"
    );
    // An unsealed segment would be waited for, too, and for longer.
    let bound = clock.now().plus(Duration::from_secs(7_200)).as_secs();
    let opens_at =
        async || rotation(&running).await.gate.map_or(i64::MAX, |gate| gate.opens_at_latest);
    eventually("its trust alone is waited for", async || opens_at().await < bound).await;
    let opens = opens_at().await;
    assert!(opens >= clock.now().plus(Duration::from_secs(3_500)).as_secs());

    // A minute before: judged at that time, and closed.
    clock.advance(Timestamp::from_secs(opens).since(clock.now()) - Duration::from_secs(60));
    let before = clock.now().as_secs();
    eventually("it is judged again", async || {
        let rotation = rotation(&running).await;
        assert_eq!(rotation.phase, "distributing");
        rotation.gate.is_some_and(|gate| gate.at >= before && !gate.open)
    })
    .await;
    // The driver has judged it, too, over more than `settle`.
    tokio::time::timeout(Duration::from_secs(3), async {
        while rotation(&running).await.phase == "distributing" {
            clock.advance(Duration::from_millis(50));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect_err("it opens before its time");
    assert_eq!(holders(&running, 1).await[0].identity, WEB);
    clock.advance(Duration::from_secs(60));
    eventually("the new root signs", async || {
        clock.advance(Duration::from_millis(100));
        rotation(&running).await.phase != "distributing"
    })
    .await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_that_an_agent_does_not_name_are_asked_about_and_end_by_its_word_alone() {
    let place = Place::new(QUICK);
    let running = place.start().await.unwrap();
    let mut agent = HandMade::join(&running, "node-1").await;
    let (kept, lost) = (agent.issue(true).await.unwrap(), agent.issue(true).await.unwrap());
    let mut other = HandMade::join(&running, "node-2").await;
    other.issue(true).await.unwrap();
    let own = agent.own.clone();
    let mut line = agent.connect(&[&own, &kept]).await;
    let doubt = line.doubt().await;
    let asked: Vec<_> = doubt.rows.iter().map(|row| row.serial.clone()).collect();
    assert_eq!((asked, doubt.last), (vec![lost.clone()], true));
    let live = async || {
        let status = admin(&running).await.status(StatusRequest {}).await.unwrap().into_inner();
        status.ledger.unwrap_or_default().live_rows
    };
    let before = live().await;
    line.say(Up::Release(Release { serials: vec![lost] })).await;
    eventually("the lost one has ended", async || live().await == before - 1).await;
    let mut again = agent.connect(&[&own, &kept]).await;
    assert!(again.doubt().await.rows.is_empty());
    stop(running).await;
}
