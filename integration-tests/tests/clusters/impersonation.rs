//! The family "impersonation", with the pods of a real API server; watches that are lost.

use std::collections::BTreeSet;

use integration_tests::untrusted::{CART, TestClient, eventually};
use serde_json::json;
use stores_peers::{ISSUER, Line};
use tonic::Code;

use crate::place::{
    Expected, NODE_A, NODE_B, PAST_CACHE, Place, WEB, ZTUNNEL, becomes, is_well, on_behalf,
    refused, rules_of_the_page, says, with_token,
};

const DENIED: Expected = Expected::new(Code::PermissionDenied, "IMPERSONATION_REFUSED");

#[tokio::test(flavor = "multi_thread")]
async fn a_node_account_gets_what_is_scheduled_on_its_node_while_it_is() {
    let place = Place::start().await;
    let ca = place.ca(ZTUNNEL).await;
    let client = TestClient::connect(&ca).await;
    let ztunnel = place.pod("ztunnel-a", "ztunnel", NODE_A).await;
    let cart = place.pod("cart-1", "cart", NODE_A).await;
    let web = place.pod("web-1", "web", NODE_B).await;
    let token = place.token(&ztunnel).await;
    becomes(&client, &on_behalf(&token, CART), "").await;
    let answer = client.create(&on_behalf(&token, CART)).await.unwrap();
    assert_eq!(answer.leaf.spiffe_id().unwrap().as_str(), CART);

    let told = refused(&ca, &client, &on_behalf(&token, WEB), DENIED).await;
    assert!(told.text.contains("node-a"), "{told:?}");
    // The pod of cart may ask for itself and for nobody else, on its own node too.
    let own = place.token(&cart).await;
    client.create(&with_token(&own)).await.unwrap();
    refused(&ca, &client, &on_behalf(&own, CART), DENIED).await;
    let unbound = place.api.account_token("istio-system", "ztunnel").await.unwrap();
    let told = refused(&ca, &client, &on_behalf(&unbound, CART), DENIED).await;
    assert!(told.text.contains("not bound to a pod on a node"), "{told:?}");
    let foreign = "spiffe://other.org/ns/shop/sa/cart";
    let mut attempt = on_behalf(&token, CART);
    attempt.metadata =
        vec![("ImpersonatedIdentity", prost_types::value::Kind::StringValue(foreign.to_owned()))];
    refused(&ca, &client, &attempt, DENIED).await;

    // What ended counts no more, what begins counts.
    place.api.set_phase(&cart, "Succeeded").await.unwrap();
    becomes(&client, &on_behalf(&token, CART), DENIED.reason).await;
    let moved = place.pod("web-2", "web", NODE_A).await;
    becomes(&client, &on_behalf(&token, WEB), "").await;
    place.api.delete_pod(&moved).await.unwrap();
    becomes(&client, &on_behalf(&token, WEB), DENIED.reason).await;
    place.api.delete_pod(&web).await.unwrap();

    // The caller's own pod was made anew: the token of the former one is worth nothing before its review ends.
    let former = on_behalf(&token, CART);
    let _cart = place.pod("cart-2", "cart", NODE_A).await;
    becomes(&client, &former, "").await;
    place.api.delete_pod(&ztunnel).await.unwrap();
    let another = place.pod("ztunnel-a", "ztunnel", NODE_A).await;
    becomes(&client, &former, DENIED.reason).await;
    becomes(&client, &on_behalf(&place.token(&another).await, CART), "").await;

    let books = ca.settled_books().await;
    let audited = format!("{:?}", books.refused);
    assert!(audited.contains(&ztunnel.uid) && audited.contains("ztunnel-a"), "{audited}");
    assert_eq!(client.connections(), 1);
    is_well(&ca).await;
    // That is all that was asked for, and each right was used.
    let asked = place.api.requests().unwrap().into_iter();
    let asked = asked.filter(|asked| asked.user == "system:serviceaccount:banyan:banyan");
    let used: BTreeSet<_> = asked
        .map(|asked| {
            assert!(asked.code < 300, "{asked:?}");
            format!("{} {}", asked.verb, asked.resource)
        })
        .collect();
    // What is no resource is the key set of the cluster.
    let rights = [
        "create selfsubjectaccessreviews",
        "create tokenreviews",
        "get ",
        "list pods",
        "watch pods",
    ];
    assert_eq!(used, rights.map(str::to_owned).into());
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_pods_are_not_known_a_node_account_is_told_to_retry() {
    let place = Place::start().await;
    let reviews: Vec<_> = rules_of_the_page().as_array().unwrap().clone();
    let no_pods: Vec<_> =
        reviews.iter().filter(|rule| rule["resources"][0] != "pods").cloned().collect();
    place.grant(&json!(no_pods)).await;
    let ztunnel = place.pod("ztunnel-a", "ztunnel", NODE_A).await;
    place.pod("cart-1", "cart", NODE_A).await;
    let ca = place.ca(ZTUNNEL).await;
    let client = TestClient::connect(&ca).await;
    let attempt = on_behalf(&place.token(&ztunnel).await, CART);
    refused(&ca, &client, &attempt, Expected::new(Code::Unavailable, "PODS_NOT_SYNCED")).await;
    says(&ca, "its pods cannot be watched").await;
    place.grant(&rules_of_the_page()).await;
    becomes(&client, &attempt, "").await;
    is_well(&ca).await;
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_while_a_watch_was_lost_is_known_after_it() {
    let mut place = Place::start().await;
    // The tokens need no API server here: only what is known of pods does.
    let lines = format!("review = \"offline\"\nissuer = \"{ISSUER}\"\n{ZTUNNEL}");
    let ca = place.ca(&lines).await;
    let client = TestClient::connect(&ca).await;
    let ztunnel = place.pod("ztunnel-a", "ztunnel", NODE_A).await;
    let cart = place.pod("cart-1", "cart", NODE_A).await;
    let token = place.token(&ztunnel).await;
    becomes(&client, &on_behalf(&token, CART), "").await;

    place.relay.set(Line::Cut).await;
    place.api.delete_pod(&cart).await.unwrap();
    place.pod("web-1", "web", NODE_A).await;
    says(&ca, "its pods cannot be watched, and those that are known are gone by for").await;
    // It is behind, within its age.
    client.create(&on_behalf(&token, CART)).await.unwrap();
    ca.clock().advance(PAST_CACHE);
    let unsynced = Expected::new(Code::Unavailable, "PODS_NOT_SYNCED");
    refused(&ca, &client, &on_behalf(&token, CART), unsynced).await;
    says(&ca, "node accounts are told to retry").await;
    // Nothing is left of what happened since.
    place.api.etcd().compact().unwrap();
    place.relay.set(Line::Up).await;
    becomes(&client, &on_behalf(&token, WEB), "").await;
    refused(&ca, &client, &on_behalf(&token, CART), DENIED).await;

    // The same when the API server is another one afterwards.
    let again = place.pod("cart-2", "cart", NODE_A).await;
    becomes(&client, &on_behalf(&token, CART), "").await;
    place.api.stop();
    place.api.etcd().compact().unwrap();
    place.api.run().await.unwrap();
    place.api.delete_pod(&again).await.unwrap();
    becomes(&client, &on_behalf(&token, CART), DENIED.reason).await;
    eventually("nothing is wrong", async || crate::place::conditions(&ca).await.is_empty()).await;
    ca.stop().await;
}
