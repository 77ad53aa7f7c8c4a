//! Families "request" and "impersonation".

use integration_tests::untrusted::client::Tls;
use integration_tests::untrusted::istio::{Attempt, workload};
use integration_tests::untrusted::{CART, CaOptions, TestCa, TestClient};
use prost_types::value::Kind;
use tonic::Code;

use crate::{Case, judge, judge_family};

const WEB: &str = "spiffe://example.org/ns/shop/sa/web";
/// Lifetimes of the default configuration, in seconds, with the backdate.
const LIFE_DEFAULT: u64 = 300 + 1;
const LIFE_MAX: u64 = 600 + 1;

fn text(text: &str) -> Kind {
    Kind::StringValue(text.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_ask_for_what_they_may_not_have_are_refused() {
    judge_family(async |ca| {
        let with = |change: fn(&mut Attempt)| {
            let mut attempt = Attempt::good(ca);
            change(&mut attempt);
            attempt
        };
        let token = ca.tokens().token(CART, ca.clock().as_ref());
        let join = ca.join_token("node-1", &[CART]).await;
        let case = Case::new;
        let (unauthenticated, denied, invalid) =
            (Code::Unauthenticated, Code::PermissionDenied, Code::InvalidArgument);
        let mut forwarded = Attempt::anonymous();
        forwarded.headers = vec![("x-forwarded-client-cert", format!("URI={CART}"))];
        let mut scheme = Attempt::anonymous();
        scheme.authorization = vec![format!("Basic {token}")];
        vec![
            case("no credential", Attempt::anonymous(), unauthenticated, "CREDENTIAL_MISSING"),
            case("forwarded certificate only", forwarded, unauthenticated, "CREDENTIAL_MISSING"),
            case(
                "duplicate token",
                with(|attempt| attempt.authorization.extend_from_within(..)),
                unauthenticated,
                "TOKEN_SCHEME_UNSUPPORTED",
            ),
            case("another scheme", scheme, unauthenticated, "TOKEN_SCHEME_UNSUPPORTED"),
            case(
                "TTL below the minimum",
                with(|attempt| attempt.ttl_secs = 1),
                invalid,
                "TTL_BELOW_MINIMUM",
            ),
            case(
                "join token for a workload",
                Attempt::anonymous().token(&join),
                denied,
                "CALLER_NOT_ALLOWED",
            ),
            case(
                "made-up join token",
                Attempt::anonymous().token("bjt1.AAAA"),
                unauthenticated,
                "JOIN_TOKEN_INVALID",
            ),
            case(
                "another signer",
                with(|attempt| attempt.metadata = vec![("CertSigner", text("other"))]),
                invalid,
                "REQUEST_INVALID",
            ),
            case(
                "impersonation",
                with(|attempt| attempt.metadata = vec![("ImpersonatedIdentity", text(WEB))]),
                denied,
                "IMPERSONATION_REFUSED",
            ),
            case(
                "impersonation of oneself",
                with(|attempt| attempt.metadata = vec![("ImpersonatedIdentity", text(CART))]),
                denied,
                "IMPERSONATION_REFUSED",
            ),
            case(
                "impersonation by a number",
                with(|attempt| {
                    attempt.metadata = vec![("ImpersonatedIdentity", Kind::NumberValue(1.0))]
                }),
                invalid,
                "REQUEST_INVALID",
            ),
            case(
                "impersonation of 10,000 bytes",
                with(|attempt| {
                    attempt.metadata = vec![("ImpersonatedIdentity", text(&"x".repeat(10_000)))]
                }),
                denied,
                "IMPERSONATION_REFUSED",
            ),
        ]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_lifetimes_get_the_default_or_the_maximum() {
    let ca = TestCa::start(CaOptions::default()).await;
    let client = TestClient::connect(&ca).await;
    for (ttl, life) in [
        (0, LIFE_DEFAULT),
        (-1, LIFE_DEFAULT),
        (i64::MIN, LIFE_DEFAULT),
        (601, LIFE_MAX),
        (i64::MAX, LIFE_MAX),
        (60, 61),
    ] {
        let answer = client.create(&Attempt::good(&ca).ttl(ttl)).await.unwrap();
        assert_eq!(answer.life_secs(), life, "{ttl}");
    }
    assert_eq!(client.connections(), 1);
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_lifetime_is_refused_where_the_configuration_says_so() {
    let leaf = "ttl_default = \"5m\"\nttl_max = \"10m\"\nabove_max = \"refuse\"";
    let ca = TestCa::start(CaOptions { leaf, ..CaOptions::default() }).await;
    let client = TestClient::connect(&ca).await;
    let case = |heading, ttl| {
        Case::new(heading, Attempt::good(&ca).ttl(ttl), Code::InvalidArgument, "TTL_ABOVE_MAXIMUM")
    };
    for case in [case("TTL above the maximum", 601), case("TTL huge", i64::MAX)] {
        crate::judge::assert_refused(&ca, &client, &case).await;
    }
    client.create(&Attempt::good(&ca).ttl(600)).await.unwrap();
    assert_eq!(client.connections(), 1);
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_gets_a_leaf_of_its_own() {
    let ca = TestCa::start(CaOptions::default()).await;
    let client = TestClient::connect(&ca).await;
    let attempt = Attempt::good(&ca);
    let first = client.create(&attempt).await.unwrap().leaf;
    let second = client.create(&attempt).await.unwrap().leaf;
    assert_eq!(first.spki_hash(), second.spki_hash());
    assert_ne!(first.serial(), second.serial());
    assert_eq!(ca.books().intents, 2, "each has its row");
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_a_on_a_connection_of_b_is_refused() {
    let ca = TestCa::start(CaOptions::default()).await;
    let (web, _) = workload(&ca, WEB).await;
    let client = TestClient::connect_with(&ca, &Tls::with(web)).await.unwrap();
    // No token: the certificate of the connection counts.
    let of_cart = Attempt::anonymous();
    let cases = [
        Case::new("CSR of A", of_cart, Code::PermissionDenied, "CSR_IDENTITY_MISMATCH"),
        Case::new("token of A", Attempt::good(&ca), Code::PermissionDenied, "CREDENTIALS_DISAGREE"),
    ];
    for case in &cases {
        crate::judge::assert_refused(&ca, &client, case).await;
    }
    let mut renewal = Attempt::anonymous();
    renewal.csr = integration_tests::untrusted::csr::CsrDraft::new().identity(WEB).pem();
    let renewed = client.create(&renewal).await.unwrap();
    assert_eq!(renewed.leaf.spiffe_id().unwrap().as_str(), WEB);
    assert_eq!(client.connections(), 1);
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_without_a_readable_key_set_has_no_default_key() {
    let more = "[[jwt]]\nissuer = \"https://away.example\"\njwks_file = \"missing.json\"\nidentity = \"kubernetes\"\n";
    let ca = TestCa::start(CaOptions::with(more)).await;
    let client = TestClient::connect(&ca).await;
    let away = integration_tests::tokens::TokenIssuer::new("https://away.example");
    let attempt = Attempt::anonymous().token(&away.token(CART, ca.clock().as_ref()));
    let case = Case::new("JWKS unreachable", attempt, Code::Unavailable, "KEY_SET_UNAVAILABLE");
    judge(&ca, &client, vec![case]).await;
    ca.stop().await;
}
