//! Private keys in this process, made and used by ring.
//!
//! The one place where Banyan makes and uses raw private keys; backends that keep keys elsewhere need none of it.
//!
//! Randomness is not injected here: ring's `SecureRandom` is a sealed trait, so key generation and the nonces of
//! ECDSA come from the operating system through `ring::rand::SystemRandom` and cannot be made reproducible. Nor can
//! the copies be wiped that ring itself makes: its key types and its PKCS#8 documents have no zeroising drop. What
//! this module hands out is wiped.

use std::fmt;

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
};
use thiserror::Error;
use trust::{PublicKey, SignatureAlgorithm};
use zeroize::Zeroizing;

use crate::error::KeyError;
use crate::keys::KeySpec;

/// A private key that can sign. Its `Debug` shows the public half only; it cannot be copied.
pub struct RingKey {
    pair: Pair,
    spec: KeySpec,
    public: PublicKey,
    random: SystemRandom,
}

/// PKCS#8 of a private key, wiped when dropped.
pub type Pkcs8 = Zeroizing<Vec<u8>>;

/// Why bytes are no usable key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RingKeyError {
    /// The operating system gave no randomness, or ring refused to make a key.
    #[error(
        "could not make a {spec} key: the operating system gave no randomness; look at its logs"
    )]
    Generate {
        /// The spec asked for.
        spec: KeySpec,
    },
    /// The bytes are not PKCS#8 of such a key, or its halves do not match.
    #[error("these bytes are not a private {spec} key: {detail}")]
    NotAKey {
        /// The spec asked for.
        spec: KeySpec,
        /// What is wrong, without any of the bytes.
        detail: String,
    },
}

impl RingKey {
    /// Makes a key, and its PKCS#8 form for storage.
    ///
    /// # Errors
    /// [`RingKeyError::Generate`] without randomness.
    pub fn generate(spec: KeySpec) -> Result<(Self, Pkcs8), RingKeyError> {
        let random = system_random();
        let generate = RingKeyError::Generate { spec };
        let document = match spec {
            KeySpec::P256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random),
            KeySpec::P384 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, &random),
            KeySpec::Ed25519 => Ed25519KeyPair::generate_pkcs8(&random),
        };
        let pkcs8 = Zeroizing::new(document.map_err(|_| generate)?.as_ref().to_vec());
        Ok((Self::from_pkcs8(spec, &pkcs8)?, pkcs8))
    }

    /// Reads a key that [`generate`](Self::generate) made.
    ///
    /// # Errors
    /// [`RingKeyError::NotAKey`] for anything else.
    pub fn from_pkcs8(spec: KeySpec, pkcs8: &[u8]) -> Result<Self, RingKeyError> {
        let random = system_random();
        let not_a_key =
            |detail: &dyn fmt::Display| RingKeyError::NotAKey { spec, detail: detail.to_string() };
        let ecdsa = |algorithm: &'static EcdsaSigningAlgorithm| {
            EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &random)
                .map(Pair::Ecdsa)
                .map_err(|e| not_a_key(&e))
        };
        let pair = match spec {
            KeySpec::P256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING)?,
            KeySpec::P384 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING)?,
            KeySpec::Ed25519 => {
                Pair::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|e| not_a_key(&e))?)
            }
        };
        let public =
            PublicKey::parse(&spki(spec, pair.public_bytes())).map_err(|e| not_a_key(&e))?;
        Ok(Self { pair, spec, public, random })
    }

    /// What kind of key it is.
    pub fn spec(&self) -> KeySpec {
        self.spec
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a message; straight arithmetic, about 19 us for P-256.
    ///
    /// # Errors
    /// [`KeyError::Unsupported`] when the algorithm does not fit the key; [`KeyError::Permanent`] when the operating
    /// system gives no randomness.
    pub fn sign(&self, message: &[u8], algorithm: SignatureAlgorithm) -> Result<Vec<u8>, KeyError> {
        if algorithm != self.spec.algorithm() {
            return Err(KeyError::Unsupported {
                detail: format!(
                    "a {} key does not sign with {algorithm:?}; ask for {:?}",
                    self.spec,
                    self.spec.algorithm()
                ),
            });
        }
        match &self.pair {
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Ecdsa(pair) => {
                let no_random = |_| KeyError::Permanent {
                    detail:
                        "the operating system gave no randomness for a signature; look at its logs"
                            .to_owned(),
                };
                Ok(pair.sign(&self.random, message).map_err(no_random)?.as_ref().to_vec())
            }
        }
    }
}

impl fmt::Debug for RingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingKey").field("public", &self.public).finish_non_exhaustive()
    }
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Pair {
    fn public_bytes(&self) -> &[u8] {
        match self {
            Self::Ecdsa(pair) => pair.public_key().as_ref(),
            Self::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "ring's SecureRandom is sealed: no other source can be injected"
)]
fn system_random() -> SystemRandom {
    SystemRandom::new()
}

/// SubjectPublicKeyInfo (RFC 5480 section 2, RFC 8410 section 4): a fixed head for each kind, then the key's bytes.
pub fn spki(spec: KeySpec, public: &[u8]) -> Vec<u8> {
    const P256: &[u8] = &[
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    const P384: &[u8] = &[
        0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05,
        0x2b, 0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
    ];
    const ED25519: &[u8] =
        &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let head = match spec {
        KeySpec::P256 => P256,
        KeySpec::P384 => P384,
        KeySpec::Ed25519 => ED25519,
    };
    [head, public].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_key_signs_what_its_public_half_verifies() {
        for spec in KeySpec::ALL {
            let (key, pkcs8) = RingKey::generate(spec).expect("a key");
            let again = RingKey::from_pkcs8(spec, &pkcs8).expect("the same key");
            assert_eq!(again.public(), key.public());
            let signature = again.sign(b"message", spec.algorithm()).expect("signs");
            assert!(key.public().verify(b"message", spec.algorithm(), &signature).is_ok());
            assert!(key.public().verify(b"massage", spec.algorithm(), &signature).is_err());
        }
    }

    #[test]
    fn a_key_refuses_the_algorithm_of_another_kind() {
        let (key, _) = RingKey::generate(KeySpec::P256).expect("a key");
        let refused = key.sign(b"message", SignatureAlgorithm::EcdsaP384Sha384);
        assert!(matches!(refused, Err(KeyError::Unsupported { .. })));
    }

    #[test]
    fn debug_shows_no_private_byte() {
        let (key, pkcs8) = RingKey::generate(KeySpec::Ed25519).expect("a key");
        let seed: Vec<_> = pkcs8.iter().skip(16).take(4).map(|byte| format!("{byte}")).collect();
        let shown = format!("{key:?}");
        assert!(!shown.contains(&seed.join(", ")), "{shown}");
        assert!(shown.ends_with(".. }"), "{shown}");
    }

    #[test]
    fn bytes_of_another_kind_are_refused() {
        let (_, pkcs8) = RingKey::generate(KeySpec::Ed25519).expect("a key");
        assert!(matches!(
            RingKey::from_pkcs8(KeySpec::P256, &pkcs8),
            Err(RingKeyError::NotAKey { .. })
        ));
    }
}
