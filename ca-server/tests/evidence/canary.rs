//! A canary at a real server: who gets leaves of which root, what holds it, and what lets it go on.

use ca_server::Running;
use proto::banyan::admin::v1::leaf_service_client::LeafServiceClient;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{
    CohortStanding, DecideRotationRequest, ListLeavesRequest, Rotation, StartRotationRequest, Verb,
};
use proto::banyan::agent::v1::agent_message::Message as Up;
use proto::banyan::agent::v1::server_message::Message as Down;
use proto::banyan::agent::v1::{Nack, Release};
use tonic::Status;

use crate::hand_made::{HandMade, Line, stored};
use crate::support::{Place, admin_channel, eventually, once_free, reason, stop};
use crate::{WEB, conditions, rotation};

/// Gates that open as soon as they may, and a cohort that is watched for two seconds.
const QUICK: &str =
    "[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"1s\"\ncanary_observe = \"2s\"\n";

async fn start(running: &Running, canary: &str) -> Result<Rotation, Status> {
    let mut rotations = RotationServiceClient::new(admin_channel(running).await);
    let (request_id, canary) = ("one".to_owned(), canary.to_owned());
    let request = StartRotationRequest { request_id, canary, ..Default::default() };
    let answer = rotations.start_rotation(request).await?;
    Ok(answer.into_inner().rotation.unwrap_or_default())
}

async fn decide(
    running: &Running,
    verb: Verb,
    named: bool,
    cohort: &str,
) -> Result<Rotation, Status> {
    let mut rotations = RotationServiceClient::new(admin_channel(running).await);
    let said = |text: &str| if named { text.to_owned() } else { String::new() };
    let request = DecideRotationRequest {
        request_id: format!("{verb:?}-{named}-{}", cohort.len()),
        verb: verb.into(),
        by: said("ann"),
        reason: said("seen and mended"),
        cohort: cohort.to_owned(),
    };
    rotations.decide_rotation(request).await.map(tonic::Response::into_inner)
}

/// The root that a live leaf chains to.
async fn root_of(running: &Running, serial: &[u8]) -> Vec<u8> {
    let mut leaves = LeafServiceClient::new(admin_channel(running).await);
    let asked = ListLeavesRequest { ended: true, ..Default::default() };
    let listed = leaves.list_leaves(asked).await.unwrap().into_inner().leaves;
    let leaf = listed.into_iter().find(|leaf| leaf.serial == serial);
    leaf.expect("a leaf of this serial").root
}

async fn cohort(running: &Running) -> CohortStanding {
    rotation(running).await.cohort.unwrap_or_default()
}

async fn phase(running: &Running, wanted: &str) {
    let last = std::sync::Mutex::new(String::new());
    let is = async || {
        let now = rotation(running).await;
        *last.lock().unwrap() = format!("{now:#?}");
        now.phase == wanted
    };
    let poll = async {
        while !is().await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let outcome = tokio::time::timeout(crate::support::SOON, poll).await;
    assert!(outcome.is_ok(), "not {wanted}: {}", last.into_inner().unwrap());
}

/// An agent with one leaf that has everything in force, and its stream, in the canary of a rotation for this cohort.
async fn in_canary(running: &Running, canary: &str) -> (HandMade, Vec<u8>, Line) {
    let mut agent = HandMade::join(running, "node-1").await;
    let leaf = agent.issue(true).await.unwrap();
    let own = agent.own.clone();
    let mut line = agent.connect(&[&own, &leaf]).await;
    line.doubt().await;
    start(running, canary).await.unwrap();
    eventually("the bundle of both roots", || {
        std::future::ready(running.bundle().roots().len() == 2)
    })
    .await;
    agent.stored = stored(&running.bundle());
    line.ack(&[&own, &leaf], 2).await;
    phase(running, "canary").await;
    (agent, leaf, line)
}

/// The agent is asked to renew this leaf, gets another one, and its holder has it.
async fn renewed(agent: &mut HandMade, line: &mut Line, leaf: &Vec<u8>) -> Vec<u8> {
    loop {
        if let Down::Reissue(hint) = line.next().await
            && hint.serials.contains(leaf)
        {
            break;
        }
    }
    let next = agent.issue(true).await.unwrap();
    line.ack(&[&next], 2).await;
    line.say(Up::Release(Release { serials: vec![leaf.clone()] })).await;
    next
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_root_signs_for_the_cohort_first_and_for_everybody_once_that_was_well() {
    let place = Place::new(QUICK);
    let running = place.start().await.unwrap();
    let (mut agent, leaf, mut line) = in_canary(&running, WEB).await;
    let seen = rotation(&running).await;
    assert_eq!(seen.cohort.as_ref().map(|cohort| cohort.cohort.as_str()), Some(WEB));
    let (from, to) = (seen.from_root, seen.to_root);
    // The agent's own certificate is no member's.
    let own = agent.renew().await.unwrap();
    assert_eq!(root_of(&running, &own).await, from);
    let next = renewed(&mut agent, &mut line, &leaf).await;
    assert_eq!(root_of(&running, &next).await, to);
    eventually("it is counted", async || cohort(&running).await.taken == 1).await;
    phase(&running, "draining").await;
    let after = agent.renew().await.unwrap();
    assert_eq!(root_of(&running, &after).await, to);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_its_holder_refuses_holds_the_canary_until_somebody_says_go_on_by_name() {
    let place = Place::new(QUICK);
    let running = place.start().await.unwrap();
    let (mut agent, leaf, mut line) = in_canary(&running, "100%").await;
    let next = renewed(&mut agent, &mut line, &leaf).await;
    let reason_said = "unknown signature algorithm".to_owned();
    line.say(Up::Nack(Nack { serial: next.clone(), sequence: 2, reason: reason_said })).await;
    eventually("it is held", async || !cohort(&running).await.held_for.is_empty()).await;
    let held = rotation(&running).await;
    assert!(held.held_since > 0 && held.phase == "canary", "{held:#?}");
    let named = |text: &String| text.contains(WEB) && text.contains("unknown signature algorithm");
    assert!(held.troubles.iter().any(named), "{:#?}", held.troubles);
    assert!(held.gate.unwrap().summary.contains("banyan rotate rollback"));
    let said = conditions(&running).await;
    let is_said =
        |text: &String| text.contains("the canary is held since 1 of 1 leaves were refused");
    assert!(said.iter().any(is_said), "{said:?}");

    let refused = decide(&running, Verb::Resume, false, "").await.unwrap_err();
    assert_eq!(reason(&refused), "ROTATION_REFUSED");
    assert!(refused.message().contains("--by NAME --reason TEXT"), "{refused:?}");
    decide(&running, Verb::Resume, true, "").await.unwrap();
    // What was accepted holds it no more. Nobody is well, so it goes on by a word only.
    let on = rotation(&running).await;
    assert_eq!((on.held_since, on.phase.as_str()), (0, "canary"), "{on:#?}");
    decide(&running, Verb::Rollback, true, "").await.unwrap();
    let back = rotation(&running).await;
    assert!(back.rolled_back && back.phase == "draining", "{back:#?}");
    let again = agent.issue(true).await.unwrap();
    assert_eq!(root_of(&running, &again).await, back.to_root, "the former root signs again");
    decide(&running, Verb::Activate, true, "").await.unwrap();
    line.ack(&[&again], 2).await;
    phase(&running, "canary").await;
    assert_eq!(cohort(&running).await.cohort, "100%");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cohort_that_dies_or_has_nobody_is_never_taken_for_one_that_is_well() {
    let place = Place::new(QUICK);
    let running = place.start().await.unwrap();
    let (mut agent, leaf, mut line) = in_canary(&running, "spiffe://example.org/other").await;
    let waits = async || {
        let gate = rotation(&running).await.gate.unwrap_or_default();
        gate.summary.contains("0 of 0 leaves of the cohort") && gate.opens_at_latest == 0
    };
    eventually("nobody is in it, and that is said", waits).await;
    let narrower = decide(&running, Verb::Widen, true, "1%").await.unwrap_err();
    assert!(narrower.message().contains("a cohort only grows"), "{narrower:?}");
    decide(&running, Verb::Widen, true, "100%").await.unwrap();
    renewed(&mut agent, &mut line, &leaf).await;
    drop((line, agent));
    eventually("its only member is gone", async || cohort(&running).await.silent == 1).await;
    let said = conditions(&running).await;
    assert!(said.iter().any(|text| text.contains("are of members that are not there")), "{said:?}");
    let named = |text: &String| text.contains(WEB) && text.contains("agent node-1, which is not");
    assert!(rotation(&running).await.troubles.iter().any(named));
    // Longer than the cohort would be watched, and then by an operator's word.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_eq!(rotation(&running).await.phase, "canary");
    decide(&running, Verb::Activate, true, "").await.unwrap();
    assert_eq!(rotation(&running).await.phase, "draining");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_in_a_canary_goes_on_with_it() {
    let place = Place::durable(&QUICK.replace("\"2s\"", "\"1h\""));
    let running = place.start().await.unwrap();
    let (mut agent, leaf, mut line) = in_canary(&running, WEB).await;
    let next = renewed(&mut agent, &mut line, &leaf).await;
    let to = rotation(&running).await.to_root;
    assert_eq!(root_of(&running, &next).await, to);
    stop(running).await;
    let running = once_free(&place).await.unwrap();
    let after = rotation(&running).await;
    assert_eq!((after.phase.as_str(), &after.to_root), ("canary", &to));
    eventually("it is looked at the cohort", async || {
        let seen = cohort(&running).await;
        seen.silent == 1 && seen.cohort == WEB
    })
    .await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_cohort_is_refused_and_a_rehearsal_counts_its_members() {
    let place = Place::new("[rotation]\ncanary = \"5%\"\n");
    let running = place.start().await.unwrap();
    let mut agent = HandMade::join(&running, "node-1").await;
    agent.issue(true).await.unwrap();
    for (wrong, why) in [
        ("shop", "is neither a share"),
        ("0%", "is no share"),
        ("spiffe://other.org/*", "of another trust domain"),
    ] {
        let refused = start(&running, wrong).await.unwrap_err();
        assert_eq!(reason(&refused), "REQUEST_INVALID", "{wrong}");
        assert!(refused.message().contains(why), "{refused:?}");
    }
    let mut rotations = RotationServiceClient::new(admin_channel(&running).await);
    let mut dry =
        StartRotationRequest { request_id: "dry".to_owned(), dry_run: true, ..Default::default() };
    for (canary, says) in [
        (WEB, Some("1 leaves live here")),
        ("spiffe://example.org/other", Some("nobody in spiffe://example.org/other has a leaf")),
        ("none", None),
    ] {
        dry.canary = canary.to_owned();
        let said = rotations.start_rotation(dry.clone()).await.unwrap().into_inner().forecast;
        let of_canary: Vec<_> = said.iter().filter(|text| text.starts_with("canary:")).collect();
        match says {
            Some(says) => assert!(of_canary.iter().any(|text| text.contains(says)), "{said:?}"),
            None => assert!(of_canary.is_empty(), "{said:?}"),
        }
    }
    // The configuration asks for one where nobody says otherwise.
    let started = start(&running, "").await.unwrap();
    assert_eq!(started.cohort.map(|cohort| cohort.cohort).as_deref(), Some("5%"));
    stop(running).await;
}
