//! Why a backup is not made, or not believed.

use stores::ReadError;

use super::header::FORMAT;
use crate::error::OwnerError;

/// Why a backup is not made, or not believed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store holds no state that a backup can be made of.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// It could not be read.
    #[error("the state cannot be read: {0}; check the store, then try again")]
    Read(#[from] ReadError),
    /// There is nothing to keep yet.
    #[error("there is no CA yet: nothing to back up")]
    Empty,
    /// The record cannot be used.
    #[error("the record of roots cannot be used: {0}")]
    Record(String),
    /// The record changed each time that the state was read.
    #[error(
        "the state changed each time that it was read ({tries} times): try again in a minute, or when the rotation that is under \
         way has ended"
    )]
    Moves {
        /// How often it was read.
        tries: usize,
    },
    /// It is something else.
    #[error("it is no backup of Banyan: it does not begin as one")]
    NotABackup,
    /// A newer release wrote it.
    #[error(
        "it has format {found}, and this release reads up to {FORMAT}: use the release that wrote it, or a newer one"
    )]
    Newer {
        /// Its format.
        found: u32,
    },
    /// A newer release wrote it: it has something that this one does not know.
    #[error(
        "it holds the space \"{space}\", which this release does not know: use the release that wrote it ({release}), or a newer one"
    )]
    NewerSpace {
        /// What it holds.
        space: String,
        /// Who wrote it.
        release: String,
    },
    /// It is not what was written.
    #[error(
        "it is damaged at byte {offset} ({place}): {what}; use another copy, or an older backup"
    )]
    Damaged {
        /// Where.
        offset: u64,
        /// The part that begins there: `the header`, `entry 12`, `the end`.
        place: String,
        /// What is wrong.
        what: String,
    },
}
