//! Numbers: connections, streams, requests under way, and the time that one request has.

use std::time::Duration;

use integration_tests::attacks::frames::{PING, PREFACE, SETTINGS, next, ping, settings};
use integration_tests::untrusted::certificate::{Forgery, Signer};
use integration_tests::untrusted::client::Tls;
use integration_tests::untrusted::istio::{Attempt, workload};
use integration_tests::untrusted::{
    CART, CaOptions, Credential, Refused, SOON, TestCa, TestClient, eventually,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;
use tonic::Code;

use crate::while_a_good_client_is_served;

/// Long enough to tell that something waits; nothing fails when the machine is slower.
const A_WHILE: Duration = Duration::from_millis(500);

/// Calls that never send their message.
fn hold(client: &TestClient, calls: usize) -> JoinSet<Refused> {
    let hold = |_| {
        let client = client.clone();
        async move { client.create_without_a_message().await }
    };
    (0..calls).map(hold).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_bounded_and_the_oldest_makes_room_for_whoever_comes() {
    let ca = TestCa::start(CaOptions::with("[limits]\nconnections = 8\n")).await;
    while_a_good_client_is_served(&ca, async {
        let mut idle = Vec::new();
        for _ in 0..7 {
            idle.push(Tls::default().handshake(&ca).await.unwrap());
        }
        let one_more = Tls::default();
        let one_more = tokio::time::timeout(SOON, one_more.handshake(&ca)).await;
        one_more.expect("the ninth connection is served").unwrap();
        let ended = tokio::time::timeout(SOON, idle[0].read_to_end(&mut Vec::new())).await;
        // It is cut, so that TLS says no goodbye.
        let _ = ended.expect("the oldest has ended");
    })
    .await;
    ca.stop().await;
}

/// A connection that the server has begun to serve, and which has asked for nothing.
async fn served(ca: &TestCa, credential: Credential) -> TlsStream<TcpStream> {
    let mut stream = Tls::with(credential).handshake(ca).await.unwrap();
    // Its first frame: it has seen the whole handshake.
    until(&mut stream, SETTINGS).await;
    stream
}

/// Reads until a frame of this kind has come.
async fn until(stream: &mut TlsStream<TcpStream>, kind: u8) {
    let found = async { while next(stream).await.unwrap().kind != kind {} };
    tokio::time::timeout(SOON, found).await.expect("the server answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_shows_a_live_certificate_in_the_handshake_keeps_a_place_before_asking_and_nobody_else_does()
 {
    let patient = "[limits]\nconnections = 8\nfirst_request_timeout = \"1h\"\n";
    let ca = TestCa::start(CaOptions::with(patient)).await;
    let (good, _) = workload(&ca, CART).await;
    let forged = Signer::issuer(&ca, &good.chain).forge(&Forgery::default()).await;
    let mut member = served(&ca, good).await;
    let mut untrusted = served(&ca, forged).await;
    while_a_good_client_is_served(&ca, async {
        let mut crowd = Vec::new();
        for _ in 0..20 {
            crowd.push(Tls::default().handshake(&ca).await.unwrap());
        }
        let ended = tokio::time::timeout(SOON, untrusted.read_to_end(&mut Vec::new())).await;
        let _ = ended.expect("what the issuer signed behind the CA's back is no credential");
        member.write_all(&[PREFACE, &settings(1), &ping()].concat()).await.unwrap();
        until(&mut member, PING).await;
    })
    .await;
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_idle_connections_hold_up_nobody() {
    let ca = TestCa::start(CaOptions::default()).await;
    while_a_good_client_is_served(&ca, async {
        let mut idle = Vec::new();
        for _ in 0..300 {
            idle.push(Tls::default().handshake(&ca).await.unwrap());
        }
        TestClient::connect(&ca).await.create_good(&ca).await;
    })
    .await;
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_connection_are_bounded_and_other_connections_do_not_notice() {
    let ca = TestCa::start(CaOptions::with("[limits]\nstreams_per_connection = 4\n")).await;
    let greedy = TestClient::connect(&ca).await;
    while_a_good_client_is_served(&ca, async {
        let held = hold(&greedy, 4);
        let waits = async || tokio::time::timeout(A_WHILE, greedy.create_good(&ca)).await.is_err();
        eventually("a fifth request on the connection waits", waits).await;
        drop(held);
        greedy.create_good(&ca).await;
    })
    .await;
    assert_eq!(greedy.connections(), 1);
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_come_to_its_end_is_ended_by_the_deadline() {
    let ca = TestCa::start(CaOptions::with("[limits]\nrequest_timeout = \"2s\"\n")).await;
    let slow = TestClient::connect(&ca).await;
    while_a_good_client_is_served(&ca, async {
        let held = tokio::time::timeout(SOON, hold(&slow, 10).join_all()).await;
        for refused in held.expect("all are ended") {
            assert_eq!(
                (refused.code, refused.reason.as_str()),
                (Code::ResourceExhausted, "OVERLOADED")
            );
            assert!(refused.retry_after.is_some());
        }
        slow.create_good(&ca).await;
    })
    .await;
    assert_eq!(slow.connections(), 1);
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_send_no_message_take_no_place_from_other_connections() {
    // What holds a place would hold it for longer than anybody waits here.
    let limits = "[limits]\nrequests_in_flight = 1\nrequest_timeout = \"120s\"\n";
    let ca = TestCa::start(CaOptions::with(limits)).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(hold(&TestClient::connect(&ca).await, 20));
    }
    let client = TestClient::connect(&ca).await;
    let served = async {
        for _ in 0..5 {
            client.create_good(&ca).await;
        }
    };
    tokio::time::timeout(SOON, served)
        .await
        .expect("the one place is free for whoever sends a message");
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_the_server_takes_are_asked_to_come_again() {
    let ca = TestCa::start(CaOptions::with("[limits]\nrequests_in_flight = 1\n")).await;
    let client = TestClient::connect(&ca).await;
    let crowd = async || {
        let mut answers = JoinSet::new();
        for _ in 0..16 {
            let (client, attempt) = (client.clone(), Attempt::good(&ca));
            answers.spawn(async move { client.create(&attempt).await.err() });
        }
        let refused: Vec<Refused> = answers.join_all().await.into_iter().flatten().collect();
        for one in &refused {
            let seen = (one.code, one.reason.as_str(), one.retry_after.is_some());
            assert_eq!(seen, (Code::ResourceExhausted, "OVERLOADED", true));
        }
        !refused.is_empty()
    };
    eventually("sixteen at once are too many for one place", crowd).await;
    client.create_good(&ca).await;
    assert_eq!(client.connections(), 1);
    ca.stop().await;
}
