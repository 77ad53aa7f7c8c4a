//! Registered agents as operators see them, at a real server: many of them, removed ones, banned ones.
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for product code")]

mod support;

use std::sync::Arc;

use host::RealDisk;
use proto::banyan::admin::v1::agent_admin_service_client::AgentAdminServiceClient;
use proto::banyan::admin::v1::{
    ListAgentActsRequest, ListAgentsRequest, ListBansRequest, RuleAgentsRequest, StatusRequest,
};
use proto::banyan::agent::v1::agent_message::Message as Said;
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use proto::banyan::agent::v1::server_message::Message as Answer;
use proto::banyan::agent::v1::{AgentMessage, Hello, ServerMessage};
use rcgen::KeyPair;
use stores::marked::mark;
use stores::{SharedStore as _, settle, spaces};
use stores_redb::{RedbStore, Unfinished};
use support::{
    Place, SOON, admin, admin_channel, agent, bearer, channel, reason, registration, stop, token,
    workload,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use tonic_types::StatusExt as _;

const WEB: &str = "spiffe://example.org/web";
const MANY: usize = 60_000;

async fn operator(running: &ca_server::Running) -> AgentAdminServiceClient<Channel> {
    AgentAdminServiceClient::new(admin_channel(running).await)
}

fn about(name: &str) -> RuleAgentsRequest {
    let (by, reason) = ("ann".to_owned(), "its disk was stolen".to_owned());
    RuleAgentsRequest { name: name.to_owned(), by, reason, dry_run: false, ..Default::default() }
}

/// Writes agents straight into the state of a server that does not run.
async fn fill(path: &std::path::Path) {
    let full = path.with_extension("full");
    let former = RedbStore::open(Arc::new(RealDisk), path).unwrap();
    let filling = Unfinished::begin(Arc::new(RealDisk), &full).unwrap();
    for space in spaces::ALL {
        for entry in settle::all(&former, space).await.unwrap() {
            let key = space.key(entry.id).unwrap();
            filling.store().create(&key, &entry.value).await.unwrap();
        }
    }
    for number in 0..MANY {
        let row = serde_json::json!({
            "spki": format!("{number:064x}"), "identities": [WEB], "registered": 1_800_000_000,
        });
        let key = spaces::AGENTS.key(format!("node-{number:05}")).unwrap();
        let row = mark(&key, row.to_string().as_bytes());
        filling.store().create(&key, &row).await.unwrap();
    }
    drop((former, filling.finish().unwrap()));
    std::fs::rename(full, path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn status_answers_with_sixty_thousand_agents_and_lists_come_in_pages() {
    let place = Place::durable("");
    stop(place.start().await.unwrap()).await;
    fill(&place.data().join("state.redb")).await;
    let running = place.start().await.unwrap();
    agent(&running, "a-new-one", &[WEB]).await;

    let status = admin(&running).await.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.agents_total, status.agents.len()), (60_001, 100));
    let (mut client, mut names, mut asked) =
        (operator(&running).await, Vec::new(), ListAgentsRequest::default());
    loop {
        let page = client.list_agents(asked).await.unwrap().into_inner();
        assert!(page.agents.len() <= 1_000);
        names.extend(page.agents.into_iter().map(|agent| agent.id));
        if page.next.is_empty() {
            break;
        }
        asked = ListAgentsRequest { after: page.next, limit: 0 };
    }
    assert_eq!(names.len(), 60_001);
    assert!(names.is_sorted(), "no agent is shown twice");
    assert!(
        names[1].ends_with("/banyan/agent/node-00000") && names[60_000].ends_with("node-59999")
    );
    stop(running).await;
}

/// An agent's stream, after the bundle came.
async fn stream(
    client: &mut AgentServiceClient<Channel>,
) -> (mpsc::Sender<AgentMessage>, Streaming<ServerMessage>) {
    let (up, messages) = mpsc::channel(4);
    up.send(AgentMessage { message: Some(Said::Hello(Hello::default())) }).await.unwrap();
    let mut down = client.connect(ReceiverStream::new(messages)).await.unwrap().into_inner();
    let first = down.message().await.unwrap().unwrap();
    assert!(matches!(first.message, Some(Answer::Bundle(_))));
    (up, down)
}

/// What the server says last, long before the agent says anything again.
async fn last(down: &mut Streaming<ServerMessage>) -> Result<ServerMessage, tonic::Status> {
    loop {
        let said = tokio::time::timeout(SOON, down.message()).await.expect("at once")?;
        let said = said.expect("a stream ends with a word");
        match said.message {
            Some(Answer::Bundle(_) | Answer::Doubt(_) | Answer::Foreign(_) | Answer::Probe(_)) => {}
            _ => return Ok(said),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_agent_loses_its_stream_its_calls_and_its_tokens_until_the_ban_is_taken_back() {
    let place = Place::new("");
    let running = place.start().await.unwrap();
    let identity = agent(&running, "node-1", &[WEB]).await;
    let mut client = AgentServiceClient::new(channel(&running, Some(identity)).await);
    workload(&mut client, WEB, &KeyPair::generate().unwrap()).await.unwrap();
    let (_up, mut down) = stream(&mut client).await;
    let spare = token(&running, "node-1", &[WEB]).await;

    let mut operator = operator(&running).await;
    let unexplained = RuleAgentsRequest { reason: String::new(), ..about("node-1") };
    assert_eq!(reason(&operator.ban_agents(unexplained).await.unwrap_err()), "REQUEST_INVALID");
    let dry =
        RuleAgentsRequest { dry_run: true, ..about("spiffe://example.org/banyan/agent/node-1") };
    let preview = operator.ban_agents(dry).await.unwrap().into_inner();
    assert_eq!((preview.total, preview.live_leaves, preview.unused_tokens), (1, 2, 1));
    assert!(preview.leaves_until > 0 && preview.agents[0].connected);
    workload(&mut client, WEB, &KeyPair::generate().unwrap())
        .await
        .expect("a preview changes nothing");

    let banned = operator.ban_agents(about("node-1")).await.unwrap().into_inner();
    assert_eq!((banned.total, banned.live_leaves, banned.was_banned), (1, 3, false));
    let last = last(&mut down).await.unwrap();
    assert!(matches!(last.message, Some(Answer::Ban(_))), "{last:?}");
    let refused = workload(&mut client, WEB, &KeyPair::generate().unwrap()).await.unwrap_err();
    assert_eq!(reason(&refused), "AGENT_BANNED");
    let message = registration(&running, &KeyPair::generate().unwrap());
    let mut joiner = AgentServiceClient::new(channel(&running, None).await);
    let refused = joiner.register(bearer(message.clone(), &spare)).await.unwrap_err();
    assert_eq!(reason(&refused), "AGENT_BANNED");
    let bans = operator.list_bans(ListBansRequest::default()).await.unwrap().into_inner().bans;
    assert_eq!((bans.len(), bans[0].name.as_str()), (1, "node-1"));
    assert!(bans[0].by.starts_with("ann (uid "), "{}", bans[0].by);

    operator.unban_agents(about("node-1")).await.unwrap();
    workload(&mut client, WEB, &KeyPair::generate().unwrap()).await.unwrap();
    joiner.register(bearer(message, &spare)).await.expect("the token was not used up");
    stop(running).await;
}

/// What a refusal says to do, for programs; people read it at the end of the text.
fn advice(refused: &tonic::Status) -> String {
    let info = refused.get_error_details().error_info().cloned();
    let advice = info.and_then(|mut info| info.metadata.remove("advice")).unwrap_or_default();
    assert!(!advice.is_empty() && refused.message().ends_with(&advice), "{refused:?}");
    advice
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_of_a_verb_about_agents_says_as_data_what_to_do_and_that_can_be_done() {
    let place = Place::new("");
    let running = place.start().await.unwrap();
    let identity = agent(&running, "node-1", &[WEB]).await;
    let mut client = AgentServiceClient::new(channel(&running, Some(identity)).await);
    let (_up, _down) = stream(&mut client).await;
    let mut operator = operator(&running).await;

    for name in ["a b", "node-9"] {
        let refused = operator.remove_agents(about(name)).await.unwrap_err();
        assert!(advice(&refused).contains("`banyan agent list` shows"), "{refused:?}");
    }
    let listed = operator.list_agents(ListAgentsRequest::default()).await.unwrap().into_inner();
    assert!(listed.agents[0].id.ends_with("/node-1"));

    let dry = || RuleAgentsRequest { dry_run: true, ..about("node-1") };
    let silent = RuleAgentsRequest { reason: String::new(), ..dry() };
    assert!(advice(&operator.ban_agents(silent).await.unwrap_err()).contains("--reason"));
    operator.ban_agents(dry()).await.expect("with a reason it is taken");

    let forgets = || RuleAgentsRequest { forget_leaves: true, ..dry() };
    let refused = operator.ban_agents(forgets()).await.unwrap_err();
    assert!(advice(&refused).contains("`banyan leaf forget`"), "{refused:?}");
    let refused = operator.remove_agents(forgets()).await.unwrap_err();
    assert!(advice(&refused).contains("--force"), "{refused:?}");
    let forced = RuleAgentsRequest { force: true, ..forgets() };
    assert_eq!(operator.remove_agents(forced).await.unwrap().into_inner().total, 1);

    let refused = operator.unban_agents(dry()).await.unwrap_err();
    assert!(advice(&refused).contains("`banyan agent list --banned` shows"), "{refused:?}");
    assert!(
        operator.list_bans(ListBansRequest::default()).await.unwrap().into_inner().bans.is_empty()
    );
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_agent_is_nobody_and_its_name_is_free() {
    let place = Place::new("");
    let running = place.start().await.unwrap();
    let identity = agent(&running, "node-1", &[WEB]).await;
    let mut client = AgentServiceClient::new(channel(&running, Some(identity)).await);
    let (_up, mut down) = stream(&mut client).await;
    let mut operator = operator(&running).await;
    let nameless = RuleAgentsRequest { by: String::new(), ..about("node-1") };
    operator.remove_agents(nameless).await.unwrap();
    let ended = last(&mut down).await.unwrap_err();
    assert_eq!(reason(&ended), "AGENT_UNKNOWN");
    let refused = workload(&mut client, WEB, &KeyPair::generate().unwrap()).await.unwrap_err();
    assert_eq!(reason(&refused), "AGENT_UNKNOWN");
    let again = operator.remove_agents(about("node-1")).await.unwrap_err();
    assert_eq!((again.code(), reason(&again).as_str()), (Code::NotFound, "AGENT_NOT_REGISTERED"));

    let identity = agent(&running, "node-1", &[WEB]).await;
    let mut client = AgentServiceClient::new(channel(&running, Some(identity)).await);
    workload(&mut client, WEB, &KeyPair::generate().unwrap()).await.unwrap();
    let acts =
        operator.list_agent_acts(ListAgentActsRequest::default()).await.unwrap().into_inner().acts;
    assert_eq!(acts.len(), 1, "what was refused is no act");
    assert_eq!((acts[0].verb.as_str(), acts[0].agents), ("remove", 1));
    assert_eq!(acts[0].reason, "its disk was stolen");
    assert!(acts[0].by.starts_with("uid "), "whom the kernel says it is: {}", acts[0].by);
    stop(running).await;
}
