//! The signature: consumes a preparation and the proof that its row is durable, and verifies what came out.

use ledger::DurableIntent;
use plugins::KeyError;
use trust::der::{DerError, Reader, tag};
use trust::{Certificate, Chain, ChainError, PeerRole, Timestamp};

use crate::leaf::IssuedLeaf;
use crate::prepare::Prepared;
use crate::snapshot::Snapshot;
use crate::template;

/// Why a signature was not made, or not released.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The intent is for another row. A defect of this program.
    #[error("the durable intent is for another leaf; nothing was signed, report this as a defect")]
    IntentMismatch,
    /// The key backend did not sign.
    #[error("the key backend did not sign: {0}")]
    Key(#[from] KeyError),
    /// The signature that the backend gave does not verify with the issuer's public key.
    #[error(
        "the key backend gave a signature that does not verify; the leaf was dropped, check the key backend"
    )]
    OwnSignature,
    /// A TLS verifier refuses the leaf with the bundle that would go with it.
    #[error("a peer would refuse the leaf: {0}; it was dropped, check the issuer's chain")]
    Peer(#[from] ChainError),
}

impl SignError {
    /// Why the row was abandoned, for the ledger: from a closed set.
    const fn reason(&self) -> &'static str {
        match self {
            Self::IntentMismatch => "intent_mismatch",
            Self::Key(_) => "key_backend_failed",
            Self::OwnSignature => "own_signature_invalid",
            Self::Peer(_) => "refused_as_peer",
        }
    }
}

/// Signs, and gives the leaf out only after it verified: its signature with the issuer's public key, always; the whole
/// chain with a TLS verifier, for the first leaf of each snapshot.
///
/// The rest of the chain is the same for every leaf of a snapshot: the signer verified it up to the root, the lint
/// compared the leaf's issuer name and authority key id with it, and the profile kept the leaf's life inside its own.
///
/// The intent is spent when the leaf is good. In every other case, a dropped future included, it is abandoned, and its
/// row holds no gate.
///
/// # Errors
/// [`SignError`]; no leaf exists outside this function then.
pub async fn sign(
    prepared: Prepared,
    intent: DurableIntent,
    now: Timestamp,
) -> Result<IssuedLeaf, SignError> {
    match signed_and_verified(prepared, &intent, now).await {
        Ok(leaf) => {
            let _spent = intent.spend();
            Ok(leaf)
        }
        Err(error) => {
            intent.abandon(error.reason());
            Err(error)
        }
    }
}

async fn signed_and_verified(
    prepared: Prepared,
    intent: &DurableIntent,
    now: Timestamp,
) -> Result<IssuedLeaf, SignError> {
    let Prepared { tbs, row, lifetime, snapshot } = prepared;
    if *intent.row() != row {
        return Err(SignError::IntentMismatch);
    }
    let signer = snapshot.signer();
    let signature = signer.sign(&tbs).await?;
    let der = template::certificate(&tbs, signer.algorithm(), &signature);
    verify_own(&der, &tbs, &snapshot)?;
    if !snapshot.is_peer_verified() {
        verify_as_peer(&der, &snapshot, now)?;
        snapshot.set_peer_verified();
    }
    Ok(IssuedLeaf::new(der, row.serial, lifetime, snapshot))
}

/// Reads the finished certificate back and verifies its signature over the bytes that were linted.
fn verify_own(der: &[u8], linted: &[u8], snapshot: &Snapshot) -> Result<(), SignError> {
    let signer = snapshot.signer();
    let signature = signature_of(der, linted, signer.algorithm().der()).ok().flatten();
    signature
        .and_then(|signature| {
            signer.public_key().verify(linted, signer.algorithm(), signature).ok()
        })
        .ok_or(SignError::OwnSignature)
}

fn signature_of<'d>(
    der: &'d [u8],
    linted: &[u8],
    algorithm: &[u8],
) -> Result<Option<&'d [u8]>, DerError> {
    let mut outside = Reader::new(der);
    let mut certificate = outside.sequence()?;
    outside.finish()?;
    let same = certificate.element()?.raw == linted && certificate.element()?.raw == algorithm;
    let signature = match certificate.peek_tag() {
        Some(tag::BIT_STRING) => certificate.octets_of_bit_string()?,
        _ => return Ok(None),
    };
    certificate.finish()?;
    Ok(same.then_some(signature))
}

fn verify_as_peer(der: &[u8], snapshot: &Snapshot, now: Timestamp) -> Result<(), SignError> {
    let leaf =
        Certificate::parse(der).map_err(|source| ChainError::Certificate { index: 0, source })?;
    let mut certificates = vec![leaf];
    certificates.extend(snapshot.intermediates().cloned());
    let chain = Chain::from_certificates(certificates)?;
    for role in [PeerRole::Client, PeerRole::Server] {
        chain.verify_under(snapshot.bundle(), snapshot.signer().root(), now, role)?;
    }
    Ok(())
}
