//! A CA and the untrusted clients that call it: real TLS and gRPC, forgeries of everything that can be sent, and what a request
//! left behind.
//!
//! | module | what |
//! |---|---|
//! | [`ca`] | a CA on a temporary directory, which can be stopped and started again |
//! | [`client`] | TLS and gRPC clients with any certificate, and what refusals say |
//! | [`istio`] | calls of Istio's CSR service, every part of which a test may spoil |
//! | [`raw`] | requests that no generated client would send |
//! | [`join`] | join tokens and agents |
//! | [`csr`], [`certificate`] | forgeries of CSRs and of client certificates |
//! | [`traces`] | rows, audit records and counters |
//!
//! Whether the CA is right is for the tests to say. Start at [`ca::TestCa::start`].
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a harness may panic as the test that uses it may"
)]

pub mod ca;
pub mod certificate;
pub mod client;
pub mod csr;
pub mod istio;
pub mod join;
pub mod raw;
pub mod traces;

pub use ca::{CaOptions, TestCa};
pub use client::{Credential, Refused, TestClient};

pub use crate::support::{SOON, TRUST_DOMAIN, TestClock};

/// The workload that good requests are for.
pub const CART: &str = "spiffe://example.org/ns/shop/sa/cart";

/// Waits until a condition holds.
///
/// # Panics
/// When it does not within [`SOON`].
pub async fn eventually<F: Future<Output = bool>>(what: &str, holds: impl FnMut() -> F) {
    crate::support::eventually(what, holds).await.unwrap();
}
