//! Leaves over real gRPC and TLS, from first contact to the reply that data planes understand.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy takes helpers of tests for product code"
)]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::banyan::admin::v1::StatusRequest;
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use proto::banyan::agent::v1::{GetBundleRequest, RegisterRequest, RenewAgentRequest};
use proto::istio::v1::auth::IstioCertificateRequest;
use proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use rcgen::KeyPair;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use support::{
    Identity, Place, admin, agent, bearer, channel, csr, reason, registration, stop, token,
    workload,
};
use tonic::Code;
use trust::{Certificate, Chain, Clock as _, PeerRole};

const WEB: &str = "spiffe://example.org/web";

fn istio(csr: &str) -> IstioCertificateRequest {
    IstioCertificateRequest { csr: csr.to_owned(), validity_duration: 3_600, metadata: None }
}

fn pem_to_der(text: &str) -> Vec<Vec<u8>> {
    pem::parse_many(text).unwrap().into_iter().map(pem::Pem::into_contents).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_joins_by_token_and_gets_leaves_for_its_workloads_only() {
    let place = Place::new("");
    let running = place.start().await.unwrap();
    let identity = agent(&running, "node-1", &[WEB]).await;
    let mut client = AgentServiceClient::new(channel(&running, Some(identity)).await);
    let pair = KeyPair::generate().unwrap();
    let answer = workload(&mut client, WEB, &pair).await.unwrap();

    let bundle = running.bundle();
    assert_eq!(answer.bundle.unwrap().digest, bundle.digest().as_bytes());
    let chain = Chain::parse(&answer.chain).unwrap();
    let now = host::SystemClock.now();
    chain.verify(&bundle, now, PeerRole::Client).unwrap();
    chain.verify(&bundle, now, PeerRole::Server).unwrap();
    assert_eq!(chain.leaf().spiffe_id().unwrap().as_str(), WEB);

    let refused = workload(&mut client, "spiffe://example.org/db", &pair).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::PermissionDenied, "IDENTITY_NOT_ENTITLED")
    );
    let refused =
        workload(&mut client, "spiffe://example.org/banyan/ca/x", &pair).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    let status = admin(&running).await.status(StatusRequest {}).await.unwrap().into_inner();
    assert!(status.healthy, "{:?}", status.conditions);
    assert_eq!(status.agents.len(), 1);
    assert_eq!(status.agents[0].id, "spiffe://example.org/banyan/agent/node-1");
    // The server's own leaf, the agent's, the workload's.
    assert_eq!(status.ledger.unwrap().live_rows, 3);
    assert_eq!(status.refused_total, 2);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reply_to_istio_is_leaf_intermediates_and_all_roots_in_the_last_string() {
    let place = Place::new("");
    let running = place.start().await.unwrap();
    let identity = agent(&running, "node-1", &[WEB]).await;
    let mut client = AgentServiceClient::new(channel(&running, Some(identity)).await);
    let pair = KeyPair::generate().unwrap();
    let answer = workload(&mut client, WEB, &pair).await.unwrap();
    // Renewal by mTLS: the same identity, proven by the live leaf.
    let workload = channel(&running, Some(Identity::of(&answer, &pair))).await;
    let next = KeyPair::generate().unwrap();
    let mut client = IstioCertificateServiceClient::new(workload);
    let chain =
        client.create_certificate(istio(&csr(&next).1)).await.unwrap().into_inner().cert_chain;

    assert_eq!(chain.len(), 3);
    let blocks: Vec<_> = chain.iter().map(|text| pem_to_der(text)).collect();
    assert_eq!([blocks[0].len(), blocks[1].len()], [1, 1]);
    let roots: Vec<_> = running.bundle().roots().iter().map(|root| root.der().to_vec()).collect();
    assert_eq!(blocks[2], roots, "all roots, and only in the last string");
    let leaf = Certificate::parse(&blocks[0][0]).unwrap();
    assert_eq!(leaf.spiffe_id().unwrap().as_str(), WEB);
    assert_eq!(leaf.validity().not_after().since(leaf.validity().not_before()).as_secs(), 3_660);
    stop(running).await;
}

/// An issuer of tokens with a P-256 key.
struct TokenIssuer(EcdsaKeyPair, SystemRandom);

impl TokenIssuer {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "a key for this test only")]
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap(), random)
    }

    fn key_set(&self) -> String {
        let point = self.0.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|half| URL_SAFE_NO_PAD.encode(half));
        format!(
            r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"k1","alg":"ES256","use":"sig","x":"{x}","y":"{y}"}}]}}"#
        )
    }

    fn token(&self, claims: &str) -> String {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"k1","typ":"JWT"}"#);
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = self.0.sign(&self.1, message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

const JWT: &str = "[[jwt]]\nissuer = \"https://issuer.test\"\njwks_file = \"keys.json\"\nidentity = \"kubernetes\"\n";

fn claims(subject: &str) -> String {
    let now = host::SystemClock.now().as_secs();
    let (iat, exp) = (now - 10, now + 600);
    format!(
        r#"{{"iss":"https://issuer.test","aud":["istio-ca"],"sub":"{subject}","iat":{iat},"exp":{exp}}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_token_buys_the_accounts_identity() {
    let (place, issuer) = (Place::new(JWT), TokenIssuer::new());
    std::fs::write(place.path().join("keys.json"), issuer.key_set()).unwrap();
    let running = place.start().await.unwrap();
    let token = issuer.token(&claims("system:serviceaccount:shop:cart"));
    let mut client = IstioCertificateServiceClient::new(channel(&running, None).await);
    let pem = csr(&KeyPair::generate().unwrap()).1;
    let chain = client
        .create_certificate(bearer(istio(&pem), &token))
        .await
        .unwrap()
        .into_inner()
        .cert_chain;
    let leaf = Certificate::parse(&pem_to_der(&chain[0])[0]).unwrap();
    assert_eq!(leaf.spiffe_id().unwrap().as_str(), "spiffe://example.org/ns/shop/sa/cart");

    let wrong = TokenIssuer::new().token(&claims("system:serviceaccount:shop:cart"));
    let refused = client.create_certificate(bearer(istio(&pem), &wrong)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unauthenticated, "TOKEN_SIGNATURE_INVALID")
    );
    let refused = client.create_certificate(istio(&pem)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unauthenticated, "CREDENTIAL_MISSING")
    );
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_may_join_by_jwt_and_asks_for_that_identity_only() {
    let (place, issuer) = (Place::new(JWT), TokenIssuer::new());
    std::fs::write(place.path().join("keys.json"), issuer.key_set()).unwrap();
    let running = place.start().await.unwrap();
    let token = issuer.token(&claims("system:serviceaccount:shop:cart"));
    let pair = KeyPair::generate().unwrap();
    let mut client = AgentServiceClient::new(channel(&running, None).await);
    let message = registration(&running, &pair);
    let answer = client.register(bearer(message, &token)).await.unwrap().into_inner();
    let mut client =
        AgentServiceClient::new(channel(&running, Some(Identity::of(&answer, &pair))).await);
    let key = KeyPair::generate().unwrap();
    workload(&mut client, "spiffe://example.org/ns/shop/sa/cart", &key).await.unwrap();
    let refused =
        workload(&mut client, "spiffe://example.org/ns/shop/sa/db", &key).await.unwrap_err();
    assert_eq!(reason(&refused), "IDENTITY_NOT_ENTITLED");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_retried_with_the_same_key_and_refused_with_another() {
    let place = Place::new("");
    let running = place.start().await.unwrap();
    let token = token(&running, "node-1", &[WEB]).await;
    let mut client = AgentServiceClient::new(channel(&running, None).await);
    let [first, other] = [(); 2].map(|()| KeyPair::generate().unwrap());
    let register = |pair: &KeyPair| bearer(registration(&running, pair), &token);
    client.register(register(&first)).await.unwrap();
    client.register(register(&first)).await.unwrap();
    let refused = client.register(register(&other)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::PermissionDenied, "JOIN_TOKEN_USED")
    );
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_renews_its_own_leaf_for_its_own_key() {
    let place = Place::new("");
    let running = place.start().await.unwrap();
    let (pair, token) = (KeyPair::generate().unwrap(), token(&running, "node-1", &[WEB]).await);
    let mut client = AgentServiceClient::new(channel(&running, None).await);
    let message = registration(&running, &pair);
    let answer = client.register(bearer(message, &token)).await.unwrap().into_inner();
    let mut client =
        AgentServiceClient::new(channel(&running, Some(Identity::of(&answer, &pair))).await);
    let RegisterRequest { stored_sequence, stored_digest, .. } = registration(&running, &pair);
    let renewal = |pair: &KeyPair| {
        let stored_digest = stored_digest.clone();
        RenewAgentRequest { csr: csr(pair).0, stored_sequence, stored_digest }
    };
    let renewed = client.renew_agent(renewal(&pair)).await.unwrap().into_inner();
    assert_ne!(renewed.chain[0], answer.chain[0]);
    let other = KeyPair::generate().unwrap();
    let refused = client.renew_agent(renewal(&other)).await.unwrap_err();
    assert_eq!(reason(&refused), "AGENT_UNKNOWN");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_gets_the_bundle_and_only_a_digest_that_is_known() {
    let place = Place::new("");
    let running = place.start().await.unwrap();
    let mut client = AgentServiceClient::new(channel(&running, None).await);
    let digest = running.bundle().digest().as_bytes().to_vec();
    for wanted in [Vec::new(), digest.clone()] {
        let answer =
            client.get_bundle(GetBundleRequest { digest: wanted }).await.unwrap().into_inner();
        assert_eq!(answer.bundle.unwrap().digest, digest);
    }
    for (wanted, expected) in [(vec![0; 32], "BUNDLE_UNKNOWN"), (vec![0; 31], "REQUEST_INVALID")] {
        let refused = client.get_bundle(GetBundleRequest { digest: wanted }).await.unwrap_err();
        assert_eq!(reason(&refused), expected);
    }
    stop(running).await;
}
