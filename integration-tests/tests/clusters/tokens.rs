//! The family "token", as a real cluster judges it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use host::RealDisk;
use integration_tests::tokens::TokenIssuer;
use integration_tests::untrusted::{CART, CaOptions, TestCa, TestClient};
use ledger::{Entry, Record};
use serde_json::{Value, json};
use stores_peers::ISSUER;
use tonic::Code;

use crate::place::{
    Expected, NODE_A, Place, ZTUNNEL, is_well, knows_keys, refused, rules_of_the_page, says,
    with_token,
};

const UA: Code = Code::Unauthenticated;

/// A token with its header or its claims changed and its signature as it was.
pub(crate) fn forged(token: &str, part: usize, change: impl Fn(&mut Value)) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let mut value: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&parts[part]).unwrap()).unwrap();
    change(&mut value);
    parts[part] = URL_SAFE_NO_PAD.encode(value.to_string());
    parts.join(".")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_token_gets_its_identity_and_every_other_one_its_refusal() {
    let place = Place::start().await;
    let ca = place.ca("").await;
    let client = TestClient::connect(&ca).await;
    let pod = place.pod("cart-1", "cart", NODE_A).await;
    let token = place.token(&pod).await;
    let answer = client.create(&with_token(&token)).await.unwrap();
    assert_eq!(answer.leaf.spiffe_id().unwrap().as_str(), CART);
    is_well(&ca).await;
    knows_keys(&ca, 1).await;

    let other = place.api.token_of(&pod, "elsewhere").await.unwrap();
    let tampered = format!("{}AAAA", &token[..token.len() - 4]);
    // One who knows everything but the cluster's key.
    let stranger = TokenIssuer::new(ISSUER);
    let made_up = stranger.token(CART, ca.clock().as_ref());
    let as_web = forged(&token, 1, |claims| {
        claims["sub"] = "system:serviceaccount:shop:web".into();
    });
    let cases = [
        (other, "TOKEN_AUDIENCE_MISMATCH"),
        (tampered, "TOKEN_SIGNATURE_INVALID"),
        (made_up, "TOKEN_REVIEW_REFUSED"),
        (as_web, "TOKEN_SIGNATURE_INVALID"),
        (forged(&token, 0, |header| header["alg"] = "none".into()), "TOKEN_ALGORITHM_REFUSED"),
        (forged(&token, 0, |header| header["alg"] = "HS256".into()), "TOKEN_ALGORITHM_REFUSED"),
        (forged(&token, 0, |header| header["jku"] = "https://x".into()), "TOKEN_HEADER_REFUSED"),
        (forged(&token, 0, |header| header["kid"] = "other".into()), "TOKEN_REVIEW_REFUSED"),
        (forged(&token, 1, |claims| claims["exp"] = 1.into()), "TOKEN_EXPIRED"),
        (
            forged(&token, 1, |claims| claims["sub"] = "system:node:node-a".into()),
            "TOKEN_SUBJECT_INVALID",
        ),
        // A token of the API server that is no JWT.
        ("admin-token".to_owned(), "TOKEN_MALFORMED"),
    ];
    for (token, reason) in cases {
        refused(&ca, &client, &with_token(&token), Expected::new(UA, reason)).await;
    }
    for (headers, reason) in [
        (vec![("clusterid", "elsewhere")], "TOKEN_CLUSTER_UNKNOWN"),
        (vec![("clusterid", "one"), ("clusterid", "one")], "TOKEN_CLUSTER_UNKNOWN"),
    ] {
        let mut attempt = with_token(&token);
        attempt.headers =
            headers.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        refused(&ca, &client, &attempt, Expected::new(UA, reason)).await;
    }
    let mut named = with_token(&token);
    named.headers = vec![("clusterid", "one".to_owned())];
    client.create(&named).await.unwrap();
    // Issuers of key sets are judged as ever, and the audit of who was refused after that has the pod.
    client.create_good(&ca).await;
    let mut other_key = with_token(&token);
    other_key.ttl_secs = 1;
    refused(&ca, &client, &other_key, Expected::new(Code::InvalidArgument, "TTL_BELOW_MINIMUM"))
        .await;
    let books = ca.books_with_refusals(14).await;
    let last = format!("{:?}", books.refused.last().unwrap());
    for part in [CART, pod.uid.as_str(), "cart-1", NODE_A, "cluster one"] {
        assert!(last.contains(part), "{part} is missing in {last}");
    }
    assert!(ca.files_with(token.as_bytes()).is_empty(), "no token is on the disk");
    assert_eq!(client.connections(), 1);
    ca.stop().await;
}

/// What `banyan config check` says of the cluster.
async fn config_check(place: &Place) -> Result<(), String> {
    let text = format!(
        "trust_domain = \"example.org\"\ndata_dir = \"d\"\n[keys]\npassphrase_env = \"P\"\n{}",
        place.section("one", ZTUNNEL)
    );
    let config = ca_server::Config::parse(&text, std::path::Path::new("/")).unwrap();
    ca_server::Server::inspect_clusters(&config).await.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_right_of_the_page_is_needed_and_status_names_the_one_that_is_missing() {
    let place = Place::start().await;
    let ca = place.ca(ZTUNNEL).await;
    is_well(&ca).await;
    let all: Vec<Value> = rules_of_the_page().as_array().unwrap().clone();
    let mut rights = 0;
    for (at, rule) in all.iter().enumerate() {
        for verb in rule["verbs"].as_array().unwrap() {
            let mut fewer = all.clone();
            let verbs = fewer[at]["verbs"].as_array_mut().unwrap();
            verbs.retain(|other| other != verb);
            if verbs.is_empty() {
                fewer.remove(at);
            }
            place.grant(&json!(fewer)).await;
            let told = format!(
                "lacks the right to {} {}",
                verb.as_str().unwrap(),
                rule["resources"][0].as_str().unwrap()
            );
            let problems = config_check(&place).await.unwrap_err();
            assert!(problems.contains("`cluster.one`") && problems.contains(&told), "{problems}");
            let started = place.ca(ZTUNNEL).await;
            says(&started, &told).await;
            started.stop().await;
            rights += 1;
        }
    }
    assert_eq!(rights, 3, "create tokenreviews, list and watch pods");
    place.grant(&json!(all)).await;
    assert_eq!(config_check(&place).await, Ok(()));
    place.relay.set(stores_peers::Line::Cut).await;
    let problems = config_check(&place).await.unwrap_err();
    assert!(problems.contains("its API server cannot be asked"), "{problems}");
    ca.stop().await;
}

/// What the ledger says of where bearers are.
fn places(ca: &TestCa) -> Vec<String> {
    let files = ledger::reader::read(&RealDisk, &ca.data().join("ledger")).unwrap();
    let entries = files.into_iter().flat_map(|file| file.unwrap().entries);
    let place = |entry: Entry| match entry.record {
        Record::Bearer { place, .. } => Some(place),
        _ => None,
    };
    entries.filter_map(place).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_has_pod_uid_and_node_of_each_leaf_where_that_is_wanted_and_still_after_a_restart()
 {
    let place = Place::start().await;
    let pod = place.pod("cart-1", "cart", NODE_A).await;
    let token = with_token(&place.token(&pod).await);
    let plain = place.ca("").await;
    TestClient::connect(&plain).await.create(&token).await.unwrap();
    plain.settled_books().await;
    assert_eq!(places(&plain), Vec::<String>::new(), "a former release could not read it");
    plain.stop().await;

    let ca = place.ca("bearers_in_ledger = true").await;
    let client = TestClient::connect(&ca).await;
    client.create(&token).await.unwrap();
    client.create_good(&ca).await;
    let expected = [format!("pod {} cart-1, node {NODE_A}, cluster one", pod.uid)];
    integration_tests::untrusted::eventually("it is written", async || places(&ca) == expected)
        .await;
    let ca = ca.restart().await.unwrap();
    assert_eq!(places(&ca), expected);
    TestClient::connect(&ca).await.create(&token).await.unwrap();
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_cluster_is_refused_by_name() {
    let (one, two) = (Place::start().await, Place::start().await);
    let both = |issuers: [&str; 2]| {
        let [first, second] = issuers;
        format!(
            "{}{}",
            one.section("one", &format!("default = true\n{first}")),
            two.section("two", second)
        )
    };
    let ca = TestCa::start(CaOptions::with(&both(["", ""]))).await;
    let client = TestClient::connect(&ca).await;
    let pod = two.pod("cart-1", "cart", NODE_A).await;
    let of_two = with_token(&two.token(&pod).await);
    let mut named = of_two.clone();
    named.headers = vec![("clusterid", "two".to_owned())];
    client.create(&named).await.unwrap();
    // Both clusters name themselves alike, as clusters do that nobody told otherwise.
    let told = refused(&ca, &client, &of_two, Expected::new(UA, "TOKEN_REVIEW_REFUSED")).await;
    assert!(told.text.contains("cluster \"one\"") && told.text.contains("clusterid"), "{told:?}");
    ca.stop().await;

    let ca = TestCa::start(CaOptions::with(&both([
        "issuer = \"https://one.example\"",
        &format!("issuer = \"{ISSUER}\""),
    ])))
    .await;
    let client = TestClient::connect(&ca).await;
    let told = refused(&ca, &client, &of_two, Expected::new(UA, "TOKEN_CLUSTER_MISMATCH")).await;
    assert!(told.text.contains("of cluster \"two\""), "{told:?}");
    client.create(&named).await.unwrap();
    ca.stop().await;
}
