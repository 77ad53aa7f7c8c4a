//! Key sets of token issuers. They come from files, or from a cluster that somebody else asks: nothing is fetched here.
//!
//! What does not read, or holds no usable key, leaves the last good set in force. Until a first set was read there is no key,
//! and never a default one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use trust::digest::sha256;

use super::strict_json;

/// Largest key set in bytes. Those of large providers have 10 KiB.
pub const KEY_SET_LEN_MAX: usize = 256 * 1024;
/// Most keys of a set.
pub const KEYS_MAX: usize = 64;

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// One issuer's keys and the file that they come from, if it is one.
#[derive(Debug)]
pub(super) struct KeySetCell {
    path: Option<PathBuf>,
    present: ArcSwapOption<KeySet>,
}

/// The keys of one reading.
#[derive(Debug)]
pub(super) struct KeySet {
    digest: [u8; 32],
    keys: Vec<IssuerKey>,
}

#[derive(Debug)]
struct IssuerKey {
    id: Option<String>,
    key: DecodingKey,
    algorithms: Vec<Algorithm>,
}

/// Why a key set file was not taken. The last good set, if there is one, stays in force.
#[derive(Debug, thiserror::Error)]
#[error("the key set {} of token issuer {issuer} was not taken: {fault}; {}", path.display(), consequence(*in_force))]
pub struct KeySetRefused {
    path: PathBuf,
    issuer: String,
    /// Whether a set was taken before.
    in_force: bool,
    #[source]
    fault: KeySetFault,
}

/// What goes on meanwhile, and what to do.
const fn consequence(in_force: bool) -> &'static str {
    if in_force {
        "the keys that were read before stay in force; mend the file, it is read again every few seconds"
    } else {
        "none was read before, so every token of this issuer is refused; mend the file, it is read again every few seconds"
    }
}

/// What is wrong with a key set.
#[derive(Debug, thiserror::Error)]
pub enum KeySetFault {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// It is larger than [`KEY_SET_LEN_MAX`] or has more than [`KEYS_MAX`] keys.
    #[error("it is larger than 262144 bytes or has more than 64 keys")]
    TooLarge,
    /// It is not `{"keys": [...]}`, or says something twice.
    #[error("it is not a JSON Web Key Set")]
    Malformed,
    /// No key in it can verify tokens.
    #[error("it has no RSA (2048 bits and more), P-256, P-384 or Ed25519 key for signatures")]
    NoUsableKey,
}

impl KeySetCell {
    /// Names the file; nothing is read yet.
    pub(super) fn of_file(path: &Path) -> Self {
        Self { path: Some(path.to_owned()), present: ArcSwapOption::empty() }
    }

    /// Of an issuer whose keys are fetched.
    pub(super) fn fetched() -> Self {
        Self { path: None, present: ArcSwapOption::empty() }
    }

    /// The keys in force.
    pub(super) fn present(&self) -> Option<Arc<KeySet>> {
        self.present.load_full()
    }

    /// Takes the file's present content, `read` by the caller; says whether the keys changed.
    pub(super) fn take_file(
        &self,
        issuer: &str,
        read: std::io::Result<Vec<u8>>,
    ) -> Result<bool, KeySetRefused> {
        let in_force = self.present.load().is_some();
        let refused = |fault| KeySetRefused {
            path: self.path.clone().unwrap_or_default(),
            issuer: issuer.to_owned(),
            in_force,
            fault,
        };
        let bytes = read.map_err(|error| refused(error.into()))?;
        self.take(&bytes).map_err(refused)
    }

    /// Takes a key set; says whether the keys changed.
    pub(super) fn take(&self, bytes: &[u8]) -> Result<bool, KeySetFault> {
        let digest = sha256(bytes);
        if self.present.load().as_ref().is_some_and(|present| present.digest == digest) {
            return Ok(false);
        }
        let keys = parse(bytes)?;
        self.present.store(Some(Arc::new(KeySet { digest, keys })));
        Ok(true)
    }

    /// Has no keys any more.
    pub(super) fn forget(&self) {
        self.present.store(None);
    }

    /// The file that the keys are read from; none where they are fetched.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

impl KeySet {
    /// Digest of the text: names this reading.
    pub(super) const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The keys that may have signed a token with this algorithm and key id.
    pub(super) fn candidates<'s>(
        &'s self,
        algorithm: Algorithm,
        id: Option<&'s str>,
    ) -> impl Iterator<Item = &'s DecodingKey> {
        let fits = move |key: &&IssuerKey| {
            key.algorithms.contains(&algorithm) && (id.is_none() || key.id.as_deref() == id)
        };
        self.keys.iter().filter(fits).map(|key| &key.key)
    }
}

/// Whether a text would be taken.
///
/// # Errors
/// What is wrong with it.
pub fn check(bytes: &[u8]) -> Result<(), KeySetFault> {
    parse(bytes).map(drop)
}

fn parse(bytes: &[u8]) -> Result<Vec<IssuerKey>, KeySetFault> {
    if bytes.len() > KEY_SET_LEN_MAX {
        return Err(KeySetFault::TooLarge);
    }
    let mut document = strict_json::object(bytes).ok_or(KeySetFault::Malformed)?;
    let Some(serde_json::Value::Array(entries)) = document.remove("keys") else {
        return Err(KeySetFault::Malformed);
    };
    if entries.len() > KEYS_MAX {
        return Err(KeySetFault::TooLarge);
    }
    // Keys of unknown types are skipped, as RFC 7517 §5 asks.
    let keys: Vec<_> = entries
        .into_iter()
        .filter_map(|entry| usable(serde_json::from_value(entry).ok()?))
        .collect();
    if keys.is_empty() { Err(KeySetFault::NoUsableKey) } else { Ok(keys) }
}

fn usable(jwk: Jwk) -> Option<IssuerKey> {
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let of_type: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => RSA,
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => &[Algorithm::ES256],
            EllipticCurve::P384 => &[Algorithm::ES384],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(_) => &[Algorithm::EdDSA],
        // Shared secrets, and types of another age.
        _ => return None,
    };
    let named = jwk.common.key_algorithm.map(|algorithm| algorithm.to_string());
    let algorithms: Vec<_> = of_type
        .iter()
        .copied()
        .filter(|algorithm| named.as_ref().is_none_or(|named| *named == format!("{algorithm:?}")))
        .collect();
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    let weak_rsa =
        matches!(key.kind(), DecodingKeyKind::RsaModulusExponent { n, .. } if n.len() < 256);
    let usable = !weak_rsa && !algorithms.is_empty();
    usable.then_some(IssuerKey { id: jwk.common.key_id, key, algorithms })
}
