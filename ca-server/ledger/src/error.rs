//! What goes wrong, by what the caller can do about it.

use std::io;
use std::path::PathBuf;

use trust::{ClockDiverged, Serial};

use crate::segment::{InvalidSegmentId, SegmentId};

/// Why a running ledger did not take a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// No space is left. Nothing was stored; later rows are taken again once there is space.
    #[error("no space left for the ledger at {}: free some; the server takes new requests again by itself", path.display())]
    Full {
        /// The file that was written.
        path: PathBuf,
    },
    /// The write failed and was taken back. Nothing was stored; later rows may succeed.
    #[error("the ledger could not write {}: {reason}; nothing was issued, the caller may try again", path.display())]
    WriteFailed {
        /// The file that was written.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// It is not known what is on the disk. This incarnation takes no row any more.
    #[error("the ledger at {} stopped after a failed write: {reason}; check the disk, then restart this server", path.display())]
    Poisoned {
        /// The file that was written.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// The segment was closed: by a shutdown, or because a gate rests on its passed bound.
    #[error(
        "the ledger's segment is closed and takes no further row: restart this server to open a new one"
    )]
    Closed,
    /// The serial number is taken. Draw another one.
    #[error("serial {0} is in the ledger already: draw another serial number")]
    DuplicateSerial(Serial),
    /// An identity or an agent has as many live rows as it may.
    #[error(
        "{holder} has {limit} live leaves, the maximum: use or release them, or raise {setting}"
    )]
    TooMany {
        /// Whose rows they are.
        holder: String,
        /// How many it may have.
        limit: u64,
        /// The setting that says so.
        setting: &'static str,
    },
    /// The row cannot be stored: a text in it is over its bound.
    #[error("a {field} of {len} bytes is too long for the ledger, at most {max}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length.
        len: usize,
        /// The most that is stored.
        max: usize,
    },
    /// Nobody knows what time it is, so nothing is dropped for being over.
    #[error("nothing of the ledger is dropped: {0}")]
    Clock(#[from] ClockDiverged),
    /// A file that was read for compaction is not as it should be.
    #[error(transparent)]
    Damaged(#[from] Damage),
}

/// Why evidence about a row was not taken. The index did not move.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// There is no such row: it expired, or it was never here.
    #[error("no live row has serial {0}: drop the leaf, or ask for a new one")]
    UnknownRow(Serial),
    /// The row belongs to another agent, or to none.
    #[error(
        "serial {serial} is not held by agent {agent}: report only leaves that were handed to this agent"
    )]
    NotYours {
        /// The row.
        serial: Serial,
        /// Who spoke.
        agent: String,
    },
    /// The row has ended, or its successor has.
    #[error("the row of serial {0} has ended: report about its successor")]
    Ended(Serial),
    /// An operator said by name that nobody holds the leaf.
    #[error("the row of serial {0} was forgotten by an operator's word")]
    Forgotten(Serial),
    /// The evidence could not be written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Why the ledger could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A segment id that cannot be the name of a directory.
    #[error(transparent)]
    BadSegment(#[from] InvalidSegmentId),
    /// The segment has files already.
    #[error("segment {segment} has files at {} already: open a new segment id at each start", path.display())]
    SegmentInUse {
        /// The segment.
        segment: SegmentId,
        /// Its directory.
        path: PathBuf,
    },
    /// A setting is out of its bounds.
    #[error("ledger setting {name} is {value}, it must be {bounds}")]
    BadSetting {
        /// The setting.
        name: &'static str,
        /// What it is set to.
        value: String,
        /// What it may be.
        bounds: &'static str,
    },
    /// A file is not as it should be.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The operating system refused.
    #[error("the ledger cannot {operation} {}: {source}; check the disk and the permissions, then start again", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// A file whose bytes cannot be trusted. Its rows must not be taken for gone: they count until the bound that the
/// rotation's record keeps for the segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The bytes are not what was written.
    #[error(
        "{} is damaged at byte {offset}: {what}; restore the file from a backup, or move its segment's directory \
         away: its rows then count until the segment's recorded bound", path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// The file is sound, but this program is too old to read it.
    #[error("{} has at byte {offset} a record that a newer version wrote: start that version, or a later one", path.display())]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
    },
    /// What is stated about closed files is not what was written.
    #[error(
        "{} is damaged; restore it from a backup, or remove it: what closed files were is not known then, and one that was cut \
         short meanwhile goes unnoticed", path.display()
    )]
    Statements {
        /// The file.
        path: PathBuf,
    },
    /// The file could not be read.
    #[error("{} cannot be read: {reason}; check the disk and the permissions", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
}
