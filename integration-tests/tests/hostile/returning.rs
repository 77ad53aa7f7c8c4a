//! Family "an agent that comes back": its certificate is over, its key is registered, and it may renew that one
//! certificate. Everything that only looks like it is refused.

use std::time::Duration;

use integration_tests::mesh::eventually;
use integration_tests::untrusted::certificate::{Forgery, Signer};
use integration_tests::untrusted::client::{Credential, Refused, Tls};
use integration_tests::untrusted::istio::workload;
use integration_tests::untrusted::{CART, CaOptions, TestCa, TestClient};
use rcgen::KeyPair;

/// Later than an agent's certificate lives.
const AWAY: Duration = Duration::from_secs(25 * 3_600);
const AGENT: &str = "spiffe://example.org/banyan/agent/node-1";
const EXPIRED: &str = "CERTIFICATE_EXPIRED";

async fn shows(ca: &TestCa, credential: &Credential) -> TestClient {
    TestClient::connect_with(ca, &Tls::with(credential.clone())).await.unwrap()
}

async fn renewed(ca: &TestCa, shown: &Credential, key: KeyPair) -> Result<Credential, Refused> {
    shows(ca, shown).await.renew_agent(key).await
}

/// Puts the clock forward, and waits until the CA can issue and be believed again.
async fn advance(ca: &TestCa, by: Duration) {
    ca.clock().advance(by);
    eventually("the CA issues after a leap of the clock", || async {
        let Ok(client) = TestClient::connect_with(ca, &Tls::default()).await else { return false };
        client.create(&integration_tests::untrusted::istio::Attempt::good(ca)).await.is_ok()
    })
    .await
    .unwrap();
}

fn agents_own(life: [i64; 2]) -> Forgery {
    Forgery { uris: vec![AGENT.to_owned()], life, ..Forgery::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_certificate_buys_its_own_renewal_and_nothing_else() {
    let ca = TestCa::start(CaOptions::default()).await;
    let agent = ca.join("node-1", &[CART]).await;
    let (cart, _) = workload(&ca, CART).await;
    let issuer = Signer::issuer(&ca, &agent.chain);
    advance(&ca, AWAY).await;

    let reason = |refused: Refused| refused.reason;
    let other = renewed(&ca, &agent, KeyPair::generate().unwrap()).await.unwrap_err();
    assert_eq!(reason(other), "AGENT_UNKNOWN", "another key than the registered one");
    let leaf = shows(&ca, &agent).await.issue_workload(CART).await.unwrap_err();
    assert_eq!(reason(leaf), EXPIRED, "a leaf for a workload");
    let of_a_workload = renewed(&ca, &cart, cart.key_pair()).await.unwrap_err();
    assert_eq!(reason(of_a_workload), EXPIRED, "a workload's former certificate");
    let untrusted = KeyPair::generate().unwrap();
    let forged = issuer.forge_for(&untrusted, &agents_own([-600, -10])).await;
    let forged = renewed(&ca, &forged, untrusted).await.unwrap_err();
    assert_eq!(reason(forged), "AGENT_UNKNOWN", "a key that was never registered, well signed");

    let back = renewed(&ca, &agent, agent.key_pair()).await.expect("its own renewal");
    shows(&ca, &back)
        .await
        .issue_workload(CART)
        .await
        .expect("with the new one it is a member again");
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_away_too_long_needs_a_new_token_whatever_its_certificate_claims() {
    let ca = TestCa::start(CaOptions::with("[rotation]\nreturn_within = \"1h\"\n")).await;
    let agent = ca.join("node-1", &[CART]).await;
    advance(&ca, AWAY + Duration::from_secs(3_600)).await;
    let too_late = renewed(&ca, &agent, agent.key_pair()).await.unwrap_err();
    assert_eq!(too_late.reason, EXPIRED);
    // Whoever has the key can make certificates for it, but none that a root of this CA ever signed.
    for life in [[-600, -10], [-60, 300]] {
        let claimed = Signer::foreign(&ca).forge_for(&agent.key_pair(), &agents_own(life)).await;
        for chain in [&claimed.chain[..1], &claimed.chain[..]] {
            let shown = Credential::new(chain.to_vec(), &agent.key_pair());
            let refused = renewed(&ca, &shown, agent.key_pair()).await.unwrap_err();
            assert!(refused.reason.starts_with("CERTIFICATE_"), "{refused:?}");
        }
    }
    ca.join("node-1", &[CART]).await;
    ca.stop().await;
}
