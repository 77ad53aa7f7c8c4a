//! What lies where in a data directory. Who writes what is in the table of `ca-server/src/boot/layout.rs`.

use std::path::{Path, PathBuf};

/// Mode of directories in the data directory.
pub const DIR_MODE: u32 = 0o700;
/// Mode of files in the data directory.
pub const FILE_MODE: u32 = 0o600;

/// The paths of one data directory.
#[derive(Clone, Debug)]
pub struct Paths(PathBuf);

impl Paths {
    /// Those of this directory.
    pub const fn below(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// The directory itself.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// The state that all servers of a CA share, where it is in a file.
    pub fn state(&self) -> PathBuf {
        self.0.join("state.redb")
    }

    /// Encrypted private keys.
    pub fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    /// What root authorities keep, a directory for each.
    pub fn authorities(&self) -> PathBuf {
        self.0.join("authority")
    }

    /// Requests to authorities, as they were sent.
    pub fn requests(&self) -> PathBuf {
        self.0.join("requests")
    }

    /// Bundles of the past.
    pub fn bundles(&self) -> PathBuf {
        self.0.join("bundles")
    }

    /// Rows of every leaf that may live.
    pub fn ledger(&self) -> PathBuf {
        self.0.join("ledger")
    }

    /// A moment that wall clock and uptime agreed on.
    pub fn clock(&self) -> PathBuf {
        self.0.join("clock.json")
    }

    /// The number of the revocation lists.
    pub fn crl(&self) -> PathBuf {
        self.0.join("crl.json")
    }

    /// What tells this directory from any other, where several servers share a store.
    pub fn place(&self) -> PathBuf {
        self.0.join("place")
    }
}
