//! The passphrase: where it comes from, and that it is gone afterwards.

use std::fmt;
use std::io;
use std::path::PathBuf;

use host::{Disk, LoosePermissions, check_private};
use thiserror::Error;
use zeroize::Zeroizing;

/// Shortest passphrase taken, in bytes. Argon2id makes each guess dear, not a short list of guesses long.
pub(crate) const PASSPHRASE_LEN_MIN: usize = 8;

/// Longest passphrase taken, in bytes.
pub(crate) const PASSPHRASE_LEN_MAX: usize = 1024;

/// Where the passphrase is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PassphraseSource {
    /// In a file that only this user may read (0600). One line break at its end is not part of it.
    File(PathBuf),
    /// In the environment variable of this name.
    Environment(String),
}

/// A passphrase. Wiped when dropped; its `Debug` shows nothing; it cannot be copied.
pub struct Passphrase(Zeroizing<Vec<u8>>);

/// Why there is no passphrase.
#[derive(Debug, Error)]
pub enum PassphraseError {
    /// The file is not private.
    #[error("the passphrase file is not safe: {0}")]
    Permissions(#[from] LoosePermissions),
    /// The file cannot be read.
    #[error("cannot read the passphrase file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The environment variable is not set, or not text.
    #[error(
        "the environment variable {0} is not set; put the passphrase in it, or name a passphrase_file"
    )]
    Environment(String),
    /// Too short or too long.
    #[error(
        "the passphrase has {len} bytes; it takes 8 to 1024 (for example from `openssl rand -base64 24`)"
    )]
    Length {
        /// Its length.
        len: usize,
    },
}

impl PassphraseSource {
    /// Reads the passphrase.
    ///
    /// # Errors
    /// [`PassphraseError`], which never shows any of it.
    pub fn read(&self, disk: &dyn Disk) -> Result<Passphrase, PassphraseError> {
        match self {
            Self::File(path) => {
                check_private(path)?;
                let read = disk.read(path).map(Zeroizing::new);
                let bytes =
                    read.map_err(|source| PassphraseError::File { path: path.clone(), source })?;
                Passphrase::new(without_line_break(&bytes))
            }
            Self::Environment(name) => {
                let value = std::env::var(name).map(|text| Zeroizing::new(text.into_bytes()));
                Passphrase::new(&value.map_err(|_| PassphraseError::Environment(name.clone()))?)
            }
        }
    }

    /// The setting that named it.
    pub(crate) fn field(&self) -> &'static str {
        match self {
            Self::File(_) => "passphrase_file",
            Self::Environment(_) => "passphrase_env",
        }
    }
}

impl Passphrase {
    /// Takes 8 to 1024 bytes.
    ///
    /// # Errors
    /// [`PassphraseError::Length`].
    pub fn new(bytes: &[u8]) -> Result<Self, PassphraseError> {
        if !(PASSPHRASE_LEN_MIN..=PASSPHRASE_LEN_MAX).contains(&bytes.len()) {
            return Err(PassphraseError::Length { len: bytes.len() });
        }
        Ok(Self(Zeroizing::new(bytes.to_vec())))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

fn without_line_break(bytes: &[u8]) -> &[u8] {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_break_at_the_end_is_not_part_of_it() {
        assert_eq!(without_line_break(b"secret\n"), b"secret");
        assert_eq!(without_line_break(b"secret\r\n"), b"secret");
        assert_eq!(without_line_break(b"secret\n\n"), b"secret\n");
    }

    #[test]
    fn a_short_passphrase_is_refused_and_none_is_shown() {
        assert!(matches!(Passphrase::new(b"1234567"), Err(PassphraseError::Length { len: 7 })));
        let passphrase = Passphrase::new(b"12345678").expect("long enough");
        assert_eq!(format!("{passphrase:?}"), "Passphrase(..)");
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let source = PassphraseSource::Environment("BANYAN_NO_SUCH_VARIABLE".to_owned());
        let error = source.read(&host::RealDisk).expect_err("not set").to_string();
        assert!(error.contains("BANYAN_NO_SUCH_VARIABLE"), "{error}");
    }
}
