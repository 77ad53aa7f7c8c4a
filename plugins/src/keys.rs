//! The contract of key backends: something that holds private keys and signs bytes.

use std::fmt::{self, Debug};

use async_trait::async_trait;
use trust::{KeyKind, PublicKey, SignatureAlgorithm};

use crate::call::{Health, RequestId};
use crate::error::KeyError;
pub use crate::key_id::{InvalidKeyId, KeyId};

/// Something that holds private keys and signs with them: memory, encrypted files, a hardware token.
///
/// # Contract
/// - **Keys never leave.** No method returns private bytes, and neither `Debug` nor an error shows any.
/// - **Durability.** When [`describe`](Self::describe) says `durable`, a key that [`generate`](Self::generate)
///   answered with is there after a crash of the process or the machine at any later moment. It is stored before
///   `generate` returns, never after.
/// - **Idempotence.** `generate` with a request id that already made a key answers with that key, also after a
///   restart, also when both calls run at once. The same id with another [`KeySpec`] is `Denied`. The id of a key that
///   was destroyed is `Denied` too: an id never names two keys.
/// - **Order.** Calls may run at the same time and in any order; the backend needs no help from its caller.
/// - **Cancellation.** A future may be dropped at any await. Afterwards the call either happened or did not, and
///   repeating it tells.
/// - **Who checks.** The caller verifies every signature it releases and proves each key by a nonce
///   ([`checks::prove_key`](crate::checks::prove_key)); the backend need not verify its own.
/// - **Who retries.** The caller, by the variants of [`KeyError`]. A backend never retries by itself for longer than
///   one second, since a signature stands between a workload and its certificate.
/// - **Speed.** `sign` is called once per leaf. A backend that has the key in memory does the arithmetic right in the
///   first poll: no file, no lock across an await, no thread pool. A backend that blocks (a hardware token) brings its
///   own bounded pool.
#[async_trait]
pub trait KeyBackend: Send + Sync + Debug {
    /// What this backend is and can do. Never blocks, always the same answer.
    fn describe(&self) -> KeyBackendDescription;

    /// Makes a key, or finds the one this request id made before.
    ///
    /// # Errors
    /// `Unsupported` for a spec that is not in [`KeyBackendDescription::specs`]; `Denied` as the contract says;
    /// anything else when the key could not be stored, in which case a later call with the same id is safe.
    async fn generate(&self, request_id: &RequestId, spec: KeySpec) -> Result<KeyHandle, KeyError>;

    /// The public half of a key.
    ///
    /// # Errors
    /// `NotFound` when there is no such key or it was destroyed.
    async fn public(&self, id: &KeyId) -> Result<PublicKey, KeyError>;

    /// Signs a message (the message, not its digest) and answers with the signature as X.509 carries it: DER
    /// `Ecdsa-Sig-Value` for ECDSA, 64 bytes for Ed25519.
    ///
    /// # Errors
    /// `NotFound` when there is no such key; `Unsupported` when the algorithm does not fit the key, always, before
    /// anything is signed.
    async fn sign(
        &self,
        id: &KeyId,
        message: &[u8],
        algorithm: SignatureAlgorithm,
    ) -> Result<Vec<u8>, KeyError>;

    /// All keys that can sign, in the order of their ids.
    ///
    /// # Errors
    /// When the backend cannot be asked.
    async fn list(&self) -> Result<Vec<KeyHandle>, KeyError>;

    /// Destroys the private half for good. A key that is not there, or no longer, is success.
    ///
    /// # Errors
    /// When it may still be there. After success neither `sign` nor a restart finds it.
    async fn destroy(&self, id: &KeyId) -> Result<(), KeyError>;

    /// How the backend is doing. Signs nothing, changes nothing, and answers within seconds.
    async fn check(&self) -> Health;

    /// How many calls wait for a place in the backend, for metrics; none where calls never wait. Never blocks.
    fn waiting(&self) -> Option<usize> {
        None
    }
}

/// What a key backend is and can do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyBackendDescription {
    /// The plugin's name in the registry, such as `file`.
    pub plugin: &'static str,
    /// The plugin's version.
    pub version: &'static str,
    /// Whether keys outlive the process.
    pub durable: bool,
    /// The keys it can make.
    pub specs: &'static [KeySpec],
}

/// A key and its public half.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyHandle {
    /// The name to sign with.
    pub id: KeyId,
    /// The public half.
    pub public: PublicKey,
}

impl KeyBackendDescription {
    /// A backend whose keys outlive the process.
    pub const fn new(
        plugin: &'static str,
        version: &'static str,
        specs: &'static [KeySpec],
    ) -> Self {
        Self { plugin, version, durable: true, specs }
    }

    /// The same, whose keys end with the process.
    #[must_use]
    pub const fn in_memory(self) -> Self {
        Self { durable: false, ..self }
    }
}

impl KeyHandle {
    /// A key and its public half.
    pub const fn new(id: KeyId, public: PublicKey) -> Self {
        Self { id, public }
    }
}

/// The kinds of keys that backends make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeySpec {
    /// ECDSA on NIST P-256, signing with SHA-256. The default: every peer takes it.
    P256,
    /// ECDSA on NIST P-384, signing with SHA-384.
    P384,
    /// Ed25519. For roots only: Envoy offers no Ed25519 in its handshakes.
    Ed25519,
}

impl KeySpec {
    /// Every spec.
    pub const ALL: [Self; 3] = [Self::P256, Self::P384, Self::Ed25519];

    /// The spec as written in configuration files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::P256 => "p256",
            Self::P384 => "p384",
            Self::Ed25519 => "ed25519",
        }
    }

    /// Reads the spec as written in configuration files.
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|spec| spec.as_str() == text)
    }

    /// The one signature algorithm of such a key.
    pub const fn algorithm(self) -> SignatureAlgorithm {
        match self {
            Self::P256 => SignatureAlgorithm::EcdsaP256Sha256,
            Self::P384 => SignatureAlgorithm::EcdsaP384Sha384,
            Self::Ed25519 => SignatureAlgorithm::Ed25519,
        }
    }

    /// The spec of a public key; none for RSA, which backends may hold but not make.
    pub fn of(key: &PublicKey) -> Option<Self> {
        match key.kind() {
            KeyKind::P256 => Some(Self::P256),
            KeyKind::P384 => Some(Self::P384),
            KeyKind::Ed25519 => Some(Self::Ed25519),
            KeyKind::Rsa { .. } => None,
        }
    }
}

impl fmt::Display for KeySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_reads_back_as_it_is_written() {
        for spec in KeySpec::ALL {
            assert_eq!(KeySpec::from_name(spec.as_str()), Some(spec));
        }
        assert_eq!(KeySpec::from_name("rsa"), None);
    }
}
