//! Names of keys.

use std::fmt;

use thiserror::Error;

use crate::call::RequestId;

/// The name of a key inside one backend.
///
/// Never secret; stored in records and used as a file name, hence its narrow alphabet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

/// A key id that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a key id has 1 to 128 characters of a-z, 0-9, '-' and '_', and starts with a letter or digit"
)]
pub struct InvalidKeyId;

impl KeyId {
    /// Longest key id, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Takes a key id of 1 to 128 characters of `[a-z0-9_-]` that starts with a letter or digit.
    ///
    /// # Errors
    /// [`InvalidKeyId`] for any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidKeyId> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let starts_plain = text.bytes().next().is_some_and(plain);
        if !starts_plain
            || text.len() > Self::MAX_LEN
            || !text.bytes().all(|b| plain(b) || b"-_".contains(&b))
        {
            return Err(InvalidKeyId);
        }
        Ok(Self(text.to_owned()))
    }

    /// The id that a request id stands for, in backends that name keys by request.
    ///
    /// 128 bits of SHA-256 over the request id: the same request finds its key after any restart, and two requests
    /// never meet.
    pub fn for_request(request_id: &RequestId) -> Self {
        let mut text = b"banyan-key-v1\0".to_vec();
        text.extend_from_slice(request_id.as_str().as_bytes());
        let digest = trust::digest::sha256(&text);
        let mut id = "k".to_owned();
        for byte in digest.iter().take(16) {
            id.push_str(&format!("{byte:02x}"));
        }
        Self(id)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_id_is_safe_as_a_file_name() {
        for wrong in ["", ".", "..", "-a", "a/b", "A", "a.key", "a\0b", &"x".repeat(129)] {
            assert_eq!(KeyId::parse(wrong), Err(InvalidKeyId), "{wrong:?}");
        }
        assert!(KeyId::parse("k0123_issuer-2").is_ok());
    }

    #[test]
    fn two_requests_never_share_a_key_id() {
        let id = |text: &str| KeyId::for_request(&RequestId::parse(text).expect("id"));
        assert_eq!(id("bootstrap"), id("bootstrap"));
        assert_ne!(id("bootstrap"), id("bootstrap-2"));
        assert_eq!(KeyId::parse(id("bootstrap").as_str()), Ok(id("bootstrap")));
    }
}
