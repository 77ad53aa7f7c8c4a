//! Kinds of keys, and why a key is none of them.

use std::fmt;

use crate::der::DerError;

/// Kind and size of a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum KeyKind {
    /// ECDSA on NIST P-256 (secp256r1).
    P256,
    /// ECDSA on NIST P-384 (secp384r1).
    P384,
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// RSA with exponent 65537.
    Rsa {
        /// Length of the modulus, 2048..=4096.
        bits: u32,
    },
}

/// Why a SubjectPublicKeyInfo is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It is not DER.
    #[error("the public key is not valid DER: {0}")]
    Encoding(#[from] DerError),
    /// The parameters or the key's octets do not have the shape that its algorithm demands.
    #[error(
        "the public key does not have the shape of its algorithm; elliptic curve points are uncompressed"
    )]
    Malformed,
    /// The algorithm is none of ECDSA, Ed25519 and RSA.
    #[error("the key's algorithm is not supported; use ECDSA on P-256 or P-384, Ed25519, or RSA")]
    UnsupportedAlgorithm,
    /// The curve is not P-256 or P-384 by name; curves by explicit parameters are never taken.
    #[error("the key's curve is not supported; use P-256 or P-384, by name")]
    UnsupportedCurve,
    /// The point does not lie on its curve.
    #[error("the key's point does not lie on its curve")]
    NotOnCurve,
    /// The Ed25519 point has a small order, so that anyone can sign for it.
    #[error("the key's point has a small order; generate a new key")]
    SmallOrder,
    /// The RSA modulus is shorter than 2048 bits.
    #[error("the RSA key has fewer than 2048 bits")]
    RsaTooShort,
    /// The RSA modulus is longer than 4096 bits.
    #[error("the RSA key has more than 4096 bits")]
    RsaTooLong,
    /// The RSA exponent is not 65537.
    #[error("the RSA key's exponent is not 65537")]
    RsaExponent,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::P256 => f.write_str("P-256"),
            Self::P384 => f.write_str("P-384"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Rsa { bits } => write!(f, "RSA-{bits}"),
        }
    }
}
