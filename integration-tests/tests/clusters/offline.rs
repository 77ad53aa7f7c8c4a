//! The family "key set": a cluster whose tokens are judged by keys that are fetched.

use std::sync::{Arc, Mutex};

use integration_tests::tokens::TokenIssuer;
use integration_tests::untrusted::{CART, CaOptions, TestCa, TestClient};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use stores_peers::{ISSUER, Line, Pki};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::Code;

use crate::place::{
    Expected, NODE_A, PAST_CACHE, Place, becomes, is_well, refused, says, with_token,
};

const UNAVAILABLE: Expected = Expected::new(Code::Unavailable, "KEY_SET_UNAVAILABLE");

#[tokio::test(flavor = "multi_thread")]
async fn offline_tokens_are_judged_while_the_api_server_is_away() {
    let place = Place::start().await;
    let ca = place.ca(&format!("review = \"offline\"\nissuer = \"{ISSUER}\"")).await;
    let client = TestClient::connect(&ca).await;
    let pod = place.pod("cart-1", "cart", NODE_A).await;
    let token = place.token(&pod).await;
    // The first call may come before the first fetch, and waits for it.
    let answer = client.create(&with_token(&token)).await.unwrap();
    assert_eq!(answer.leaf.spiffe_id().unwrap().as_str(), CART);
    is_well(&ca).await;
    let tampered = with_token(&format!("{}AAAA", &token[..token.len() - 4]));
    let bad = Expected::new(Code::Unauthenticated, "TOKEN_SIGNATURE_INVALID");
    refused(&ca, &client, &tampered, bad).await;
    let other = place.pod("cart-2", "cart", NODE_A).await;
    let other = with_token(&place.token(&other).await);
    place.relay.set(Line::Cut).await;
    ca.clock().advance(PAST_CACHE);
    client.create(&other).await.unwrap();
    says(&ca, "cannot be asked").await;
    // The claims of the token are in the audit, as those of a review are.
    let mut short = other.clone();
    short.ttl_secs = 1;
    refused(&ca, &client, &short, Expected::new(Code::InvalidArgument, "TTL_BELOW_MINIMUM")).await;
    let books = ca.books_with_refusals(2).await;
    let last = format!("{:?}", books.refused.last().unwrap());
    assert!(last.contains("cart-2") && last.contains(NODE_A), "{last}");
    ca.stop().await;
}

/// A server over TLS that answers each request with the same bytes; with none it says nothing.
struct Answers {
    url: String,
    pki: Pki,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Answers {
    async fn start() -> Self {
        let pki = Pki::new().unwrap();
        let chain = CertificateDer::pem_file_iter(pki.path("server.pem")).unwrap();
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(pki.path("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/keys", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(Vec::new()));
        let given = Arc::clone(&answer);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, given) = (acceptor.clone(), Arc::clone(&given));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut request = [0; 4_096];
                    let _ = stream.read(&mut request).await;
                    let answer = given.lock().unwrap().clone();
                    match answer.is_empty() {
                        true => std::future::pending().await,
                        false => {
                            let _ = stream.write_all(&answer).await;
                            let _ = stream.shutdown().await;
                        }
                    }
                });
            }
        });
        Self { url, pki, answer }
    }

    fn say(&self, head: &str, body: &str) {
        let length = body.len();
        let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\n\r\n{body}");
        *self.answer.lock().unwrap() = answer.into_bytes();
    }

    fn hang(&self) {
        self.answer.lock().unwrap().clear();
    }

    fn section(&self) -> String {
        format!(
            "[cluster.far]\nkubeconfig = \"none\"\nreview = \"offline\"\nissuer = \"https://far.example\"\n\
             jwks_url = \"{}\"\njwks_ca_file = {:?}\nkey_set_age = \"1m\"\ntimeout = \"1s\"\n",
            self.url,
            self.pki.path("ca.pem")
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_set_elsewhere_is_taken_with_guards_and_believed_until_it_is_too_old() {
    let answers = Answers::start().await;
    let issuer = TokenIssuer::new("https://far.example");
    answers.hang();
    let ca = TestCa::start(CaOptions::with(&answers.section())).await;
    let client = TestClient::connect(&ca).await;
    let token = with_token(&issuer.token(CART, ca.clock().as_ref()));
    // There is no key, and never a default one.
    refused(&ca, &client, &token, UNAVAILABLE).await;
    says(&ca, "gave no answer within 1 s").await;
    answers.say("200 OK", &issuer.key_set());
    becomes(&client, &token, "").await;
    is_well(&ca).await;

    // A key that nobody knows has the key set fetched anew, and what comes instead is not taken.
    let next = TokenIssuer::new("https://far.example");
    let mut header = next.header();
    header.insert("kid".to_owned(), "k2".into());
    let unknown = with_token(&next.sign(&header, &next.claims(CART, ca.clock().as_ref())));
    answers.say("302 Found\r\nlocation: https://127.0.0.1:1/keys", "");
    becomes(&client, &unknown, UNAVAILABLE.reason).await;
    says(&ca, "redirects elsewhere, which is not followed").await;
    client.create(&token).await.unwrap();
    let huge = " ".repeat(300 * 1024);
    for (head, body, words) in [
        ("200 OK", huge.as_str(), "more than 256 KiB"),
        ("200 OK", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}", "was not taken: it has no RSA"),
        ("200 OK", "{\"keys\":[],\"keys\":[]}", "was not taken: it is not a JSON Web Key Set"),
        ("500 Oh", "no", "answers 500"),
    ] {
        answers.say(head, body);
        says(&ca, words).await;
        client.create(&token).await.unwrap();
    }
    // The last good one is too old by now.
    ca.clock().advance(std::time::Duration::from_secs(61));
    refused(&ca, &client, &token, UNAVAILABLE).await;
    says(&ca, "there is none to go by").await;

    let mut second = next.jwk();
    second["kid"] = "k2".into();
    answers.say("200 OK", &json!({ "keys": [issuer.jwk(), second] }).to_string());
    becomes(&client, &token, "").await;
    becomes(&client, &unknown, "").await;
    is_well(&ca).await;
    // One that is in no key set is refused, once that was fetched.
    header.insert("kid".to_owned(), "k3".into());
    let never = with_token(&next.sign(&header, &next.claims(CART, ca.clock().as_ref())));
    becomes(&client, &never, "TOKEN_KEY_UNKNOWN").await;
    ca.stop().await;
}
