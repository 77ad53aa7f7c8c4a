//! The cryptography: argon2id from passphrase to key, ChaCha20-Poly1305 from key to sealed bytes.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use trust::Randomness;
use trust::randomness::random_bytes;
use zeroize::Zeroizing;

use crate::passphrase::Passphrase;

/// Length of the salt, in bytes (RFC 9106 section 3.1 recommends 16).
pub(crate) const SALT_LEN: usize = 16;

/// What one guess of the passphrase costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KdfCost {
    /// Memory in KiB. Default 65536 (64 MiB), at most 1 GiB.
    pub memory_kib: u32,
    /// Passes over the memory. Default 3, at most 16.
    pub passes: u32,
}

impl Default for KdfCost {
    /// The second recommended option of RFC 9106 section 4, with one lane instead of four (it is computed on one
    /// thread, a few tenths of a second).
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3 }
    }
}

impl KdfCost {
    /// The least that argon2 takes: for tests, where a guess need not be dear.
    pub const LEAST: Self = Self { memory_kib: 8, passes: 1 };

    const MEMORY_KIB_MAX: u32 = 1024 * 1024;
    const PASSES_MAX: u32 = 16;
}

/// The key of one store; seals and opens. Not copied, not shown.
pub(crate) struct StoreKey(LessSafeKey);

/// Why bytes could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum SealError {
    /// The header asks for a cost that argon2, or this program, does not take.
    #[error("its passphrase cost is out of bounds (at most 1 GiB of memory and 16 passes)")]
    Cost,
    /// Another key, other associated data, or changed bytes.
    #[error("it does not open with this passphrase, or was changed")]
    Opening,
    /// Too long for one seal.
    #[error("it is too long to be sealed")]
    Sealing,
}

impl StoreKey {
    /// Stretches a passphrase. Slow by design: once per process.
    pub(crate) fn derive(
        passphrase: &Passphrase,
        salt: &[u8],
        cost: KdfCost,
    ) -> Result<Self, SealError> {
        if cost.memory_kib > KdfCost::MEMORY_KIB_MAX || cost.passes > KdfCost::PASSES_MAX {
            return Err(SealError::Cost);
        }
        let mut key = Zeroizing::new([0_u8; 32]);
        let params = Params::new(cost.memory_kib, cost.passes, 1, Some(key.len()))
            .map_err(|_| SealError::Cost)?;
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.bytes(), salt, key.as_mut())
            .map_err(|_| SealError::Cost)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).map_err(|_| SealError::Cost)?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Seals bytes under a fresh random nonce, which stands in front. A store seals a handful of keys in its life, so
    /// 96 random bits never meet.
    pub(crate) fn seal(
        &self,
        plain: &[u8],
        associated: &[u8],
        randomness: &dyn Randomness,
    ) -> Result<Vec<u8>, SealError> {
        let nonce: [u8; NONCE_LEN] = random_bytes(randomness);
        // Room for the tag too: growing would leave an unwiped copy of the plain bytes behind.
        let mut buffer =
            Zeroizing::new(Vec::with_capacity(plain.len() + CHACHA20_POLY1305.tag_len()));
        buffer.extend_from_slice(plain);
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated),
                &mut *buffer,
            )
            .map_err(|_| SealError::Sealing)?;
        Ok([nonce.as_slice(), &buffer].concat())
    }

    /// Opens what [`seal`](Self::seal) made.
    pub(crate) fn open(
        &self,
        sealed: &[u8],
        associated: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Opening)?;
        let mut buffer = Zeroizing::new(body.to_vec());
        let plain = self
            .0
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(associated), &mut buffer)
            .map_err(|_| SealError::Opening)?;
        let len = plain.len();
        buffer.truncate(len);
        Ok(buffer)
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trust::SeededRandomness;

    fn key(passphrase: &[u8], salt: &[u8]) -> StoreKey {
        let passphrase = Passphrase::new(passphrase).expect("passphrase");
        StoreKey::derive(&passphrase, salt, KdfCost::LEAST).expect("key")
    }

    #[test]
    fn sealed_bytes_open_only_with_the_same_key_and_associated_data() {
        let randomness = SeededRandomness::new(1);
        let sealed =
            key(b"passphrase", &[1; SALT_LEN]).seal(b"plain", b"id", &randomness).expect("sealed");
        let opened = key(b"passphrase", &[1; SALT_LEN]).open(&sealed, b"id").expect("opens");
        assert_eq!(opened.as_slice(), b"plain");
        assert!(!sealed.windows(5).any(|window| window == b"plain"));
        for (passphrase, salt, associated) in
            [(b"passphrasf", 1, b"id"), (b"passphrase", 2, b"id"), (b"passphrase", 1, b"ie")]
        {
            let refused = key(passphrase, &[salt; SALT_LEN]).open(&sealed, associated);
            assert_eq!(refused.err(), Some(SealError::Opening));
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let key = key(b"passphrase", &[1; SALT_LEN]);
        let sealed = key.seal(b"plain", b"id", &SeededRandomness::new(1)).expect("sealed");
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(key.open(&bad, b"id").is_err(), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert!(key.open(&sealed[..len], b"id").is_err(), "length {len}");
        }
    }

    #[test]
    fn a_cost_that_would_exhaust_the_machine_is_refused() {
        let passphrase = Passphrase::new(b"passphrase").expect("passphrase");
        for cost in [
            KdfCost { memory_kib: 4 * 1024 * 1024, passes: 1 },
            KdfCost { memory_kib: 8, passes: 1_000_000 },
            KdfCost { memory_kib: 0, passes: 0 },
        ] {
            assert_eq!(
                StoreKey::derive(&passphrase, &[0; SALT_LEN], cost).err(),
                Some(SealError::Cost)
            );
        }
    }
}
