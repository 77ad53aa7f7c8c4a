//! The key backend that keeps private keys in encrypted files.
//!
//! One directory (0700) holds a header, `store.json`, and one file `<key id>.key` (0600) for each key. A passphrase
//! is stretched once per process, with argon2id and the header's salt, into the key that encrypts all key files; the
//! header carries a check value, so that a wrong passphrase is told at once and not by the first signature. After
//! opening, keys are in memory and signing reads no file.
//!
//! What it protects against: somebody who gets the files, or a backup, without the passphrase; files swapped or
//! renamed among each other. Not against somebody who can read this process's memory.
//!
//! What several servers share stands in the same form where they all find it ([`Files`]): then memory proves nothing, and each
//! use reads the file.
//!
//! Start at [`FileKeys::open`]; [`FileKeysPlugin`] lists it in a registry as `file`; `shelf` is what is in
//! memory over what is on disk, `sealed` holds the cryptography, `format` the files' contents.

mod config;
mod files;
mod format;
mod open_error;
mod passphrase;
mod rewrap;
mod sealed;
mod shelf;
mod store;

pub use config::FileKeysPlugin;
pub use files::{Directory, Files};
pub use format::{HEADER, public_half};
pub use open_error::OpenError;
pub use passphrase::{Passphrase, PassphraseError, PassphraseSource};
pub use rewrap::{RewrapError, Rewrapped, Rewrapping, is_unfinished};
pub use sealed::KdfCost;
pub use store::{FileKeys, FileKeysOptions, Opening};
