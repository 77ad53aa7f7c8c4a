//! The PIN: where it comes from.

use std::io;
use std::path::PathBuf;

use cryptoki::types::AuthPin;
use host::{LoosePermissions, check_private};
use thiserror::Error;
use zeroize::Zeroizing;

/// Longest PIN taken, in bytes.
const PIN_LEN_MAX: usize = 256;

/// Where the user's PIN is. Never in the configuration itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinSource {
    /// In a file that only this user may read (0600). One line break at its end is not part of it.
    File(PathBuf),
    /// In the environment variable of this name.
    Environment(String),
}

/// Why there is no PIN. Shows none of it.
#[derive(Debug, Error)]
pub(crate) enum PinError {
    #[error("the PIN file is not safe: {0}")]
    Permissions(#[from] LoosePermissions),
    #[error("cannot read the PIN file {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the environment variable {0} is not set; put the PIN in it, or name a pin_file")]
    Environment(String),
    #[error(
        "the PIN is empty, longer than 256 bytes or not UTF-8; write the user's PIN of the token"
    )]
    NotAPin,
}

impl PinSource {
    /// Reads the PIN. Wiped when dropped; its `Debug` shows nothing.
    pub(crate) fn read(&self) -> Result<AuthPin, PinError> {
        let bytes = match self {
            Self::File(path) => {
                check_private(path)?;
                let read = std::fs::read(path).map(Zeroizing::new);
                read.map_err(|source| PinError::File { path: path.clone(), source })?
            }
            Self::Environment(name) => {
                let value = std::env::var(name).map(|text| Zeroizing::new(text.into_bytes()));
                value.map_err(|_| PinError::Environment(name.clone()))?
            }
        };
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match std::str::from_utf8(line) {
            Ok(pin) if (1..=PIN_LEN_MAX).contains(&pin.len()) => Ok(AuthPin::new(pin.into())),
            _ => Err(PinError::NotAPin),
        }
    }

    /// The setting that named it.
    pub(crate) const fn field(&self) -> &'static str {
        match self {
            Self::File(_) => "pin_file",
            Self::Environment(_) => "pin_env",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_pin_file_is_private_and_no_error_shows_the_pin() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("pin");
        fs::write(&path, "4711\n").expect("write");
        let source = PinSource::File(path.clone());
        for (mode, good) in [(0o644, false), (0o600, true)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("chmod");
            let pin = source.read();
            assert_eq!(pin.is_ok(), good, "{mode:o}");
            assert!(!format!("{pin:?}").contains("4711"));
            assert_eq!(pin.is_err_and(|error| error.to_string().contains("chmod 0600")), !good);
        }
        for wrong in [&b"\n"[..], b"", &[b'1'; 257], b"\xff\xfe"] {
            fs::write(&path, wrong).expect("write");
            assert!(matches!(source.read(), Err(PinError::NotAPin)), "{wrong:?}");
        }
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let source = PinSource::Environment("BANYAN_NO_SUCH_PIN".to_owned());
        let error = source.read().expect_err("not set").to_string();
        assert!(error.contains("BANYAN_NO_SUCH_PIN"), "{error}");
    }
}
