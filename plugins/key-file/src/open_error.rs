//! Why a store cannot be opened.

use std::io;
use std::path::PathBuf;

use host::LoosePermissions;
use thiserror::Error;

use crate::format::HEADER;
use crate::passphrase::PassphraseError;

/// Why a store cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The passphrase cannot be had.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// The passphrase is not the one the store was made with, or the header is damaged: the two look alike.
    #[error("the passphrase does not open the key store {}: give the one it was made with; if it is that one, restore {HEADER} from a backup", directory.display())]
    WrongPassphrase {
        /// The store.
        directory: PathBuf,
    },
    /// Its keys were going from one passphrase to another, and did not all arrive.
    #[error(
        "the keys of the key store {} are not all under one passphrase, since a change of the passphrase was not finished: run \
         `banyan keys rewrap` again with the same two passphrases", directory.display()
    )]
    Moving {
        /// The store.
        directory: PathBuf,
    },
    /// Others could read or change the files.
    #[error("the key store is not safe: {0}")]
    Permissions(#[from] LoosePermissions),
    /// Keys without the header that opens them.
    #[error("{} holds keys but no {HEADER}; restore it from a backup: without it no key can be opened", directory.display())]
    HeaderMissing {
        /// The store.
        directory: PathBuf,
    },
    /// A file that is there and cannot be used.
    #[error("cannot use {}: {detail}; restore it from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The operating system refused.
    #[error("cannot {operation} {}: {source}; check the disk and the permissions, then start again", path.display())]
    Io {
        /// `read`, `write` or `list`.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}
