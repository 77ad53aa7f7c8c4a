//! CSRs from trusted and untrusted clients: which are taken, and why each of the others is refused.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's helpers may panic as the test itself may"
)]

mod accepted;
mod draft;
mod mutations;
mod refused;
mod refused_encoding;
mod refused_keys;

use trust::csr::{CsrError, ParsedCsr, VerifiedCsr};

/// A CSR of `tests/fixtures`.
macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../fixtures/", $name, ".pem")).as_slice()
    };
}
pub(crate) use fixture;

fn accept_pem(pem: &[u8]) -> Result<VerifiedCsr, CsrError> {
    ParsedCsr::from_pem(pem)?.verify()
}

fn accept_der(der: &[u8]) -> Result<VerifiedCsr, CsrError> {
    ParsedCsr::from_der(der)?.verify()
}

/// Demands that every case is refused with its reason, by a text that is short, printable and one line.
fn assert_refused(
    cases: &[(&str, Vec<u8>, &str)],
    accept: fn(&[u8]) -> Result<VerifiedCsr, CsrError>,
) {
    for (heading, csr, reason) in cases {
        match accept(csr) {
            Ok(_) => panic!("{heading}: taken, expected {reason}"),
            Err(refusal) => {
                assert_eq!(refusal.reason(), *reason, "{heading}: {refusal}");
                assert!(CsrError::REASONS.contains(&refusal.reason()), "{heading}");
                let text = refusal.to_string();
                assert!(
                    text.len() <= 256 && !text.chars().any(char::is_control),
                    "{heading}: {text}"
                );
            }
        }
    }
}
