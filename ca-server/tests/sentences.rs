//! What a server says of a rotation: each advice can be followed, each time is the one that counts.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy takes helpers of tests for product code"
)]

mod support;

use std::time::Duration;

use ca_server::Running;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{
    AddRelyingPartyRequest, AttestRootRequest, ConfirmRelyingPartyRequest, DecideRotationRequest,
    Gate, GetRotationRequest, Rotation, StartRotationRequest, StartRotationResponse, Verb,
};
use support::cacerts::OtherCa;
use support::{Place, admin_channel, eventually, stop};
use tonic::Status;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

const QUICK: &str = "[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"1s\"\n";
const LONG: Duration = Duration::from_secs(86_400 * 3_650);

async fn client(running: &Running) -> RotationServiceClient<Channel> {
    RotationServiceClient::new(admin_channel(running).await)
}

async fn rotation(running: &Running) -> Rotation {
    client(running).await.get_rotation(GetRotationRequest {}).await.unwrap().into_inner()
}

async fn gate(running: &Running) -> Gate {
    rotation(running).await.gate.unwrap_or_default()
}

async fn until(running: &Running, what: &str, holds: impl Fn(&Rotation) -> bool) {
    eventually(what, async || holds(&rotation(running).await)).await;
}

async fn start(running: &Running, wish: StartRotationRequest) -> StartRotationResponse {
    client(running).await.start_rotation(wish).await.unwrap().into_inner()
}

fn to(authority: &str, mode: &str) -> StartRotationRequest {
    StartRotationRequest {
        request_id: "one".to_owned(),
        authority: authority.to_owned(),
        mode: mode.to_owned(),
        ..Default::default()
    }
}

async fn decide(running: &Running, request_id: &str, verb: Verb) -> Result<Rotation, Status> {
    let request_id = request_id.to_owned();
    let request = DecideRotationRequest { request_id, verb: verb.into(), ..Default::default() };
    client(running).await.decide_rotation(request).await.map(tonic::Response::into_inner)
}

/// What a refusal says is wrong, and what can be done: told apart.
fn told(status: &Status) -> (String, String) {
    let advice = status.get_error_details().error_info().unwrap().metadata["advice"].clone();
    let what = status.message().strip_suffix(&format!("; {advice}")).unwrap();
    (what.to_owned(), advice)
}

async fn add(running: &Running, name: &str) {
    let request = AddRelyingPartyRequest { name: name.to_owned(), ..Default::default() };
    client(running).await.add_relying_party(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_root_goes_when_the_others_longest_life_is_over_and_what_opens_its_gate_is_named()
{
    let authorities = "[root]\nauthority = \"istio\"\n[authority.istio]\nplugin = \"file\"\ndirectory = \"istio\"\n\
                       foreign_leaf_max = \"2s\"\n[authority.own]\nplugin = \"self-signed\"\n[leaf]\nskew = \"1s\"\n";
    let place = Place::new(&format!("{QUICK}{authorities}"));
    let root = OtherCa::root("shared", LONG);
    root.put(&root, &place.path().join("istio"));
    let running = place.start().await.unwrap();
    start(&running, to("own", "auto")).await;
    // Leaves of this CA last for a day; this server's own is renewed at once.
    until(&running, "only the others are waited for", |rotation| {
        let gate = rotation.gate.clone().unwrap_or_default();
        gate.name == "leaf" && gate.holders_total == 1 && gate.holders[0].kind == "shared-root"
    })
    .await;
    let waiting = gate(&running).await;
    assert_eq!((waiting.opens_at_latest, waiting.waits_for.as_str()), (0, "confirm"));
    let way = format!("banyan root attest {} --by NAME", root.id().short());
    for said in [&waiting.summary, &waiting.ways[0], &waiting.holders[0].text] {
        assert!(said.contains(&way), "{said}");
        assert!(!said.contains("confirm") && !said.contains("cover"), "{said}");
    }
    let attest = AttestRootRequest { root: root.id().as_bytes().to_vec(), ..Default::default() };
    let attested = client(&running).await.attest_root(attest).await.unwrap().into_inner();
    let rotation_now = rotation(&running).await;
    if let Some(gate) =
        rotation_now.gate.filter(|gate| gate.name == "leaf" && !gate.holders.is_empty())
    {
        // Twice the skew, and a second more.
        assert_eq!(gate.holders[0].until, attested.foreign_until + 3, "{gate:#?}");
    }
    until(&running, "the root is gone", |rotation| rotation.phase == "steady").await;
    assert_eq!(rotation(&running).await.last_ending, "completed");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_activation_names_whom_it_waits_for_and_once_what_can_be_done() {
    let place = Place::new(QUICK);
    let running = place.start().await.unwrap();
    // Names that together are longer than a refusal may be.
    let names: Vec<_> =
        (0..40).map(|number| format!("partner-{number}/{}", "x".repeat(100))).collect();
    for name in &names {
        add(&running, name).await;
    }
    start(&running, to("", "manual")).await;
    until(&running, "the trust gate", |rotation| {
        rotation.gate.as_ref().is_some_and(|gate| gate.holders_total == 40)
    })
    .await;
    let refused = decide(&running, "early", Verb::Activate).await.unwrap_err();
    let (what, advice) = told(&refused);
    assert!(what.starts_with("refused while distributing: the trust gate is closed: "), "{what}");
    let named = names.iter().filter(|name| what.contains(name.as_str())).count();
    assert!(
        named > 0
            && what.contains(&format!("and {} more, as `banyan rotate explain` says", 40 - named)),
        "{what}"
    );
    assert_eq!(what.matches('`').count() % 2, 0, "{what}");
    for (command, times) in
        [("banyan rotate abort", 1), ("banyan relying-party confirm NAME", 1), ("attest", 0)]
    {
        assert_eq!(advice.matches(command).count(), times, "{advice}");
        assert_eq!(what.matches(command).count(), 0, "{what}");
    }
    // The advice is followed.
    decide(&running, "stop", Verb::Abort).await.unwrap();
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_withdraws_nothing_is_said_to_have_no_end_and_an_abort_asks_for_no_second_confirmation()
 {
    let place = Place::new("[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"1h\"\n");
    let running = place.start().await.unwrap();
    add(&running, "partner").await;
    start(&running, to("", "manual")).await;
    until(&running, "both roots are out", |rotation| rotation.phase == "distributing").await;
    decide(&running, "stop", Verb::Abort).await.unwrap();
    until(&running, "only the partner is waited for", |rotation| {
        let gate = rotation.gate.clone().unwrap_or_default();
        gate.name == "converged" && gate.holders_total == 1 && gate.holds.len() == 1
    })
    .await;
    let waiting = gate(&running).await;
    assert!(waiting.opens_at_latest > waiting.at && waiting.ways.is_empty(), "{waiting:#?}");
    let holder = &waiting.holders[0];
    assert_eq!(holder.until, waiting.opens_at_latest, "{waiting:#?}");
    assert!(holder.needs.ends_with(" confirmed"), "{}", holder.needs);
    for said in [&waiting.summary, &waiting.holds[0], &holder.text] {
        assert!(
            !said.contains("no time") && !said.contains("once more") && !said.contains("second"),
            "{said}"
        );
    }
    // On hold it is the hold that is to end, and no verb ends it in silence.
    decide(&running, "hold", Verb::Hold).await.unwrap();
    let held = decide(&running, "stop-again", Verb::Abort).await.unwrap();
    assert!(held.held_since > 0, "{held:#?}");
    assert_eq!(held.legal, ["resume"]);
    let second = StartRotationRequest { request_id: "two".to_owned(), ..Default::default() };
    let refused = client(&running).await.start_rotation(second).await.unwrap_err();
    let (what, advice) = told(&refused);
    assert!(what.contains("was aborted and is still finishing"), "{what}");
    assert_eq!(advice, "let it go on with `banyan rotate resume`");
    decide(&running, "resume", Verb::Resume).await.unwrap();
    let confirm = ConfirmRelyingPartyRequest { name: "partner".to_owned(), ..Default::default() };
    client(&running).await.confirm_relying_party(confirm).await.unwrap();
    until(&running, "it is over", |rotation| rotation.phase == "steady").await;
    let over = rotation(&running).await;
    assert_eq!((over.last_request_id.as_str(), over.last_ending.as_str()), ("one", "aborted"));
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_counts_the_relying_party_that_may_say_nothing_for_longest() {
    let place = Place::new(QUICK);
    let running = place.start().await.unwrap();
    let slow = AddRelyingPartyRequest {
        name: "slow".to_owned(),
        staleness_seconds: 8_640_000,
        ..AddRelyingPartyRequest::default()
    };
    client(&running).await.add_relying_party(slow).await.unwrap();
    let answer = start(&running, StartRotationRequest { dry_run: true, ..to("", "auto") }).await;
    let outlook = answer.outlook.unwrap();
    let (signs, ends) = (outlook.signs_within_seconds, outlook.ends_within_seconds);
    assert!(signs >= Some(8_640_000) && ends > signs, "{signs:?} {ends:?}: {:#?}", answer.forecast);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_no_time_at_which_a_root_signs_that_waits_for_an_activation() {
    let place = Place::new(&format!("{QUICK}mode = \"manual\"\n"));
    let running = place.start().await.unwrap();
    for (mode, signs) in [("", false), ("manual", false), ("auto", true)] {
        let answer = start(&running, StartRotationRequest { dry_run: true, ..to("", mode) }).await;
        let outlook = answer.outlook.unwrap();
        assert_eq!(outlook.signs_within_seconds.is_some(), signs, "{mode}: {:#?}", answer.forecast);
        assert_eq!(outlook.ends_within_seconds.is_some(), signs, "{mode}");
        let says = |words: &str| answer.forecast.iter().any(|said| said.contains(words));
        assert_eq!(says("the new root signs within"), signs, "{:#?}", answer.forecast);
        assert_eq!(
            says("`banyan rotate activate`, since the mode is manual"),
            !signs,
            "{:#?}",
            answer.forecast
        );
    }
    stop(running).await;
}
