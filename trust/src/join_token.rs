//! Text form of join tokens: what an operator carries from the CA to a new host.
//!
//! A token says which CA to believe (its id and the digest of its bundle) and proves the right to join (a secret).
//! Text: `bjt1.` and, in base64url without padding, one version byte (1), the length of the CA's id (two bytes, big
//! endian), the id, the bundle digest (32 bytes) and the secret (32 bytes). Nothing may follow.
//!
//! The CA stores [`JoinSecret::hash`] and never the secret. Whether a token is known, unused and in time is decided by
//! the CA; here is only its form.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::digest::{BundleDigest, sha256};
use crate::randomness::{Randomness, random_bytes};
use crate::spiffe_id::{SPIFFE_ID_LEN_MAX, SpiffeId};

/// How every token begins.
pub const JOIN_TOKEN_PREFIX: &str = "bjt1.";

/// Longest text of a token in bytes: that of the longest SPIFFE id (2048 bytes), 2825 bytes of base64 in all.
pub const JOIN_TOKEN_LEN_MAX: usize =
    JOIN_TOKEN_PREFIX.len() + (FIXED_LEN + SPIFFE_ID_LEN_MAX).div_ceil(3) * 4;

const VERSION: u8 = 1;
const FIXED_LEN: usize = 1 + 2 + 32 + 32;

/// The secret of a join token. It is printed by no `Debug`, copied by no `Clone` and wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct JoinSecret([u8; 32]);

impl JoinSecret {
    /// Draws a new secret.
    pub fn random(randomness: &dyn Randomness) -> Self {
        Self(random_bytes(randomness))
    }

    /// SHA-256 of the secret: what the CA stores and looks up. The secret has 256 random bits, so no salt is needed.
    pub fn hash(&self) -> [u8; 32] {
        sha256(&self.0)
    }
}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecret(redacted)")
    }
}

/// A join token in parts.
#[derive(Debug)]
pub struct JoinToken {
    ca_id: SpiffeId,
    bundle_digest: BundleDigest,
    secret: JoinSecret,
}

/// Text that is not a join token. The texts say nothing of the token's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenError {
    /// It does not begin with `bjt1.`.
    #[error("a join token begins with `{JOIN_TOKEN_PREFIX}`")]
    Prefix,
    /// It is longer than [`JOIN_TOKEN_LEN_MAX`], or its parts do not fill it exactly.
    #[error("the join token is cut off or has bytes too many: copy the whole line")]
    Length,
    /// It is not base64url without padding.
    #[error("the join token is not base64url: copy the whole line")]
    Encoding,
    /// It was made by another generation of Banyan.
    #[error("join token of an unknown version: use a `banyan` of the CA's version")]
    Version,
    /// The id in it is not that of a CA (`spiffe://<trust domain>/banyan/ca/<replica>`).
    #[error("the join token does not name a CA: make a new one with `banyan token create`")]
    CaId,
}

impl JoinToken {
    /// Puts a token together.
    ///
    /// # Errors
    /// [`JoinTokenError::CaId`] if the id is not that of a CA.
    pub fn new(
        ca_id: SpiffeId,
        bundle_digest: BundleDigest,
        secret: JoinSecret,
    ) -> Result<Self, JoinTokenError> {
        if !ca_id.is_ca() {
            return Err(JoinTokenError::CaId);
        }
        Ok(Self { ca_id, bundle_digest, secret })
    }

    /// Reads the text form; it must be the whole text, without white space.
    ///
    /// # Errors
    /// Says which part of the form is broken; nothing is repaired.
    pub fn decode(text: &str) -> Result<Self, JoinTokenError> {
        let body = text.strip_prefix(JOIN_TOKEN_PREFIX).ok_or(JoinTokenError::Prefix)?;
        if text.len() > JOIN_TOKEN_LEN_MAX {
            return Err(JoinTokenError::Length);
        }
        let bytes =
            Zeroizing::new(URL_SAFE_NO_PAD.decode(body).map_err(|_| JoinTokenError::Encoding)?);
        let (version, rest) = bytes.split_first().ok_or(JoinTokenError::Length)?;
        if *version != VERSION {
            return Err(JoinTokenError::Version);
        }
        let (length, rest) = rest.split_first_chunk::<2>().ok_or(JoinTokenError::Length)?;
        let (ca_id, rest) = rest
            .split_at_checked(u16::from_be_bytes(*length).into())
            .ok_or(JoinTokenError::Length)?;
        let (digest, secret) = rest.split_first_chunk::<32>().ok_or(JoinTokenError::Length)?;
        let secret = JoinSecret(secret.try_into().map_err(|_| JoinTokenError::Length)?);
        let ca_id = std::str::from_utf8(ca_id).map_err(|_| JoinTokenError::CaId)?;
        let ca_id = SpiffeId::parse(ca_id).map_err(|_| JoinTokenError::CaId)?;
        let bundle_digest = BundleDigest::from_bytes(digest).ok_or(JoinTokenError::Length)?;
        Self::new(ca_id, bundle_digest, secret)
    }

    /// The text form, secret included: show it once, to the operator who asked for it, and never log it.
    pub fn encode(&self) -> Zeroizing<String> {
        let id = self.ca_id.as_str().as_bytes();
        let mut bytes = Zeroizing::new(Vec::with_capacity(FIXED_LEN + id.len()));
        bytes.push(VERSION);
        // A SPIFFE id has at most 2048 bytes.
        bytes.extend_from_slice(&u16::try_from(id.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend_from_slice(id);
        bytes.extend_from_slice(self.bundle_digest.as_bytes());
        bytes.extend_from_slice(&self.secret.0);
        let body = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()));
        Zeroizing::new(format!("{JOIN_TOKEN_PREFIX}{}", body.as_str()))
    }

    /// The CA that made the token.
    pub fn ca_id(&self) -> &SpiffeId {
        &self.ca_id
    }

    /// Digest of the bundle that was in force when the token was made.
    pub fn bundle_digest(&self) -> BundleDigest {
        self.bundle_digest
    }

    /// What proves the right to join.
    pub fn secret(&self) -> &JoinSecret {
        &self.secret
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::SeededRandomness;

    fn token() -> JoinToken {
        let ca = SpiffeId::parse("spiffe://example.org/banyan/ca/ca-1").unwrap();
        let secret = JoinSecret::random(&SeededRandomness::new(1));
        JoinToken::new(ca, BundleDigest::of(b"bundle"), secret).unwrap()
    }

    fn encoded(bytes: &[u8]) -> String {
        format!("{JOIN_TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    #[test]
    fn text_form_round_trips() {
        let made = token();
        let read = JoinToken::decode(&made.encode()).unwrap();
        assert_eq!(read.ca_id(), made.ca_id());
        assert_eq!(read.bundle_digest(), made.bundle_digest());
        assert_eq!(read.secret().hash(), made.secret().hash());
    }

    #[test]
    fn every_truncation_and_every_extension_is_refused() {
        let text = token().encode();
        for end in 0..text.len() {
            assert!(JoinToken::decode(&text[..end]).is_err(), "{end}");
        }
        for tail in ["A", "AA", "AAAA", "=", " ", "\n"] {
            assert!(JoinToken::decode(&format!("{}{tail}", text.as_str())).is_err(), "{tail:?}");
        }
    }

    #[test]
    fn broken_parts_are_named() {
        let good = URL_SAFE_NO_PAD
            .decode(token().encode().strip_prefix(JOIN_TOKEN_PREFIX).unwrap())
            .unwrap();
        let mut version = good.clone();
        version[0] = 2;
        let mut id = good.clone();
        id[3] = 0xff;
        let mut other_length = good;
        other_length[2] += 1;
        let long = format!("{JOIN_TOKEN_PREFIX}{}", "A".repeat(JOIN_TOKEN_LEN_MAX));
        for (text, error) in [
            ("bjt2.AAAA".to_owned(), JoinTokenError::Prefix),
            (long, JoinTokenError::Length),
            ("bjt1.*".to_owned(), JoinTokenError::Encoding),
            (encoded(&version), JoinTokenError::Version),
            (encoded(&id), JoinTokenError::CaId),
            (encoded(&other_length), JoinTokenError::Length),
            (encoded(&[]), JoinTokenError::Length),
            (encoded(&[1, 0xff, 0xff]), JoinTokenError::Length),
        ] {
            assert_eq!(JoinToken::decode(&text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn only_a_ca_can_be_named() {
        let workload = SpiffeId::parse("spiffe://example.org/ns/a/sa/b").unwrap();
        let secret = JoinSecret::random(&SeededRandomness::new(1));
        let made = JoinToken::new(workload, BundleDigest::of(b"bundle"), secret);
        assert_eq!(made.unwrap_err(), JoinTokenError::CaId);
    }

    #[test]
    fn debug_shows_no_secret() {
        let token = token();
        let shown = format!("{token:?}");
        assert!(shown.contains("redacted"));
        let listed = format!("{:?}", token.secret.0);
        assert!(!shown.contains(listed.trim_matches(['[', ']'])));
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_what_is_read_is_written_alike(body in "[A-Za-z0-9_-]{0,200}") {
            let text = format!("{JOIN_TOKEN_PREFIX}{body}");
            if let Ok(token) = JoinToken::decode(&text) {
                let written = token.encode();
                prop_assert_eq!(written.as_str(), text);
            }
        }
    }
}
