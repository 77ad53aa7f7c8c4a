//! Durable rows of every leaf that may live, and the audit of what was refused.
//!
//! A row is durable before its leaf is signed, so that whatever was handed out is counted here. Rows and what happens
//! to them are records in append-only, checksummed files; one thread writes them, many at a time, and syncs once for
//! all of them. An index in memory answers what gates ask: how many rows were born before a sequence and have no
//! proof of it, how many are under a root, and until when.
//!
//! Files are `<dir>/<segment>/<number>.log`: a segment is one incarnation of one replica, and is never written by
//! another. What cannot be read with certainty stops the start; it is never taken for "no rows". What a closed file was is
//! stated apart from it, so that one that is short or gone is a fault of its segment (`manifest`).
//!
//! The file that is written has zeros behind its records, so that a commit overwrites them and changes no metadata
//! (`docs/decisions/0014-zeros-ahead-of-the-ledger.md`). They are cut off when the file is closed, or at the next start.
//!
//! This crate decides nothing about gates, certificates or callers. Start at [`Ledger`]; formats are in `frame`,
//! `codec` and `compact`, what a crash leaves in `tail`, the writing in `writer`, the reading in `recovery`.
#![forbid(unsafe_code)]

mod aggregates;
mod codec;
mod compact;
mod compaction;
mod envelope;
mod error;
mod evidence;
mod fields;
mod files;
mod forgotten;
mod frame;
mod index;
mod input;
mod intent;
mod ledger;
mod manifest;
mod pool;
pub mod reader;
mod record;
mod recovery;
mod refusals;
mod row;
mod running;
mod segment;
mod settings;
mod shared;
mod shorthand;
mod stats;
mod store;
mod tail;
mod unmatched;
mod whose;
mod writer;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use aggregates::{Aggregates, Required, Standing, Tally};
pub use compaction::Compaction;
pub use error::{Damage, EvidenceError, LedgerError, OpenError};
pub use evidence::{Reported, Witness};
pub use index::{Cursor, Page, RowFilter};
pub use intent::DurableIntent;
pub use ledger::Ledger;
pub use manifest::SegmentFault;
pub use record::{AuditRefusal, Entry, Record, TEXT_BYTES_MAX};
pub use recovery::{Recovered, RecoveredSegment, TornTail};
pub use row::{
    Applied, Ended, Evidence, EvidenceClass, Forgotten, LiveRow, Probe, Probed, Proof, Row,
    RowKind, Word,
};
pub use segment::{FileId, InvalidSegmentId, SegmentId};
pub use settings::{OpenOptions, Settings, WritesOn};
pub use stats::LedgerStats;
