//! Forged tokens, which cost the API server nothing where its keys are known; keys that are replaced, or not known.

use std::time::Duration;

use futures::future::join_all;
use integration_tests::tokens::TokenIssuer;
use integration_tests::untrusted::{CART, TestCa, TestClient, eventually};
use stores_peers::{ISSUER, Line};
use tonic::Code;

use crate::place::{
    Expected, KEYS_FETCHED, NODE_A, Place, counted, is_well, knows_keys, refused, with_token,
};
use crate::tokens::forged;

const INVALID: &str = "TOKEN_SIGNATURE_INVALID";
const ASKED: &str = "TOKEN_REVIEW_REFUSED";
/// Forgeries, each another one.
const MANY: usize = 300;
/// Tokens at a time that name a key which nobody has.
const CROWD: usize = 24;

/// What somebody makes of a token that they have seen: everything but the signature.
fn forgery(token: &str, number: usize) -> String {
    forged(token, 1, |claims| claims["jti"] = number.to_string().into())
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_tokens_cost_the_api_server_no_review_and_good_ones_one_each() {
    let place = Place::start().await;
    let ca = place.ca("").await;
    let client = TestClient::connect(&ca).await;
    knows_keys(&ca, 1).await;
    let token = place.token(&place.pod("cart-1", "cart", NODE_A).await).await;
    client.create(&with_token(&token)).await.unwrap();
    let (reviews, fetches) = (place.reviews(), counted(&ca, KEYS_FETCHED).await);
    assert_eq!(reviews, 1);
    for number in 0..MANY {
        let refused = client.create(&with_token(&forgery(&token, number))).await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::Unauthenticated, INVALID));
        assert!(refused.text.contains("cluster \"one\""), "{refused:?}");
    }
    let fetched = counted(&ca, KEYS_FETCHED).await - fetches;
    println!(
        "{MANY} forged tokens: {} reviews, {fetched} fetches of the key set",
        place.reviews() - reviews
    );
    assert_eq!(place.reviews(), reviews);
    // A minute has six times ten seconds, and a machine may be slow.
    assert!(fetched <= 6, "{fetched}");
    let saved = "banyan_token_reviews_saved_total{cluster=\"one\",result=\"forged\"}";
    assert_eq!(counted(&ca, saved).await, MANY);
    let token = place.token(&place.pod("cart-2", "cart", NODE_A).await).await;
    client.create(&with_token(&token)).await.unwrap();
    assert_eq!(place.reviews(), reviews + 1);
    is_well(&ca).await;
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_key_that_came_since_is_good_at_once_and_its_forgery_is_found_after_a_fetch() {
    let mut place = Place::start().await;
    let ca = place.ca("").await;
    let client = TestClient::connect(&ca).await;
    knows_keys(&ca, 1).await;
    let (first, second) =
        (place.pod("cart-1", "cart", NODE_A).await, place.pod("cart-2", "cart", NODE_A).await);
    let old = place.token(&first).await;
    for _ in 0..2 {
        place.api.replace_accounts_key().await.unwrap();
        let new = place.token(&second).await;
        // Whether the key set is fetched again before that, or was fetched too shortly before.
        client.create(&with_token(&new)).await.unwrap();
        client.create(&with_token(&old)).await.unwrap();
        let fetched = counted(&ca, KEYS_FETCHED).await;
        ca.clock().advance(Duration::from_secs(11));
        let forgery = with_token(&forgery(&new, fetched));
        let found = async || client.create(&forgery).await.unwrap_err().reason == INVALID;
        eventually("the new key is known", found).await;
        let reviews = place.reviews();
        refused(&ca, &client, &forgery, Expected::new(Code::Unauthenticated, INVALID)).await;
        assert_eq!(place.reviews(), reviews);
    }
    is_well(&ca).await;
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_key_set_each_token_is_asked_about_as_ever() {
    let place = Place::start().await;
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let path = format!("{roles}/system:service-account-issuer-discovery");
    place.api.ask("DELETE", &path, None).await.unwrap();
    let own = std::fs::read_to_string(place.token_file()).unwrap();
    let may = async || place.api.ask_as(&own, "GET", "/openid/v1/jwks", None).await.is_ok();
    eventually("the right is gone", async || !may().await).await;
    let ca = place.ca("").await;
    let client = TestClient::connect(&ca).await;
    let token = place.token(&place.pod("cart-1", "cart", NODE_A).await).await;
    let reviews = place.reviews();
    let forgery = with_token(&forgery(&token, 1));
    refused(&ca, &client, &forgery, Expected::new(Code::Unauthenticated, ASKED)).await;
    client.create(&with_token(&token)).await.unwrap();
    assert_eq!(place.reviews(), reviews + 2);
    // What only spares questions is not wrong when it is not there.
    is_well(&ca).await;
    ca.stop().await;
}

/// A token that names a key which nobody has.
fn of_no_key(ca: &TestCa, issuer: &TokenIssuer, number: usize) -> String {
    let mut header = issuer.header();
    header.insert("kid".to_owned(), format!("none-{number}").into());
    issuer.sign(&header, &issuer.claims(CART, ca.clock().as_ref()))
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_name_no_known_key_wait_for_each_other_and_take_no_place_of_good_ones() {
    let place = Place::start().await;
    let ca = place.ca("reviews_at_a_time = 1\ntimeout = \"4s\"").await;
    knows_keys(&ca, 1).await;
    let token = place.token(&place.pod("cart-1", "cart", NODE_A).await).await;
    let client = TestClient::connect(&ca).await;
    // One at a time of the crowd: the last of them wait in vain, and so would a good one behind them.
    place.relay.set(Line::Slow(Duration::from_millis(400))).await;
    let stranger = TokenIssuer::new(ISSUER);
    // Each has a connection of its own: one that shows no credential may not have all of them on its way at once.
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        let attempt = with_token(&of_no_key(&ca, &stranger, number));
        crowd.push((TestClient::connect(&ca).await, attempt));
    }
    let reviews = place.reviews();
    let asks = crowd.iter().map(|(client, attempt)| client.create(attempt));
    let served = async {
        let crowded = async || place.reviews() > reviews;
        eventually("one of the crowd is asked about", crowded).await;
        client.create(&with_token(&token)).await.expect("it waits for none of the crowd");
    };
    let (answers, ()) = futures::join!(join_all(asks), served);
    let reasons: Vec<_> = answers.into_iter().map(|answer| answer.unwrap_err().reason).collect();
    let asked = reasons.iter().filter(|reason| *reason == ASKED).count();
    let waited = reasons.iter().filter(|reason| *reason == "CLUSTER_UNAVAILABLE").count();
    println!(
        "{CROWD} tokens of no known key: {asked} asked about, {waited} told to retry; a good one served"
    );
    assert_eq!(asked + waited, CROWD, "{reasons:?}");
    assert!(waited > 0, "{reasons:?}");
    ca.stop().await;
}
