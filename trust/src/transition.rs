//! A change of the bundle, signed by a CA that the bundle before it trusts.
//!
//! Whoever holds a bundle of the past comes to the present one by a chain of these, without asking anybody for new trust.
//! What a transition proves is that a holder of a CA identity under the older bundle said so; who has stolen the keys
//! of an old root can say so too.
//!
//! ```text
//! "banyan-transition-v1" · 0x00 · u16 length of the trust domain · trust domain
//! · u64 sequence before · 32 bytes digest before · u64 sequence after · 32 bytes digest after
//! · i64 time in seconds since the Unix epoch                                                    (integers big-endian)
//! ```

use crate::bundle::Bundle;
use crate::chain::{Chain, ChainError, PeerRole};
use crate::digest::BundleDigest;
use crate::key::SignatureAlgorithm;
use crate::sequence::Sequence;
use crate::spiffe_id::TrustDomain;
use crate::time::Timestamp;

const TAG: &[u8] = b"banyan-transition-v1\0";

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Whose bundle it is.
    pub trust_domain: TrustDomain,
    /// Sequence and digest of the bundle before the change.
    pub before: (Sequence, BundleDigest),
    /// Sequence and digest of the bundle after it.
    pub after: (Sequence, BundleDigest),
    /// When the statement was made.
    pub at: Timestamp,
}

/// A statement with its signature, not yet believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The encoded [`Statement`].
    pub statement: Vec<u8>,
    /// Signature over it: ECDSA on P-256 with SHA-256.
    pub signature: Vec<u8>,
    /// DER certificates: a CA's own leaf first, then its issuers, without the root.
    pub chain: Vec<Vec<u8>>,
}

/// Why a transition is not believed. The bundle before it stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransitionRefused {
    /// The statement cannot be read.
    #[error("the statement about the change of the bundle is malformed")]
    Malformed,
    /// It is about another trust domain or another bundle.
    #[error("the statement is about another bundle than the one that is held")]
    OtherBundle,
    /// It goes back, or nowhere.
    #[error("the statement does not lead forward")]
    NotForward,
    /// It was not signed by a CA that the bundle before it trusts.
    #[error("the chain of who signed the statement does not verify: {0}")]
    Signer(ChainError),
    /// Who signed is no CA of this trust domain.
    #[error("the statement is not signed by a CA of this trust domain")]
    NotACa,
    /// The signature is wrong.
    #[error("the signature of the statement does not verify")]
    Signature,
}

impl Statement {
    /// A statement that leads from one bundle to another of the same trust domain.
    pub fn between(before: &Bundle, after: &Bundle, at: Timestamp) -> Self {
        Self {
            trust_domain: after.trust_domain().clone(),
            before: (before.sequence(), before.digest()),
            after: (after.sequence(), after.digest()),
            at,
        }
    }

    /// The bytes to sign.
    pub fn encode(&self) -> Vec<u8> {
        let domain = self.trust_domain.as_str().as_bytes();
        let mut bytes = TAG.to_vec();
        // A trust domain has at most 255 bytes.
        bytes.extend_from_slice(&u16::try_from(domain.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend_from_slice(domain);
        for (sequence, digest) in [&self.before, &self.after] {
            bytes.extend_from_slice(&sequence.0.to_be_bytes());
            bytes.extend_from_slice(digest.as_bytes());
        }
        bytes.extend_from_slice(&self.at.as_secs().to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(TAG)?;
        let (length, rest) = rest.split_first_chunk()?;
        let (domain, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let (before, rest) = bundle(rest)?;
        let (after, rest) = bundle(rest)?;
        let at = Timestamp::from_secs(i64::from_be_bytes(rest.try_into().ok()?));
        let trust_domain = TrustDomain::parse(std::str::from_utf8(domain).ok()?).ok()?;
        Some(Self { trust_domain, before, after, at })
    }
}

fn bundle(bytes: &[u8]) -> Option<((Sequence, BundleDigest), &[u8])> {
    let (sequence, rest) = bytes.split_first_chunk()?;
    let (digest, rest) = rest.split_first_chunk::<32>()?;
    Some(((Sequence(u64::from_be_bytes(*sequence)), BundleDigest::from_bytes(digest)?), rest))
}

impl Transition {
    /// Digest of the bundle that the statement begins with; `None` if it cannot be read. Nothing is believed yet.
    pub fn begins_with(&self) -> Option<BundleDigest> {
        Statement::decode(&self.statement).map(|statement| statement.before.1)
    }

    /// Judges whether this leads from the bundle that is held to `after`.
    ///
    /// The same roots may stand under several sequences, as after a rotation that was given up: what counts is that the
    /// statement begins with the roots that are held, and never before them. Roots without sequence (a file of roots)
    /// have the sequence 0.
    ///
    /// # Errors
    /// [`TransitionRefused`]; the bundle that is held stays.
    pub fn verify(&self, held: &Bundle, after: &Bundle) -> Result<(), TransitionRefused> {
        let statement = Statement::decode(&self.statement).ok_or(TransitionRefused::Malformed)?;
        let (before_sequence, before_digest) = statement.before;
        let ours = &statement.trust_domain == held.trust_domain()
            && held.trust_domain() == after.trust_domain()
            && before_digest == held.digest()
            && before_sequence >= held.sequence()
            && statement.after == (after.sequence(), after.digest());
        if !ours {
            return Err(TransitionRefused::OtherBundle);
        }
        if statement.after.0 <= before_sequence {
            return Err(TransitionRefused::NotForward);
        }
        let chain = Chain::parse(&self.chain).map_err(TransitionRefused::Signer)?;
        chain.verify(held, statement.at, PeerRole::Server).map_err(TransitionRefused::Signer)?;
        let of_a_ca = |id: crate::SpiffeId| id.is_ca() && id.trust_domain() == held.trust_domain();
        if !chain.leaf().spiffe_id().is_ok_and(of_a_ca) {
            return Err(TransitionRefused::NotACa);
        }
        let key = crate::PublicKey::parse(chain.leaf().spki_der())
            .map_err(|_| TransitionRefused::Signature)?;
        let signed =
            key.verify(&self.statement, SignatureAlgorithm::EcdsaP256Sha256, &self.signature);
        signed.map_err(|_| TransitionRefused::Signature)
    }
}
