//! What attackers send, heading by heading, over real TLS and gRPC to a real CA.
//!
//! Each family uses one connection. Every refusal has its code and its stable reason; nothing is signed; the audit has
//! one record of it and the metrics one count; the text repeats little and nothing secret; and the same connection
//! serves the next good request.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy takes helpers of tests for product code"
)]

mod csr_content;
mod csr_encoding;
mod csr_key;
mod csr_names;
mod csr_signature;
mod judge;
mod mtls_renewal;
mod mutations;
mod request;
mod returning;
mod token;

use integration_tests::untrusted::{CaOptions, TestCa, TestClient};
use judge::{Case, judge};

/// A CSR of another program, as `trust` keeps them: `trust/tests/fixtures/README.md` says how they were made.
macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../trust/tests/fixtures/",
            $name,
            ".pem"
        ))
    };
}
pub(crate) use fixture;

/// Judges a family of CSRs that a good caller sends on one connection.
async fn judge_family(cases: impl AsyncFnOnce(&TestCa) -> Vec<Case>) {
    let ca = TestCa::start(CaOptions::default()).await;
    let client = TestClient::connect(&ca).await;
    let cases = cases(&ca).await;
    judge(&ca, &client, cases).await;
    ca.stop().await;
}
