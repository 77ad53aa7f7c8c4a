//! Why a certificate was not built.

use thiserror::Error;
use trust::certificate::CertificateError;
use trust::{RootError, Timestamp};

use crate::error::KeyError;

/// Why a certificate or CSR could not be built.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BuildError {
    /// The key backend did not sign.
    #[error("the key backend did not sign: {0}")]
    Key(#[from] KeyError),
    /// The times cannot be written in a certificate.
    #[error(
        "the validity {not_before} to {not_after} cannot be written in a certificate; use years 1970 to 9999"
    )]
    Validity {
        /// The start asked for.
        not_before: Timestamp,
        /// The end asked for.
        not_after: Timestamp,
    },
    /// A kind of key that does not sign here.
    #[error(
        "the key of the signing certificate cannot be read; use p256, p384, ed25519 or RSA of 2048 bits or more"
    )]
    SignerKey,
    /// The root's name has parts that would be lost (repeated or multi-valued ones).
    #[error(
        "the root's subject cannot be written again without loss; an issuer under it would be a broken chain"
    )]
    SubjectLost,
    /// The encoder refused.
    #[error("the certificate cannot be encoded: {0}")]
    Encode(String),
    /// What was built does not read back as it should.
    #[error("the certificate that was built does not read back: {0}")]
    ReadBack(#[from] CertificateError),
    /// What was built is not a root.
    #[error("the root that was built does not read back: {0}")]
    ReadBackRoot(#[from] RootError),
    /// The signature does not verify: the backend signed with another key.
    #[error("the key backend's signature does not verify with its own public key")]
    Signature,
}
