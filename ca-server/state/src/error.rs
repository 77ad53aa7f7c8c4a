//! Why a store's state is not to be used.

use stores::{ReadError, WriteError};
use trust::TrustDomain;

/// The format of the state of a CA.
pub const FORMAT: u64 = 1;
/// The format of a state that was restored from a backup, until a server has counted what was released since. Of the marks that
/// say so former releases know nothing: they would start on it, also on half of it, and count nothing. A newer format they
/// refuse.
pub(crate) const FORMAT_RESTORED: u64 = 2;
/// The key that says whose state it is.
pub(crate) const TRUST_DOMAIN: &str = "trust-domain";

/// Why a store's state is not to be used.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// It could not be read, or was edited.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It belongs to another trust domain.
    #[error(
        "it holds the state of trust domain {found}, and this server is configured for {ours}: give each trust domain a \
         place of its own"
    )]
    Foreign {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        ours: TrustDomain,
    },
    /// A newer release wrote it.
    #[error(
        "its state has format {found}, and this release reads up to {FORMAT_RESTORED}: start the release that wrote it, or a newer \
         one"
    )]
    Newer {
        /// Its format.
        found: u64,
    },
    /// It was moved elsewhere.
    #[error(
        "it was moved to {to}: name that place in [store], or move it back with `banyan state move`"
    )]
    Moved {
        /// Where it went.
        to: String,
    },
    /// A move to here is not over.
    #[error("a move from {from} to here is not over: run the same `banyan state move` again")]
    Unfinished {
        /// Where it comes from.
        from: String,
    },
    /// A restore to here is not over.
    #[error(
        "a restore of backup {} to here is not over: run the same `banyan state restore` again",
        short(backup)
    )]
    Restoring {
        /// The backup's id.
        backup: String,
    },
    /// It holds something, and not whose it is.
    #[error(
        "it holds the space {space}, but the key meta/{TRUST_DOMAIN} that says whose state it is has gone: restore a backup"
    )]
    Nameless {
        /// A space that is not empty.
        space: &'static str,
    },
}

/// As much of a backup's id as people compare.
pub(crate) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
