//! TLS: versions, slow handshakes, other protocols inside, long chains.

use std::time::Duration;

use integration_tests::untrusted::certificate::{Forgery, Signer};
use integration_tests::untrusted::client::Tls;
use integration_tests::untrusted::istio::{Attempt, workload};
use integration_tests::untrusted::{CART, CaOptions, SOON, TestCa, TestClient};
use prost_types::value::Kind;
use rustls::ProtocolVersion;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use trust::{Certificate, KeyKind, PublicKey};

use crate::while_a_good_client_is_served;

/// What pilot-agent sends by default: a key of RSA-2048 and an organisation without text.
const PILOT_AGENT_CSR: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../trust/tests/fixtures/rsa-2048-empty-organization.pem"
));

/// A ClientHello of TLS 1.1 in its record: no extensions, two suites of that age (RFC 4346 §7.4.1.2).
fn hello_of_tls11() -> Vec<u8> {
    let body = [&[3, 2][..], &[7; 32], &[0], &[0, 4, 0, 0x2f, 0xc0, 0x13], &[1, 0]].concat();
    let length = u8::try_from(body.len()).unwrap();
    [&[0x16, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat()
}

/// Everything that the server says until it closes the connection, which it must.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    let ended = tokio::time::timeout(SOON, stream.read_to_end(&mut said)).await;
    // A reset is an end, too.
    let _ = ended.expect("the server cuts the connection");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_handshakes_are_cut_while_new_connections_are_served() {
    let ca = TestCa::start(CaOptions::with("[limits]\nhandshake_timeout = \"1s\"\n")).await;
    while_a_good_client_is_served(&ca, async {
        let mut slow = Vec::new();
        for at in 0..60 {
            let mut stream = TcpStream::connect(ca.addr()).await.unwrap();
            // Nothing, half a record, or a whole hello without the rest.
            let hello = hello_of_tls11();
            let part = [&[][..], &hello[..20], &hello[..5]][at % 3];
            stream.write_all(part).await.unwrap();
            slow.push(stream);
        }
        for _ in 0..5 {
            TestClient::connect(&ca).await.create_good(&ca).await;
        }
        for stream in &mut slow {
            until_closed(stream).await;
        }
    })
    .await;
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_1_1_is_refused_with_an_alert() {
    let ca = TestCa::start(CaOptions::default()).await;
    while_a_good_client_is_served(&ca, async {
        let mut stream = TcpStream::connect(ca.addr()).await.unwrap();
        stream.write_all(&hello_of_tls11()).await.unwrap();
        let said = until_closed(&mut stream).await;
        // A record of one fatal alert: handshake_failure, since the hello has no extension that later versions demand,
        // or protocol_version.
        let alert = (said.first(), said.get(5..));
        let refused = |code| alert == (Some(&0x15), Some(&[2, code][..]));
        assert!(refused(40) || refused(70), "{said:02x?}");
    })
    .await;
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_1_is_refused_by_its_name_and_without_a_name() {
    let ca = TestCa::start(CaOptions::default()).await;
    while_a_good_client_is_served(&ca, async {
        let named = Tls { alpn: vec![b"http/1.1".to_vec()], ..Tls::default() };
        let refused = named.handshake(&ca).await.unwrap_err();
        assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");

        let unnamed = Tls { alpn: Vec::new(), ..Tls::default() };
        let mut stream = unnamed.handshake(&ca).await.unwrap();
        stream
            .write_all(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
        let mut said = Vec::new();
        let ended = tokio::time::timeout(SOON, stream.read_to_end(&mut said)).await;
        let _ = ended.expect("the server ends the connection");
        assert!(!said.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&said));
    })
    .await;
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_1_2_with_the_request_of_a_pilot_agent_gets_a_certificate_and_renews_with_it() {
    let ca = TestCa::start(CaOptions::default()).await;
    let tls = Tls { versions: vec![&TLS12], ..Tls::default() };
    let shaken = tls.handshake(&ca).await.unwrap();
    assert_eq!(shaken.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_2));

    let client = TestClient::connect_with(&ca, &tls).await.unwrap();
    let mut attempt = Attempt::with_csr(&ca, PILOT_AGENT_CSR).ttl(86_400);
    attempt.metadata = vec![("CertSigner", Kind::StringValue(String::new()))];
    attempt.headers = vec![("clusterid", "Kubernetes".to_owned())];
    let answer = client.create(&attempt).await.unwrap();
    assert_eq!(answer.leaf.spiffe_id().unwrap().as_str(), CART);
    let key = PublicKey::parse(answer.leaf.spki_der()).unwrap();
    assert_eq!(key.kind(), KeyKind::Rsa { bits: 2_048 });
    // Leaf, intermediate, and all roots in the last string.
    assert_eq!(answer.chain.len(), 3);
    let root = pem::parse(&answer.chain[2]).unwrap().into_contents();
    assert_eq!(root, ca.bundle().roots()[0].der());

    let (live, _) = workload(&ca, CART).await;
    let tls = Tls { credential: Some(live), versions: vec![&TLS12, &TLS13], ..Tls::default() };
    let renewing = Tls { versions: vec![&TLS12], ..tls };
    let client = TestClient::connect_with(&ca, &renewing).await.unwrap();
    client.create(&Attempt::anonymous()).await.expect("a live leaf renews over TLS 1.2");
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_100_certificates_is_told_so_at_every_call() {
    let ca = TestCa::start(CaOptions::default()).await;
    let (good, _) = workload(&ca, CART).await;
    let long = Signer::issuer(&ca, &good.chain)
        .forge(&Forgery { fillers: 98, ..Forgery::default() })
        .await;
    assert_eq!(long.chain.len(), 100);
    assert!(Certificate::parse(&long.chain[0]).is_ok());
    let client = TestClient::connect_with(&ca, &Tls::with(long)).await.unwrap();
    while_a_good_client_is_served(&ca, async {
        for _ in 0..20 {
            let refused = client.create(&Attempt::anonymous()).await.unwrap_err();
            assert_eq!(
                (refused.code, refused.reason.as_str()),
                (Code::Unauthenticated, "CERTIFICATE_CHAIN_TOO_LONG")
            );
        }
    })
    .await;
    assert_eq!(client.connections(), 1);
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_past_its_age_is_ended_and_the_next_request_opens_another() {
    let ca = TestCa::start(CaOptions::with("[limits]\nconnection_age = \"10s\"\n")).await;
    let client = TestClient::connect(&ca).await;
    let poll = async {
        while client.connections() == 1 {
            client.create_good(&ca).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(SOON, poll).await.expect("the connection ends");
    client.create_good(&ca).await;
    ca.stop().await;
}
