//! What stands in the files: JSON with a version, binary values in base64.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use plugins::{KeyId, KeySpec};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use trust::randomness::random_bytes;
use trust::{PublicKey, Randomness};
use zeroize::Zeroizing;

use crate::passphrase::Passphrase;
use crate::sealed::{KdfCost, SALT_LEN, SealError, StoreKey};

/// The name of the header's file.
pub const HEADER: &str = "store.json";

/// The version of both formats; another one is refused, never guessed at.
const VERSION: u8 = 1;
/// The version of a header while keys go from one passphrase to another.
const MOVING: u8 = 2;

/// What the header's check value seals.
const CHECK: &[u8] = b"banyan key store";

/// Why a file of the store cannot be used.
#[derive(Debug, Error)]
pub(crate) enum FormatError {
    /// Not JSON of this shape.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// A version of another program.
    #[error("it has version {0}, and this program knows version 1; use the program that wrote it")]
    Version(u8),
    /// Keys were going from one passphrase to another, and did not all arrive.
    #[error("its keys are not all under one passphrase")]
    Moving,
    /// Sealed under another key, or for another file.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// The header of a store.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    version: u8,
    kdf: String,
    cost: KdfCost,
    salt: String,
    check: String,
    /// While keys go from this passphrase to another: that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<Lock>,
}

/// What a passphrase is stretched with, and what shows that it is the right one.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lock {
    cost: KdfCost,
    salt: String,
    check: String,
}

/// A key file: a key, or the mark that there was one.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyFile {
    version: u8,
    key_id: String,
    spec: String,
    public_key: String,
    /// PKCS#8, sealed with key id, spec and public key as associated data. None: the key was destroyed.
    sealed: Option<String>,
}

/// A key as it stands in its file.
pub(crate) struct Stored {
    pub(crate) spec: KeySpec,
    pub(crate) public: PublicKey,
    pub(crate) pkcs8: Option<Zeroizing<Vec<u8>>>,
}

impl Header {
    /// A new store: fresh salt, and the key that goes with it.
    pub(crate) fn create(
        passphrase: &Passphrase,
        cost: KdfCost,
        randomness: &dyn Randomness,
    ) -> Result<(Self, StoreKey), FormatError> {
        let (lock, key) = Lock::create(passphrase, cost, randomness)?;
        Ok((Self::of(VERSION, lock, None), key))
    }

    /// The key of an existing store.
    ///
    /// # Errors
    /// [`FormatError::Seal`] with [`SealError::Opening`] for a wrong passphrase, [`FormatError::Moving`] where keys are on the way
    /// to another one.
    pub(crate) fn unlock(bytes: &[u8], passphrase: &Passphrase) -> Result<StoreKey, FormatError> {
        let header = Self::parse(bytes)?;
        match header.next {
            Some(_) => Err(FormatError::Moving),
            None => header.present().unlock(passphrase),
        }
    }

    /// A header, whether its keys are on the way or not.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let header: Self = read(bytes)?;
        match header.next {
            Some(_) if header.version == MOVING => {}
            _ => version(header.version)?,
        }
        match header.kdf == "argon2id" {
            true => Ok(header),
            false => Err(FormatError::Damaged(format!("unknown key derivation `{}`", header.kdf))),
        }
    }

    fn of(version: u8, present: Lock, next: Option<Lock>) -> Self {
        let Lock { cost, salt, check } = present;
        Self { version, kdf: "argon2id".to_owned(), cost, salt, check, next }
    }

    /// The passphrase that keys are under, or come from.
    pub(crate) fn present(&self) -> Lock {
        Lock { cost: self.cost, salt: self.salt.clone(), check: self.check.clone() }
    }

    /// The passphrase that keys go to.
    pub(crate) fn next(&self) -> Option<&Lock> {
        self.next.as_ref()
    }

    /// The same store, with keys on the way to another passphrase.
    pub(crate) fn toward(&self, next: Lock) -> Self {
        Self::of(MOVING, self.present(), Some(next))
    }

    /// The same store, with all keys under this passphrase.
    pub(crate) fn arrived(at: Lock) -> Self {
        Self::of(VERSION, at, None)
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        write(self)
    }
}

impl Lock {
    /// A fresh salt, and the key that goes with it.
    pub(crate) fn create(
        passphrase: &Passphrase,
        cost: KdfCost,
        randomness: &dyn Randomness,
    ) -> Result<(Self, StoreKey), FormatError> {
        let salt: [u8; SALT_LEN] = random_bytes(randomness);
        let key = StoreKey::derive(passphrase, &salt, cost)?;
        let check =
            BASE64_STANDARD.encode(key.seal(CHECK, &header_data(cost, &salt), randomness)?);
        Ok((Self { cost, salt: BASE64_STANDARD.encode(salt), check }, key))
    }

    /// # Errors
    /// [`FormatError::Seal`] with [`SealError::Opening`] for a wrong passphrase.
    pub(crate) fn unlock(&self, passphrase: &Passphrase) -> Result<StoreKey, FormatError> {
        let salt = decode(&self.salt)?;
        let key = StoreKey::derive(passphrase, &salt, self.cost)?;
        key.open(&decode(&self.check)?, &header_data(self.cost, &salt))?;
        Ok(key)
    }
}

impl KeyFile {
    /// A key, sealed.
    pub(crate) fn of(
        id: &KeyId,
        stored: &Stored,
        key: &StoreKey,
        randomness: &dyn Randomness,
    ) -> Result<Self, FormatError> {
        let associated = key_data(id, stored.spec, &stored.public);
        let seal = |pkcs8: &Zeroizing<Vec<u8>>| key.seal(pkcs8, &associated, randomness);
        let sealed = stored.pkcs8.as_ref().map(seal).transpose()?;
        Ok(Self {
            version: VERSION,
            key_id: id.to_string(),
            spec: stored.spec.to_string(),
            public_key: BASE64_STANDARD.encode(stored.public.spki_der()),
            sealed: sealed.map(|bytes| BASE64_STANDARD.encode(bytes)),
        })
    }

    /// Reads the file of the key `id`.
    ///
    /// # Errors
    /// [`FormatError`]; a file of another key is damaged.
    pub(crate) fn read(bytes: &[u8], id: &KeyId, key: &StoreKey) -> Result<Stored, FormatError> {
        let file: Self = read(bytes)?;
        version(file.version)?;
        if file.key_id != id.as_str() {
            return Err(FormatError::Damaged(format!(
                "it holds key {}, not the one of its name",
                file.key_id
            )));
        }
        let damaged = |detail: &str| FormatError::Damaged(detail.to_owned());
        let spec = KeySpec::from_name(&file.spec).ok_or_else(|| damaged("unknown kind of key"))?;
        let public = PublicKey::parse(&decode(&file.public_key)?)
            .map_err(|error| damaged(&error.to_string()))?;
        let associated = key_data(id, spec, &public);
        let open = |sealed: &String| Ok::<_, FormatError>(key.open(&decode(sealed)?, &associated)?);
        let pkcs8 = file.sealed.as_ref().map(open).transpose()?;
        Ok(Stored { spec, public, pkcs8 })
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        write(self)
    }
}

/// The public half of the key in a file, as SPKI in DER, with nothing opened.
///
/// # Errors
/// What is wrong with it.
pub fn public_half(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let half = read::<KeyFile>(bytes).and_then(|file| decode(&file.public_key));
    half.map_err(|error| error.to_string())
}

/// Binds the check value to the header it stands in.
fn header_data(cost: KdfCost, salt: &[u8]) -> Vec<u8> {
    let mut data = vec![VERSION];
    data.extend_from_slice(&cost.memory_kib.to_be_bytes());
    data.extend_from_slice(&cost.passes.to_be_bytes());
    data.extend_from_slice(salt);
    data
}

/// Binds a sealed key to its name, kind and public half. Neither id nor spec can hold a zero byte.
fn key_data(id: &KeyId, spec: KeySpec, public: &PublicKey) -> Vec<u8> {
    [&[VERSION], id.as_str().as_bytes(), &[0], spec.as_str().as_bytes(), &[0], public.spki_der()]
        .concat()
}

fn version(version: u8) -> Result<(), FormatError> {
    if version == VERSION { Ok(()) } else { Err(FormatError::Version(version)) }
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, FormatError> {
    serde_json::from_slice(bytes).map_err(|error| FormatError::Damaged(error.to_string()))
}

fn write<T: Serialize>(value: &T) -> Result<Vec<u8>, FormatError> {
    serde_json::to_vec_pretty(value).map_err(|error| FormatError::Damaged(error.to_string()))
}

fn decode(text: &str) -> Result<Vec<u8>, FormatError> {
    BASE64_STANDARD.decode(text).map_err(|error| FormatError::Damaged(error.to_string()))
}
