//! Agents of nodes: who may be one, and whose certificates it gets, by the pods of a real API server.

use integration_tests::untrusted::client::Tls;
use integration_tests::untrusted::{CART, Credential, TestCa, TestClient, eventually};
use stores_peers::Pod;
use tonic::Code;

use crate::place::{NODE_A, NODE_B, Place, WEB, ZTUNNEL, rules_of_the_page, says};

const DENIED: (Code, &str) = (Code::PermissionDenied, "IMPERSONATION_REFUSED");
const DISAGREE: (Code, &str) = (Code::PermissionDenied, "CREDENTIALS_DISAGREE");

/// A client that shows a certificate.
async fn showing(ca: &TestCa, credential: &Credential) -> TestClient {
    let tls = Tls { credential: Some(credential.clone()), ..Tls::default() };
    TestClient::connect_with(ca, &tls).await.unwrap()
}

/// How an agent's request for a leaf is answered.
async fn issued(client: &TestClient, identity: &str, token: Option<&str>) -> (Code, String) {
    match client.issue_workload_with(identity, token).await {
        Ok(()) => (Code::Ok, String::new()),
        Err(refused) => (refused.code, refused.reason),
    }
}

fn is(answer: &(Code, String), expected: (Code, &str)) {
    assert_eq!((answer.0, answer.1.as_str()), expected);
}

/// A node account's pod on a node, its token, and the agent that it registers.
async fn agent(place: &Place, ca: &TestCa, node: &str) -> (Pod, String, TestClient) {
    let pod = place.pod(&format!("agent-{node}"), "ztunnel", node).await;
    let token = place.token(&pod).await;
    let stranger = TestClient::connect(ca).await;
    eventually("the pod is known", async || stranger.register_for_node(&token).await.is_ok()).await;
    let credential = stranger.register_for_node(&token).await.unwrap();
    let leaf = trust::Chain::parse(&credential.chain).unwrap();
    let id = leaf.leaf().spiffe_id().unwrap();
    let name = format!("node/one/{node}/");
    assert!(id.agent_name().unwrap().starts_with(&name), "{id}");
    let client = showing(ca, &credential).await;
    (pod, token, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_of_a_node_gets_what_runs_there_while_it_does_and_of_no_other_node() {
    let place = Place::start().await;
    let ca = place.ca(ZTUNNEL).await;
    let cart = place.pod("cart-1", "cart", NODE_A).await;
    let web = place.pod("web-1", "web", NODE_B).await;
    let (own, token, client) = agent(&place, &ca, NODE_A).await;
    let (_, other_token, other) = agent(&place, &ca, NODE_B).await;
    eventually("the pods are known", async || {
        issued(&client, CART, Some(&token)).await.0 == Code::Ok
            && issued(&other, WEB, Some(&other_token)).await.0 == Code::Ok
    })
    .await;

    // A pod of another node, and what is no pod's.
    let before = ca.settled_books().await.intents;
    is(&issued(&client, WEB, Some(&token)).await, DENIED);
    is(
        &issued(&client, "spiffe://example.org/ns/istio-system/sa/other", Some(&token)).await,
        DENIED,
    );
    // Nothing without its token, by another's, or by one that is bound to no pod.
    is(&issued(&client, CART, None).await, (Code::PermissionDenied, "IDENTITY_NOT_ENTITLED"));
    is(&issued(&client, CART, Some(&other_token)).await, DISAGREE);
    is(&issued(&client, WEB, Some(&other_token)).await, DISAGREE);
    let unbound = place.api.account_token("istio-system", "ztunnel").await.unwrap();
    is(&issued(&client, CART, Some(&unbound)).await, DISAGREE);
    let of_cart = place.token(&cart).await;
    is(&issued(&client, CART, Some(&of_cart)).await, DENIED);
    assert_eq!(ca.settled_books().await.intents, before, "nothing was signed");

    // It moves between what the agent saw and what it asks for.
    place.api.delete_pod(&web).await.unwrap();
    let moved = place.pod("web-2", "web", NODE_A).await;
    eventually("it is here now", async || {
        issued(&client, WEB, Some(&token)).await.0 == Code::Ok
            && issued(&other, WEB, Some(&other_token)).await.1 == DENIED.1
    })
    .await;
    place.api.set_phase(&moved, "Succeeded").await.unwrap();
    eventually("it has ended", async || issued(&client, WEB, Some(&token)).await.1 == DENIED.1)
        .await;

    // The agent's pod is replaced: with its key and the token of the new pod it goes on.
    place.api.delete_pod(&own).await.unwrap();
    eventually("the former pod is gone", async || {
        issued(&client, CART, Some(&token)).await.0 != Code::Ok
    })
    .await;
    let again = place.pod("agent-again", "ztunnel", NODE_A).await;
    let fresh = place.token(&again).await;
    eventually("it goes on", async || issued(&client, CART, Some(&fresh)).await.0 == Code::Ok)
        .await;
    let audited = format!("{:?}", ca.settled_books().await.refused);
    assert!(audited.contains(NODE_A), "{audited}");
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_node_account_whose_pod_runs_becomes_the_agent_of_a_node() {
    let place = Place::start().await;
    let ca = place.ca(ZTUNNEL).await;
    let client = TestClient::connect(&ca).await;
    let cart = place.pod("cart-1", "cart", NODE_A).await;
    let refused = client.register_for_node(&place.token(&cart).await).await.unwrap_err();
    is(&(refused.code, refused.reason), DENIED);
    assert!(refused.text.contains("node_accounts"), "{}", refused.text);
    let unbound = place.api.account_token("istio-system", "ztunnel").await.unwrap();
    let refused = client.register_for_node(&unbound).await.unwrap_err();
    is(&(refused.code, refused.reason), DENIED);
    let joined = ca.join_token("node-1", &[CART]).await;
    let refused = client.register_for_node(&joined).await.unwrap_err();
    is(&(refused.code, refused.reason), DENIED);
    // A node account that does not ask to be one is an agent like any other.
    let (_, token, _) = agent(&place, &ca, NODE_A).await;
    let plain = client.register(&token).await.unwrap();
    let plain = showing(&ca, &plain).await;
    is(&issued(&plain, CART, Some(&token)).await, DISAGREE);
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_pods_are_not_known_the_agent_of_a_node_is_told_to_retry() {
    let place = Place::start().await;
    let rules = rules_of_the_page();
    let no_pods = rules.as_array().unwrap().iter().cloned();
    let no_pods: Vec<_> = no_pods.filter(|rule| rule["resources"][0] != "pods").collect();
    place.grant(&serde_json::json!(no_pods)).await;
    let own = place.pod("agent-a", "ztunnel", NODE_A).await;
    let ca = place.ca(ZTUNNEL).await;
    let client = TestClient::connect(&ca).await;
    let refused = client.register_for_node(&place.token(&own).await).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "PODS_NOT_SYNCED"));
    assert!(refused.retry_after.is_some());
    says(&ca, "its pods cannot be watched").await;
    place.grant(&rules_of_the_page()).await;
    let token = place.token(&own).await;
    eventually("the pods are known", async || client.register_for_node(&token).await.is_ok()).await;
    ca.stop().await;
}
