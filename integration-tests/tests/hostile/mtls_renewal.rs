//! Family "mTLS renewal". A client certificate belongs to a connection, so each case has its own, which must go on
//! answering what anybody may ask.

use std::time::Duration;

use integration_tests::untrusted::certificate::{Forgery, Signer};
use integration_tests::untrusted::client::Tls;
use integration_tests::untrusted::istio::{Attempt, workload};
use integration_tests::untrusted::{CART, CaOptions, Credential, TestCa, TestClient};
use tonic::Code;

use crate::Case;
use crate::judge::assert_refused;

const EXPIRED: &str = "CERTIFICATE_EXPIRED";
const IDENTITY: &str = "CERTIFICATE_IDENTITY_INVALID";
const NOT_ISSUED: &str = "CERTIFICATE_NOT_ISSUED";

fn uris(uris: &[&str]) -> Forgery {
    Forgery { uris: uris.iter().map(|&uri| uri.to_owned()).collect(), ..Forgery::default() }
}

async fn assert_certificate_refused(
    ca: &TestCa,
    heading: &'static str,
    credential: Credential,
    reason: &'static str,
) {
    let client = TestClient::connect_with(ca, &Tls::with(credential)).await;
    let client =
        client.unwrap_or_else(|error| panic!("{heading}: judged in the handshake: {error}"));
    let renewal = Attempt::anonymous();
    assert_refused(ca, &client, &Case::new(heading, renewal, Code::Unauthenticated, reason)).await;
    // A bad credential is not healed by a good one beside it.
    let both = Attempt::good(ca);
    assert_refused(ca, &client, &Case::new(heading, both, Code::Unauthenticated, reason)).await;
    client.bundle().await.unwrap();
    assert_eq!(client.connections(), 1, "{heading}: the connection survives");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_the_ca_did_not_issue_or_that_ended_are_refused() {
    let ca = TestCa::start(CaOptions::default()).await;
    let (good, _) = workload(&ca, CART).await;
    let issuer = Signer::issuer(&ca, &good.chain);
    let serial =
        trust::Certificate::parse(&good.chain[0]).unwrap().serial_bytes().try_into().unwrap();
    for (heading, forgery, reason) in [
        ("expired", Forgery { life: [-600, -10], ..Forgery::default() }, EXPIRED),
        ("not valid yet", Forgery { life: [7_200, 10_800], ..Forgery::default() }, EXPIRED),
        (
            "other domain",
            uris(&["spiffe://other.org/ns/shop/sa/cart"]),
            "CERTIFICATE_TRUST_DOMAIN_FOREIGN",
        ),
        (
            "CA used as leaf",
            Forgery { is_ca: true, ..Forgery::default() },
            "CERTIFICATE_CA_AS_LEAF",
        ),
        ("no URI SAN", uris(&[]), IDENTITY),
        ("two URI SANs", uris(&[CART, "spiffe://example.org/ns/shop/sa/web"]), IDENTITY),
        ("a URI that is no SPIFFE id", uris(&["https://example.org/cart"]), IDENTITY),
        ("the CA's own id", uris(&["spiffe://example.org/banyan/ca/ca-1"]), IDENTITY),
        (
            "100-certificate chain",
            Forgery { fillers: 98, ..Forgery::default() },
            "CERTIFICATE_CHAIN_TOO_LONG",
        ),
        ("signed by the issuer behind the CA's back", Forgery::default(), NOT_ISSUED),
        ("the serial number of another leaf", Forgery { serial, ..Forgery::default() }, NOT_ISSUED),
    ] {
        let credential = issuer.forge(&forgery).await;
        assert_certificate_refused(&ca, heading, credential, reason).await;
    }
    let mut retired = Signer::foreign(&ca).forge(&Forgery::default()).await;
    retired.chain.truncate(1);
    assert_certificate_refused(&ca, "from a retired root", retired, "CERTIFICATE_UNTRUSTED").await;

    let client = TestClient::connect_with(&ca, &Tls::with(good)).await.unwrap();
    client.create(&Attempt::anonymous()).await.expect("a live leaf renews itself");
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_is_judged_at_every_call_and_ends_under_an_open_connection() {
    let ca = TestCa::start(CaOptions::default()).await;
    let (live, _) = workload(&ca, CART).await;
    let client = TestClient::connect_with(&ca, &Tls::with(live)).await.unwrap();
    client.create(&Attempt::anonymous()).await.unwrap();
    // Past the 120 s that good requests ask for.
    ca.clock().advance(Duration::from_secs(121));
    let expired =
        Case::new("expired meanwhile", Attempt::anonymous(), Code::Unauthenticated, EXPIRED);
    assert_refused(&ca, &client, &expired).await;
    client.bundle().await.unwrap();
    assert_eq!(client.connections(), 1);
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_of_before_a_restart_still_renew() {
    let ca = TestCa::start(CaOptions::default()).await;
    let (live, _) = workload(&ca, CART).await;
    let ca = ca.restart().await.unwrap();
    let client = TestClient::connect_with(&ca, &Tls::with(live)).await.unwrap();
    let renewed = client.create(&Attempt::anonymous()).await.unwrap();
    assert_eq!(renewed.leaf.spiffe_id().unwrap().as_str(), CART);
    ca.stop().await;
}
