//! An API server that is away, slow, or cannot tell; a pod that is deleted.

use std::time::Duration;

use integration_tests::untrusted::TestClient;
use stores_peers::Line;
use tonic::Code;

use crate::place::{
    Expected, NODE_A, PAST_CACHE, Place, becomes, is_well, refused, says, with_token,
};

const AWAY: Expected = Expected::new(Code::Unavailable, "CLUSTER_UNAVAILABLE");

#[tokio::test(flavor = "multi_thread")]
async fn while_the_api_server_is_away_answers_go_on_within_their_age_and_others_are_told_to_retry()
{
    let mut place = Place::start().await;
    let ca = place.ca("timeout = \"1s\"").await;
    let client = TestClient::connect(&ca).await;
    let (first, second) =
        (place.pod("cart-1", "cart", NODE_A).await, place.pod("cart-2", "cart", NODE_A).await);
    let known = with_token(&place.token(&first).await);
    let fresh = with_token(&place.token(&second).await);
    client.create(&known).await.unwrap();

    // Its sockets are open, and nobody answers.
    place.api.pause().unwrap();
    refused(&ca, &client, &fresh, AWAY).await;
    client.create(&known).await.unwrap();
    says(&ca, "cluster one: its API server cannot be asked about tokens").await;
    // Who needs no cluster is served.
    client.create_good(&ca).await;
    ca.clock().advance(PAST_CACHE);
    refused(&ca, &client, &known, AWAY).await;
    place.api.resume().unwrap();
    becomes(&client, &fresh, "").await;
    is_well(&ca).await;

    // Nobody listens.
    client.create(&known).await.unwrap();
    place.relay.set(Line::Cut).await;
    ca.clock().advance(PAST_CACHE);
    refused(&ca, &client, &fresh, AWAY).await;
    says(&ca, "cannot be asked about tokens").await;
    place.relay.set(Line::Up).await;
    becomes(&client, &fresh, "").await;
    is_well(&ca).await;

    // It was restarted: connections that are kept are dead.
    place.api.stop();
    place.api.run().await.unwrap();
    ca.clock().advance(PAST_CACHE);
    becomes(&client, &known, "").await;

    // Slow, and too slow.
    ca.clock().advance(PAST_CACHE);
    place.relay.set(Line::Slow(Duration::from_millis(200))).await;
    client.create(&known).await.unwrap();
    place.relay.set(Line::Slow(Duration::from_secs(5))).await;
    refused(&ca, &client, &fresh, AWAY).await;
    place.relay.set(Line::Up).await;
    becomes(&client, &fresh, "").await;
    is_well(&ca).await;
    let text = ca.metrics().await;
    for counted in ["good", "away"] {
        let line = format!("banyan_token_reviews_total{{cluster=\"one\",result=\"{counted}\"}}");
        assert!(text.contains(&line), "{line} is missing in\n{text}");
    }
    assert!(
        text.contains("banyan_token_reviews_saved_total{cluster=\"one\",result=\"remembered\"}")
    );
    assert_eq!(client.connections(), 1);
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_server_cannot_find_out_is_no_refusal() {
    let mut place = Place::start().await;
    let ca = place.ca("").await;
    let client = TestClient::connect(&ca).await;
    let pod = place.pod("cart-1", "cart", NODE_A).await;
    let token = with_token(&place.token(&pod).await);
    // Without its store it still answers, some of it from memory.
    place.api.etcd().pause().unwrap();
    match client.create(&token).await {
        Ok(_) => {}
        Err(refused) => {
            assert_eq!(
                (refused.code, refused.reason.as_str()),
                (AWAY.code, AWAY.reason),
                "{}",
                refused.text
            );
        }
    }
    place.api.etcd().resume().unwrap();
    becomes(&client, &token, "").await;
    is_well(&ca).await;
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_a_pod_that_was_deleted_ends_within_the_age_of_answers() {
    let place = Place::start().await;
    let (ca, forgetful) = (place.ca("").await, place.ca("cache_age = \"0s\"").await);
    let client = TestClient::connect(&ca).await;
    let pod = place.pod("cart-1", "cart", NODE_A).await;
    let token = with_token(&place.token(&pod).await);
    client.create(&token).await.unwrap();
    place.api.delete_pod(&pod).await.unwrap();
    // The API server itself takes some seconds to see it.
    becomes(&TestClient::connect(&forgetful).await, &token, "TOKEN_REVIEW_REFUSED").await;
    // Deleted after its review: the answer is good for its age, and no longer.
    client.create(&token).await.unwrap();
    ca.clock().advance(PAST_CACHE);
    let gone = Expected::new(Code::Unauthenticated, "TOKEN_REVIEW_REFUSED");
    refused(&ca, &client, &token, gone).await;
    // One of the same name is another pod.
    let again = place.pod("cart-1", "cart", NODE_A).await;
    assert_ne!(again.uid, pod.uid);
    client.create(&with_token(&place.token(&again).await)).await.unwrap();
    forgetful.stop().await;
    ca.stop().await;
}
