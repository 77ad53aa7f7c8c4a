//! The proof that a key backend holds the private half of a public key.

use thiserror::Error;
use trust::randomness::random_bytes;
use trust::{PublicKey, Randomness};

use super::fault::Unsafe;
use crate::error::KeyError;
use crate::keys::{KeyBackend, KeyId, KeySpec};

/// Why a key is not proven.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyProofError {
    /// The backend did not sign. Whether to try again, its error says.
    #[error("the key {id} did not sign a nonce: {source}")]
    Backend {
        /// The key asked for.
        id: KeyId,
        /// What the backend said.
        source: KeyError,
    },
    /// It signed, with another key.
    #[error(transparent)]
    Unsafe(#[from] Unsafe),
}

/// Proves that `id` signs with the private half of `expected`, by a nonce that nobody chose.
///
/// The signed bytes begin with a text, so that the signature can never pass for a certificate's.
///
/// # Errors
/// [`KeyProofError`]; a key that is not proven must not sign anything.
pub async fn prove_key(
    keys: &dyn KeyBackend,
    id: &KeyId,
    expected: &PublicKey,
    randomness: &dyn Randomness,
) -> Result<(), KeyProofError> {
    let nonce: [u8; 32] = random_bytes(randomness);
    let message = [b"banyan proof of possession v1\0".as_slice(), &nonce].concat();
    let backend = |source| KeyProofError::Backend { id: id.clone(), source };
    let algorithm = match KeySpec::of(expected) {
        Some(spec) => spec.algorithm(),
        None => trust::SignatureAlgorithm::RsaPkcs1Sha256,
    };
    let signature = keys.sign(id, &message, algorithm).await.map_err(backend)?;
    expected.verify(&message, algorithm, &signature).map_err(|_| Unsafe::PrivateKeyMismatch)?;
    Ok(())
}
