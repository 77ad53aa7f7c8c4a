//! Sizes: CSR, request, metadata, token, compression.

use integration_tests::untrusted::csr::CsrDraft;
use integration_tests::untrusted::istio::Attempt;
use integration_tests::untrusted::{CART, CaOptions, Refused, TestCa, TestClient};
use proto::istio::v1::auth::IstioCertificateRequest;
use tonic::Code;
use trust::csr::CSR_LEN_MAX;

use crate::while_a_good_client_is_served;

const KIB: usize = 1024;
const INVALID: (Code, &str) = (Code::InvalidArgument, "REQUEST_INVALID");

fn said(refused: &Refused) -> (Code, &str) {
    (refused.code, refused.reason.as_str())
}

fn padded_csr(bytes: usize) -> String {
    let csr = CsrDraft::new().pem();
    format!("{csr}{}", " ".repeat(bytes - csr.len()))
}

fn with_header(ca: &TestCa, bytes: usize) -> Attempt {
    let mut attempt = Attempt::good(ca);
    attempt.headers.push(("x-filler", "v".repeat(bytes)));
    attempt
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_a_largest_size_in_each_of_its_parts() {
    let ca = TestCa::start(CaOptions::default()).await;
    let client = TestClient::connect(&ca).await;
    while_a_good_client_is_served(&ca, async {
        for _ in 0..20 {
            let (just, over) = (padded_csr(CSR_LEN_MAX), padded_csr(CSR_LEN_MAX + 1));
            client.create(&Attempt::with_csr(&ca, just)).await.expect("a CSR of 16 KiB is taken");
            let refused = client.create(&Attempt::with_csr(&ca, over)).await.unwrap_err();
            assert_eq!(said(&refused), (Code::InvalidArgument, "CSR_TOO_LARGE"));
            for kib in [65, 256, 1_024] {
                let csr = "x".repeat(kib * KIB);
                let refused = client.create(&Attempt::with_csr(&ca, csr)).await.unwrap_err();
                assert_eq!(said(&refused), INVALID, "a request of {kib} KiB: {}", refused.text);
            }
            client.create(&with_header(&ca, 12 * KIB)).await.expect("12 KiB of metadata are taken");
            for kib in [17, 24] {
                let refused = client.create(&with_header(&ca, kib * KIB)).await.unwrap_err();
                assert_eq!(said(&refused), INVALID, "{kib} KiB of metadata");
            }
            let long = ca.tokens().sign_text(&"h".repeat(9 * KIB), &"c".repeat(4 * KIB));
            let refused = client.create(&Attempt::anonymous().token(&long)).await.unwrap_err();
            assert_eq!(said(&refused), INVALID, "a token of {} bytes", long.len());
        }
    })
    .await;
    assert_eq!(client.connections(), 1, "the connection survives all of it");
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_too_large_for_the_connection_is_refused_below_grpc() {
    let ca = TestCa::start(CaOptions::default()).await;
    let client = TestClient::connect(&ca).await;
    while_a_good_client_is_served(&ca, async {
        for kib in [40, 100] {
            let refused = client.create(&with_header(&ca, kib * KIB)).await.unwrap_err();
            // HTTP/2 refuses it below gRPC, so there is no reason; no client takes this code for "again at once".
            assert_eq!(refused.code, Code::Unknown, "{kib}: {refused:?}");
            client.create_good(&ca).await;
        }
        assert_eq!(client.connections(), 1);
        // A header without an end costs its sender the connection.
        client.create(&with_header(&ca, 500 * KIB)).await.unwrap_err();
        TestClient::connect(&ca).await.create_good(&ca).await;
    })
    .await;
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_compressed_doubled_or_no_text_are_refused() {
    let ca = TestCa::start(CaOptions::default()).await;
    let client = TestClient::connect(&ca).await;
    let message =
        |csr: String| IstioCertificateRequest { csr, validity_duration: 60, metadata: None };
    while_a_good_client_is_served(&ca, async {
        let bomb = client.create_compressed(message(" ".repeat(32 * KIB * KIB))).await;
        assert_eq!(bomb.code, Code::Unimplemented, "compressed: {}", bomb.text);
        let bytes = client.create_with_bytes(b"\xff\xfe".to_vec()).await;
        assert_eq!(said(&bytes), INVALID, "no text: {}", bytes.text);
        let two =
            client.create_with_two_messages(message(CsrDraft::new().identity(CART).pem())).await;
        assert_eq!(
            said(&two),
            (Code::Unauthenticated, "CREDENTIAL_MISSING"),
            "two messages: {}",
            two.text
        );
    })
    .await;
    client.create_good(&ca).await;
    assert_eq!(client.connections(), 1);
    ca.stop().await;
}
