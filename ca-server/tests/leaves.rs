//! Leaves that nobody holds, tokens that are taken back, and the words of operators in the journal: at a real server.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy takes helpers of tests for product code"
)]

mod support;

use ca_server::Running;
use proto::banyan::admin::v1::agent_admin_service_client::AgentAdminServiceClient;
use proto::banyan::admin::v1::leaf_service_client::LeafServiceClient;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::token_service_client::TokenServiceClient;
use proto::banyan::admin::v1::{
    AddRelyingPartyRequest, ConfirmRelyingPartyRequest, ForgetLeavesRequest, GetRotationRequest,
    Leaf, ListLeavesRequest, ListTokensRequest, ReadJournalRequest, RemoveRelyingPartyRequest,
    RevokeTokensRequest, RuleAgentsRequest, StartRotationRequest, StatusRequest,
};
use proto::banyan::agent::v1::agent_message::Message as Said;
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use proto::banyan::agent::v1::{
    Ack, AgentMessage, AppliedRow, EvidenceClass, Hello, IssueResponse, ServerMessage,
};
use rcgen::KeyPair;
use support::{
    Place, admin, admin_channel, agent, bearer, channel, eventually, reason, registration, stop,
    token, workload,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use trust::Certificate;

const WEB: &str = "spiffe://example.org/web";
/// Gates that open as soon as they may, and leaves that outlive a test.
const QUICK: &str = "[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"1s\"\n";

fn serial(answer: &IssueResponse) -> Vec<u8> {
    Certificate::parse(&answer.chain[0]).unwrap().serial().unwrap().as_bytes().to_vec()
}

/// An agent that joined, with a leaf for its workload.
async fn member(running: &Running, name: &str) -> (AgentServiceClient<Channel>, Vec<u8>) {
    let identity = agent(running, name, &[WEB]).await;
    let mut client = AgentServiceClient::new(channel(running, Some(identity)).await);
    let leaf = workload(&mut client, WEB, &KeyPair::generate().unwrap()).await.unwrap();
    (client, serial(&leaf))
}

/// Its stream, once the server has taken the first word.
async fn stream(
    client: &mut AgentServiceClient<Channel>,
    held: &[&Vec<u8>],
) -> (mpsc::Sender<AgentMessage>, Streaming<ServerMessage>) {
    let (up, messages) = mpsc::channel(4);
    let held_serials = held.iter().map(|serial| (*serial).clone()).collect();
    let hello = Hello { held_serials, ..Hello::default() };
    up.send(AgentMessage { message: Some(Said::Hello(hello)) }).await.unwrap();
    let mut down = client.connect(ReceiverStream::new(messages)).await.unwrap().into_inner();
    down.message().await.unwrap().unwrap();
    (up, down)
}

async fn leaves(running: &Running, asked: ListLeavesRequest) -> Vec<Leaf> {
    let mut client = LeafServiceClient::new(admin_channel(running).await);
    let page = client.list_leaves(asked).await.unwrap().into_inner();
    assert!(page.next.is_empty(), "all of them are on one page");
    page.leaves
}

async fn behind(running: &Running, agent: &str) -> Vec<Leaf> {
    leaves(running, ListLeavesRequest { agent: agent.to_owned(), ..Default::default() }).await
}

fn gone(serials: Vec<Vec<u8>>) -> ForgetLeavesRequest {
    let (by, reason) = ("ann".to_owned(), "the node burnt down".to_owned());
    ForgetLeavesRequest { serials, by, reason, ..Default::default() }
}

async fn conditions(running: &Running) -> Vec<String> {
    admin(running).await.status(StatusRequest {}).await.unwrap().into_inner().conditions
}

/// What operators did, as the journal has it: verb, whom it was about, who and why.
async fn acts(running: &Running) -> Vec<[String; 4]> {
    let mut rotations = RotationServiceClient::new(admin_channel(running).await);
    let page = rotations.read_journal(ReadJournalRequest::default()).await.unwrap().into_inner();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let entries = page.entries.iter().map(|entry| serde_json::from_slice(&entry.entry).unwrap());
    let acted = entries.filter_map(|entry: serde_json::Value| {
        let act = entry["event"].get("operator_acted")?.clone();
        Some([text(&act["verb"]), text(&act["about"]), text(&entry["by"]), text(&entry["reason"])])
    });
    acted.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_that_nobody_holds_end_by_name_and_the_rotation_goes_on_without_them() {
    let place = Place::new(QUICK);
    let running = place.start().await.unwrap();
    let (client, leaf) = member(&running, "node-1").await;
    drop(client);
    let mut rotations = RotationServiceClient::new(admin_channel(&running).await);
    let request = StartRotationRequest { request_id: "one".to_owned(), ..Default::default() };
    rotations.start_rotation(request).await.unwrap();
    let holding = || async {
        let asked = ListLeavesRequest { holding: true, ..Default::default() };
        leaves(&running, asked).await
    };
    eventually("both leaves hold the trust gate", || async { holding().await.len() == 2 }).await;
    let held = holding().await;
    assert!(held.iter().all(|leaf| leaf.holds == "trust" && leaf.agent == "node-1"), "{held:?}");
    assert!(
        held.iter()
            .any(|row| row.serial == leaf && row.kind == "agent-held" && row.identity == WEB)
    );

    let mut client = LeafServiceClient::new(admin_channel(&running).await);
    let serials: Vec<_> = held.into_iter().map(|leaf| leaf.serial).collect();
    let without_reason = ForgetLeavesRequest { reason: " ".to_owned(), ..gone(serials.clone()) };
    assert_eq!(reason(&client.forget_leaves(without_reason).await.unwrap_err()), "REQUEST_INVALID");
    let unknown = client.forget_leaves(gone(vec![vec![0x4a; 16]])).await.unwrap_err();
    assert_eq!(reason(&unknown), "LEAF_UNKNOWN");
    let dry = ForgetLeavesRequest { dry_run: true, ..gone(serials.clone()) };
    let preview = client.forget_leaves(dry).await.unwrap().into_inner();
    assert_eq!((preview.gate.as_str(), preview.holds_before, preview.holds_after), ("trust", 2, 0));
    assert!(
        preview.leaves.iter().all(|leaf| !leaf.held && leaf.risk.contains("node-1")),
        "{preview:?}"
    );
    assert_eq!(holding().await.len(), 2, "a preview changes nothing");

    client.forget_leaves(gone(serials)).await.unwrap();
    eventually("the rotation is over", || async {
        let mut rotations = RotationServiceClient::new(admin_channel(&running).await);
        let rotation = rotations.get_rotation(GetRotationRequest {}).await.unwrap().into_inner();
        rotation.phase == "steady" && rotation.done.iter().any(|id| id == "one")
    })
    .await;
    let acts = acts(&running).await;
    let forgotten: Vec<_> = acts.iter().filter(|[verb, ..]| verb == "leaf forget").collect();
    assert_eq!(forgotten.len(), 1, "what was refused is no act: {acts:?}");
    let [_, about, by, why] = forgotten[0];
    let digits: String = leaf.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(
        about.contains(&digits) && by.starts_with("ann (uid ") && why == "the node burnt down",
        "{acts:?}"
    );
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_connected_is_believed_before_an_operator_and_its_word_brings_a_leaf_back()
{
    let place = Place::new("");
    let running = place.start().await.unwrap();
    let (mut client, first) = member(&running, "node-1").await;
    let second = serial(&workload(&mut client, WEB, &KeyPair::generate().unwrap()).await.unwrap());
    let (up, _down) = stream(&mut client, &[]).await;
    let mut operator = LeafServiceClient::new(admin_channel(&running).await);
    let both = || gone(vec![first.clone(), second.clone()]);
    let refused = operator.forget_leaves(both()).await.unwrap_err();
    assert_eq!(reason(&refused), "LEAF_HELD", "{refused:?}");
    operator.forget_leaves(ForgetLeavesRequest { force: true, ..both() }).await.unwrap();
    let all_forgotten =
        |leaves: &[Leaf], word: &str| leaves.iter().filter(|leaf| leaf.forgotten == word).count();
    let asked = || ListLeavesRequest { forgotten: true, ..Default::default() };
    assert_eq!(all_forgotten(&leaves(&running, asked()).await, "forgotten"), 2);
    assert_eq!(behind(&running, "node-1").await.len(), 1, "its own certificate counts on");
    assert_eq!(conditions(&running).await, [""; 0]);

    let row =
        AppliedRow { serial: first.clone(), sequence: 1, evidence: EvidenceClass::Applied.into() };
    up.send(AgentMessage { message: Some(Said::Ack(Ack { rows: vec![row] })) }).await.unwrap();
    let still_held = || async {
        let said = conditions(&running).await;
        said.iter()
            .filter(|said| said.contains("forgotten leaf still held") && said.contains("node-1"))
            .count()
    };
    eventually("an acknowledgement brings it back", || async { still_held().await == 1 }).await;
    let (_up, _down) = stream(&mut client, &[&second]).await;
    eventually("so does the first word of a stream", || async { still_held().await == 2 }).await;
    assert_eq!(all_forgotten(&leaves(&running, asked()).await, "held after all"), 2);
    assert_eq!(behind(&running, "node-1").await.len(), 3, "gates wait for them again");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_agent_takes_its_leaves_along_if_it_is_not_connected() {
    let place = Place::new("");
    let running = place.start().await.unwrap();
    let (mut client, _) = member(&running, "node-1").await;
    let line = stream(&mut client, &[]).await;
    let mut operator = AgentAdminServiceClient::new(admin_channel(&running).await);
    let remove = |dry_run| RuleAgentsRequest {
        name: "node-1".to_owned(),
        by: "ann".to_owned(),
        reason: "its rack was sold".to_owned(),
        forget_leaves: true,
        dry_run,
        ..Default::default()
    };
    let refused = operator.remove_agents(remove(false)).await.unwrap_err();
    assert_eq!(reason(&refused), "LEAF_HELD", "{refused:?}");
    drop((line, client));
    eventually("the agent is gone", || async {
        let previewed = operator.clone().remove_agents(remove(true)).await;
        previewed.is_ok_and(|preview| preview.into_inner().forgotten_leaves == 2)
    })
    .await;
    assert_eq!(behind(&running, "node-1").await.len(), 2, "a preview changes nothing");
    let removed = operator.remove_agents(remove(false)).await.unwrap().into_inner();
    assert_eq!((removed.total, removed.forgotten_leaves), (1, 2));
    assert_eq!(behind(&running, "node-1").await, []);
    let acts = acts(&running).await;
    let verbs: Vec<_> = acts.iter().map(|[verb, ..]| verb.as_str()).collect();
    assert_eq!(verbs, ["token create", "agent remove", "leaf forget"]);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_has_a_refusal_of_its_own_and_the_list_says_who_did_it() {
    let place = Place::durable("");
    let running = place.start().await.unwrap();
    let secret = token(&running, "node-1", &[WEB]).await;
    let mut tokens = TokenServiceClient::new(admin_channel(&running).await);
    let listed =
        tokens.list_tokens(ListTokensRequest::default()).await.unwrap().into_inner().tokens;
    let [made] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!((made.agent.as_str(), made.state.as_str(), made.uses_left), ("node-1", "unused", 1));
    assert!(
        made.bundle_in_force && made.made_by.starts_with("uid ") && made.made_at > 0,
        "{made:?}"
    );
    assert!(!secret.contains(&made.id), "an id says nothing of the secret");
    let revoke = |id: &str| RevokeTokensRequest {
        ids: vec![id.to_owned()],
        by: "ann".to_owned(),
        reason: "it was mailed to everybody".to_owned(),
    };
    let unknown = tokens.revoke_tokens(revoke("zz")).await.unwrap_err();
    assert_eq!(reason(&unknown), "JOIN_TOKEN_UNKNOWN");
    tokens.revoke_tokens(revoke(&made.id[..8])).await.unwrap();
    stop(running).await;

    let running = place.start().await.unwrap();
    let mut joiner = AgentServiceClient::new(channel(&running, None).await);
    let message = registration(&running, &KeyPair::generate().unwrap());
    let refused = joiner.register(bearer(message, &secret)).await.unwrap_err();
    assert_eq!(reason(&refused), "JOIN_TOKEN_REVOKED");
    assert!(refused.message().contains("banyan token create"), "{refused:?}");
    let mut tokens = TokenServiceClient::new(admin_channel(&running).await);
    let listed =
        tokens.list_tokens(ListTokensRequest::default()).await.unwrap().into_inner().tokens;
    assert_eq!((listed[0].state.as_str(), listed[0].uses_left), ("revoked", 0));
    assert!(listed[0].revoked_by.starts_with("ann (uid "), "{listed:?}");
    assert_eq!(listed[0].revoked_reason, "it was mailed to everybody");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_words_that_gates_rest_on_are_in_the_journal_with_who_and_why() {
    let place = Place::new("");
    let running = place.start().await.unwrap();
    let mut rotations = RotationServiceClient::new(admin_channel(&running).await);
    let (name, by, why) =
        (|| "partner".to_owned(), || "ann".to_owned(), || "they called".to_owned());
    let add =
        AddRelyingPartyRequest { name: name(), by: by(), reason: why(), ..Default::default() };
    rotations.add_relying_party(add).await.unwrap();
    let confirm =
        ConfirmRelyingPartyRequest { name: name(), by: by(), reason: why(), ..Default::default() };
    rotations.confirm_relying_party(confirm).await.unwrap();
    let future = ConfirmRelyingPartyRequest { name: name(), sequence: 99, ..Default::default() };
    rotations.confirm_relying_party(future).await.unwrap_err();
    let remove = || RemoveRelyingPartyRequest { name: name(), by: by(), reason: why() };
    rotations.remove_relying_party(remove()).await.unwrap();
    rotations.remove_relying_party(remove()).await.unwrap_err();
    token(&running, "node-1", &[WEB]).await;
    let mut agents = AgentAdminServiceClient::new(admin_channel(&running).await);
    let ban = || RuleAgentsRequest {
        name: "node-1".to_owned(),
        by: by(),
        reason: why(),
        ..Default::default()
    };
    agents.ban_agents(ban()).await.unwrap();
    agents.unban_agents(ban()).await.unwrap();
    let acts = acts(&running).await;
    let said: Vec<_> =
        acts.iter().map(|[verb, about, ..]| (verb.as_str(), about.as_str())).collect();
    assert_eq!(
        said,
        [
            ("subscriber add", "partner"),
            ("subscriber confirm", "partner"),
            ("subscriber remove", "partner"),
            ("token create", "node-1"),
            ("agent ban", "node-1"),
            ("agent unban", "node-1"),
        ]
    );
    let own = acts.iter().filter(|[verb, ..]| verb != "token create");
    for [_, _, who, reason] in own {
        assert!(who.starts_with("ann (uid ") && reason == "they called", "{acts:?}");
    }
    stop(running).await;
}
