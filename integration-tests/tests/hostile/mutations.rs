//! Family "CSR encoding": every truncation and bit flips of a good CSR. They are many, so what they leave behind is
//! looked at once.

use std::time::Duration;

use integration_tests::untrusted::csr::{CsrDraft, pem};
use integration_tests::untrusted::istio::Attempt;
use integration_tests::untrusted::{CaOptions, TestCa, TestClient};
use tonic::Code;
use trust::csr::CsrError;

/// Requests between two looks of the audit at its clock; it writes 100 refusals in a second one by one.
const BATCH: usize = 50;
/// Every how many bits one is flipped; prime, so that every bit of an octet has its turn.
const FLIP_EVERY: usize = 5;

async fn all_are_refused(texts: Vec<String>) {
    let ca = TestCa::start(CaOptions::default()).await;
    let client = TestClient::connect(&ca).await;
    client.create_good(&ca).await;
    let (before, sent) = (ca.settled_books().await, texts.len());
    for (at, text) in texts.into_iter().enumerate() {
        if at % BATCH == 0 {
            ca.clock().advance(Duration::from_secs(1));
        }
        let refused = client.create(&Attempt::with_csr(&ca, text)).await.unwrap_err();
        assert_eq!(refused.code, Code::InvalidArgument, "{at}: {refused:?}");
        assert!(CsrError::REASONS.contains(&refused.reason.as_str()), "{at}: {refused:?}");
    }
    let after = ca.books_with_refusals(before.refused.len() + sent).await;
    assert_eq!(after.refused.len(), before.refused.len() + sent, "one audit record each");
    assert_eq!((after.intents, after.issued), (before.intents, before.issued), "nothing is signed");
    client.create_good(&ca).await;
    assert_eq!(client.connections(), 1);
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_truncation_of_a_good_csr_is_refused() {
    let good = CsrDraft::new().der();
    let text = pem(&good);
    let text = text.trim_end();
    let der = (0..good.len()).map(|length| pem(&good[..length]));
    all_are_refused(der.chain((0..text.len()).map(|length| text[..length].to_owned())).collect())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_bits_of_a_good_csr_are_refused() {
    let good = CsrDraft::new().der();
    let flipped = |bit: usize| {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        pem(&bytes)
    };
    all_are_refused((0..good.len() * 8).step_by(FLIP_EVERY).map(flipped).collect()).await;
}
