//! Public keys, and the signatures they verify.
//!
//! A [`PublicKey`] that exists is of a supported kind and size, and its point lies on its curve. A [`SignatureAlgorithm`]
//! is read together with the key it is meant for, since `ecdsa-with-SHA256` alone does not name the curve.

mod algorithm;
mod curve;
mod kind;

use std::fmt;
use std::sync::Arc;

use crate::der::{Reader, oid, tag};
use crate::digest::SpkiHash;

pub use algorithm::{AlgorithmError, SignatureAlgorithm};
pub use kind::{KeyError, KeyKind};

/// Shortest RSA modulus in bits that is taken (NIST SP 800-131A).
pub const RSA_BITS_MIN: u32 = 2048;
/// Longest RSA modulus in bits that is taken; what is longer costs the verifier too much.
pub const RSA_BITS_MAX: u32 = 4096;

/// The one RSA exponent taken, 65537.
const RSA_EXPONENT: &[u8] = &[0x01, 0x00, 0x01];

/// A public key, checked and kept with its SubjectPublicKeyInfo.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    spki_der: Arc<[u8]>,
    /// Where the subjectPublicKey's octets start; they reach to the end.
    key_start: usize,
    kind: KeyKind,
}

/// Why a signature is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The key cannot make signatures of this algorithm.
    #[error("the signature algorithm does not fit the key")]
    Mismatch,
    /// The signature was not made with this key over this message.
    #[error("the signature does not verify")]
    Invalid,
}

impl PublicKey {
    /// Parses a DER SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
    ///
    /// # Errors
    /// [`KeyError`] if it is not strict DER, its kind, size or parameters are not supported, or its point is not on
    /// its curve. Sizes are judged before any arithmetic.
    pub fn parse(spki_der: &[u8]) -> Result<Self, KeyError> {
        let mut outer = Reader::new(spki_der);
        let mut spki = outer.sequence()?;
        outer.finish()?;
        let mut algorithm = spki.sequence()?;
        let name = algorithm.oid()?;
        let kind = if name == oid::EC_PUBLIC_KEY {
            curve_kind(&mut algorithm)?
        } else if name == oid::ED25519 {
            algorithm.finish().map_err(|_| KeyError::Malformed)?;
            KeyKind::Ed25519
        } else if name == oid::RSA_ENCRYPTION {
            let is_null = algorithm.value(tag::NULL).is_ok_and(<[u8]>::is_empty);
            if !is_null || !algorithm.is_empty() {
                return Err(KeyError::Malformed);
            }
            // The length is found below, together with the key.
            KeyKind::Rsa { bits: 0 }
        } else {
            return Err(KeyError::UnsupportedAlgorithm);
        };
        let key = spki.octets_of_bit_string()?;
        spki.finish()?;
        let kind = check_key(kind, key)?;
        // The bit string is the last value, so that its octets are the tail of the whole.
        Ok(Self {
            spki_der: spki_der.into(),
            key_start: spki_der.len().saturating_sub(key.len()),
            kind,
        })
    }

    /// The DER SubjectPublicKeyInfo, as it was parsed.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }

    /// The octets of the subjectPublicKey: a point, or a PKCS#1 RSAPublicKey. Key identifiers are hashes of these.
    pub fn key_octets(&self) -> &[u8] {
        self.spki_der.get(self.key_start..).unwrap_or_default()
    }

    /// The modulus of an RSA key, without leading zeros; the exponent is 65537 always.
    pub fn rsa_modulus(&self) -> Option<&[u8]> {
        if !matches!(self.kind, KeyKind::Rsa { .. }) {
            return None;
        }
        let mut outer = Reader::new(self.key_octets());
        outer.sequence().ok()?.unsigned().ok()
    }

    /// Kind and size.
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn hash(&self) -> SpkiHash {
        SpkiHash::of(&self.spki_der)
    }

    /// Verifies a signature; ECDSA signatures are a DER `SEQUENCE` of r and s.
    ///
    /// # Errors
    /// [`SignatureError::Mismatch`] if the algorithm does not fit the key, [`SignatureError::Invalid`] if the
    /// signature was not made by it over `message`.
    pub fn verify(
        &self,
        message: &[u8],
        algorithm: SignatureAlgorithm,
        signature: &[u8],
    ) -> Result<(), SignatureError> {
        if !algorithm.fits(self.kind) {
            return Err(SignatureError::Mismatch);
        }
        ring::signature::UnparsedPublicKey::new(algorithm.verification(), self.key_octets())
            .verify(message, signature)
            .map_err(|_| SignatureError::Invalid)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?}, {})", self.kind, self.hash().short())
    }
}

fn curve_kind(parameters: &mut Reader<'_>) -> Result<KeyKind, KeyError> {
    match parameters.peek_tag() {
        Some(tag::OID) => {}
        // Explicit parameters, which can hide a curve with known logarithms, or "implicit" ones.
        Some(tag::SEQUENCE | tag::NULL) => return Err(KeyError::UnsupportedCurve),
        _ => return Err(KeyError::Malformed),
    }
    let curve = parameters.oid()?;
    parameters.finish()?;
    match curve {
        oid::P256 => Ok(KeyKind::P256),
        oid::P384 => Ok(KeyKind::P384),
        _ => Err(KeyError::UnsupportedCurve),
    }
}

fn check_key(kind: KeyKind, key: &[u8]) -> Result<KeyKind, KeyError> {
    match kind {
        KeyKind::P256 => curve::check_p256(key).map(|()| kind),
        KeyKind::P384 => curve::check_p384(key).map(|()| kind),
        KeyKind::Ed25519 => curve::check_ed25519(key).map(|()| kind),
        KeyKind::Rsa { .. } => check_rsa(key).map(|bits| KeyKind::Rsa { bits }),
    }
}

/// Judges a PKCS#1 RSAPublicKey by its lengths, and returns the modulus's in bits.
fn check_rsa(key: &[u8]) -> Result<u32, KeyError> {
    let mut outer = Reader::new(key);
    let mut fields = outer.sequence()?;
    outer.finish()?;
    let modulus = fields.unsigned()?;
    let exponent = fields.unsigned()?;
    fields.finish()?;
    let unused = modulus.first().map_or(0, |first| first.leading_zeros());
    let bits =
        u32::try_from(modulus.len()).unwrap_or(u32::MAX).saturating_mul(8).saturating_sub(unused);
    if bits < RSA_BITS_MIN {
        return Err(KeyError::RsaTooShort);
    }
    if bits > RSA_BITS_MAX {
        return Err(KeyError::RsaTooLong);
    }
    if exponent != RSA_EXPONENT {
        return Err(KeyError::RsaExponent);
    }
    if modulus.last().is_none_or(|last| last & 1 == 0) {
        return Err(KeyError::Malformed);
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};

    use super::*;

    fn pair(algorithm: &'static rcgen::SignatureAlgorithm) -> (KeyPair, PublicKey) {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let key = PublicKey::parse(&pair.subject_public_key_info()).unwrap();
        (pair, key)
    }

    fn pairs() -> [(KeyKind, KeyPair, PublicKey); 3] {
        [
            (KeyKind::P256, &rcgen::PKCS_ECDSA_P256_SHA256),
            (KeyKind::P384, &rcgen::PKCS_ECDSA_P384_SHA384),
            (KeyKind::Ed25519, &rcgen::PKCS_ED25519),
        ]
        .map(|(kind, algorithm)| {
            let (pair, key) = pair(algorithm);
            (kind, pair, key)
        })
    }

    #[test]
    fn a_key_keeps_its_bytes_and_its_kind() {
        for (kind, pair, key) in pairs() {
            let spki = pair.subject_public_key_info();
            assert_eq!(key.kind(), kind);
            assert_eq!(key.spki_der(), spki);
            assert_eq!(key.key_octets(), pair.der_bytes());
            assert_eq!(key.hash(), SpkiHash::of(&spki));
            assert_eq!(PublicKey::parse(key.spki_der()), Ok(key));
        }
    }

    #[test]
    fn a_signature_verifies_with_its_key_message_and_algorithm_only() {
        for (kind, pair, key) in pairs() {
            let algorithm = SignatureAlgorithm::preferred(kind);
            let signature = pair.sign(b"message").unwrap();
            assert_eq!(key.verify(b"message", algorithm, &signature), Ok(()), "{kind}");
            assert_eq!(
                key.verify(b"massage", algorithm, &signature),
                Err(SignatureError::Invalid),
                "{kind}"
            );
            for (other_kind, _, other) in pairs() {
                let expected = if other_kind == kind {
                    SignatureError::Invalid
                } else {
                    SignatureError::Mismatch
                };
                assert_eq!(
                    other.verify(b"message", algorithm, &signature),
                    Err(expected),
                    "{kind}"
                );
            }
        }
    }

    #[test]
    fn algorithms_are_read_back_for_the_keys_they_fit() {
        let kinds = [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519, KeyKind::Rsa { bits: 2048 }];
        for kind in kinds {
            assert!(SignatureAlgorithm::preferred(kind).fits(kind));
            for algorithm in SignatureAlgorithm::ALL {
                let found = SignatureAlgorithm::from_der(algorithm.der(), kind);
                if algorithm.fits(kind) {
                    assert_eq!(found, Ok(algorithm));
                } else {
                    // The same bytes may name an algorithm of another curve.
                    assert_ne!(found, Ok(algorithm));
                }
            }
        }
    }

    #[test]
    fn fresh_points_lie_on_their_curve_and_their_neighbours_do_not() {
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384] {
            for _ in 0..50 {
                let pair = KeyPair::generate_for(algorithm).unwrap();
                let spki = pair.subject_public_key_info();
                assert!(PublicKey::parse(&spki).is_ok(), "{spki:02x?}");
                for bit in 0..8 {
                    let mut neighbour = spki.clone();
                    *neighbour.last_mut().unwrap() ^= 1 << bit;
                    assert_eq!(
                        PublicKey::parse(&neighbour),
                        Err(KeyError::NotOnCurve),
                        "{neighbour:02x?}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_flipped_bit_of_a_key_changes_or_spoils_it() {
        for (kind, _, key) in pairs() {
            for bit in 0..key.spki_der().len() * 8 {
                let mut flipped = key.spki_der().to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                // Ed25519 has no check of the point before a signature: another key is all that may come of it.
                if let Ok(other) = PublicKey::parse(&flipped) {
                    assert!(kind == KeyKind::Ed25519 && other != key, "{kind}: bit {bit}");
                }
            }
        }
    }
}
