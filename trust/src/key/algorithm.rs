//! Signature algorithms: their AlgorithmIdentifiers, and which key can use them.

use ring::signature as ring_signature;

use super::kind::KeyKind;
use crate::der::{DerError, Reader, oid};

/// A signature algorithm, with the curve where there is one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SignatureAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    EcdsaP256Sha256,
    /// ECDSA on P-256 with SHA-384.
    EcdsaP256Sha384,
    /// ECDSA on P-384 with SHA-256.
    EcdsaP384Sha256,
    /// ECDSA on P-384 with SHA-384.
    EcdsaP384Sha384,
    /// Ed25519.
    Ed25519,
    /// RSA PKCS#1 v1.5 with SHA-256.
    RsaPkcs1Sha256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    RsaPkcs1Sha384,
    /// RSA PKCS#1 v1.5 with SHA-512.
    RsaPkcs1Sha512,
}

/// Why an AlgorithmIdentifier is not taken for a signature by a certain key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AlgorithmError {
    /// It is not DER.
    #[error("the signature algorithm is not valid DER: {0}")]
    Encoding(#[from] DerError),
    /// It hashes with MD5 or SHA-1.
    #[error("the signature uses MD5 or SHA-1; use SHA-256, SHA-384 or SHA-512")]
    Weak,
    /// It is supported for another kind of key.
    #[error("the signature algorithm does not fit the key")]
    Mismatch,
    /// It is unknown, or has parameters that it must not have.
    #[error("the signature algorithm or its parameters are not supported")]
    Unsupported,
}

/// AlgorithmIdentifiers as whole DER values: ECDSA and Ed25519 without parameters (RFC 5758 §3.2, RFC 8410 §3), RSA
/// with NULL (RFC 4055 §5).
const ECDSA_SHA256_DER: &[u8] =
    &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const ECDSA_SHA384_DER: &[u8] =
    &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
const ED25519_DER: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];
const RSA_SHA256_DER: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00];
const RSA_SHA384_DER: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c, 0x05, 0x00];
const RSA_SHA512_DER: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d, 0x05, 0x00];

/// Algorithms refused because their hash is broken.
const WEAK: [&[u8]; 3] = [oid::ECDSA_SHA1, oid::RSA_MD5, oid::RSA_SHA1];

impl SignatureAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 8] = [
        Self::EcdsaP256Sha256,
        Self::EcdsaP256Sha384,
        Self::EcdsaP384Sha256,
        Self::EcdsaP384Sha384,
        Self::Ed25519,
        Self::RsaPkcs1Sha256,
        Self::RsaPkcs1Sha384,
        Self::RsaPkcs1Sha512,
    ];

    /// The algorithm a key of this kind signs with unless told otherwise.
    pub const fn preferred(kind: KeyKind) -> Self {
        match kind {
            KeyKind::P256 => Self::EcdsaP256Sha256,
            KeyKind::P384 => Self::EcdsaP384Sha384,
            KeyKind::Ed25519 => Self::Ed25519,
            KeyKind::Rsa { .. } => Self::RsaPkcs1Sha256,
        }
    }

    /// The AlgorithmIdentifier as a whole DER value.
    pub const fn der(self) -> &'static [u8] {
        match self {
            Self::EcdsaP256Sha256 | Self::EcdsaP384Sha256 => ECDSA_SHA256_DER,
            Self::EcdsaP256Sha384 | Self::EcdsaP384Sha384 => ECDSA_SHA384_DER,
            Self::Ed25519 => ED25519_DER,
            Self::RsaPkcs1Sha256 => RSA_SHA256_DER,
            Self::RsaPkcs1Sha384 => RSA_SHA384_DER,
            Self::RsaPkcs1Sha512 => RSA_SHA512_DER,
        }
    }

    /// Reads a whole AlgorithmIdentifier as that of a signature by a key of `kind`.
    ///
    /// # Errors
    /// [`AlgorithmError`] unless it is exactly the DER of an algorithm that fits the key.
    pub fn from_der(der: &[u8], kind: KeyKind) -> Result<Self, AlgorithmError> {
        let same = |algorithm: &Self| algorithm.der() == der;
        if let Some(found) =
            Self::ALL.into_iter().find(|algorithm| algorithm.fits(kind) && same(algorithm))
        {
            return Ok(found);
        }
        if Self::ALL.iter().any(same) {
            return Err(AlgorithmError::Mismatch);
        }
        let name = Reader::new(der).sequence()?.oid()?;
        Err(if WEAK.contains(&name) { AlgorithmError::Weak } else { AlgorithmError::Unsupported })
    }

    /// Whether a key of `kind` can make such signatures.
    pub const fn fits(self, kind: KeyKind) -> bool {
        match self {
            Self::EcdsaP256Sha256 | Self::EcdsaP256Sha384 => matches!(kind, KeyKind::P256),
            Self::EcdsaP384Sha256 | Self::EcdsaP384Sha384 => matches!(kind, KeyKind::P384),
            Self::Ed25519 => matches!(kind, KeyKind::Ed25519),
            Self::RsaPkcs1Sha256 | Self::RsaPkcs1Sha384 | Self::RsaPkcs1Sha512 => {
                matches!(kind, KeyKind::Rsa { .. })
            }
        }
    }

    pub(super) fn verification(self) -> &'static dyn ring_signature::VerificationAlgorithm {
        match self {
            Self::EcdsaP256Sha256 => &ring_signature::ECDSA_P256_SHA256_ASN1,
            Self::EcdsaP256Sha384 => &ring_signature::ECDSA_P256_SHA384_ASN1,
            Self::EcdsaP384Sha256 => &ring_signature::ECDSA_P384_SHA256_ASN1,
            Self::EcdsaP384Sha384 => &ring_signature::ECDSA_P384_SHA384_ASN1,
            Self::Ed25519 => &ring_signature::ED25519,
            Self::RsaPkcs1Sha256 => &ring_signature::RSA_PKCS1_2048_8192_SHA256,
            Self::RsaPkcs1Sha384 => &ring_signature::RSA_PKCS1_2048_8192_SHA384,
            Self::RsaPkcs1Sha512 => &ring_signature::RSA_PKCS1_2048_8192_SHA512,
        }
    }
}
