//! What the caller re-checks of every answer: a plugin may be down, never wrong.
//!
//! Whoever calls a plugin sends its answers through here before it believes them, stores them or signs with them.
//! The results, [`CheckedRoots`] and [`CheckedIssuer`], have no other constructor. Each wrong answer has a variant of
//! its own in [`Unsafe`], and each variant a test with such an answer.

mod certificate;
mod cross;
mod fault;
mod further;
mod issuer;
mod key_proof;
mod roots;
mod size;

pub use cross::{CrossExpectation, check_cross_answer};
pub use fault::{Fault, Unsafe, Which};
pub use further::{FURTHER_MAX, FurtherExpectation, FurtherFault, check_further};
pub use issuer::{CheckedIssuer, IssuerExpectation, check_issuer_answer};
pub use key_proof::{KeyProofError, prove_key};
pub use roots::{CheckedRoots, RootsExpectation, check_roots};
pub use size::MAX_ANSWER_LEN;

#[cfg(test)]
mod cross_tests;
#[cfg(test)]
mod forge;
#[cfg(test)]
mod further_tests;
#[cfg(test)]
mod issuer_tests;
#[cfg(test)]
mod roots_tests;

/// Checks one CA certificate by itself, as [`check_issuer_answer`] and [`check_roots`] check those of an answer:
/// whoever holds certificates of its own tells what is wrong with them by it, before anything is asked of them.
///
/// # Errors
/// The first [`Fault`], its validity and its place in a chain apart.
pub fn check_ca_certificate(
    certificate: &trust::Certificate,
    trust_domain: &trust::TrustDomain,
    path_len: u32,
) -> Result<(), Fault> {
    certificate::check_ca(certificate, &certificate::Need { trust_domain, path_len })
}

/// Whether a certificate was signed by the key of another one, whose subject it names as its issuer.
pub fn is_signed_by(certificate: &trust::Certificate, signer: &trust::Certificate) -> bool {
    certificate.issuer_der() == signer.subject_der()
        && certificate::signature_verifies(certificate, signer)
}
