//! Segments of the ledger, as the record counts them.
//!
//! A row in a segment is a leaf that may be alive. What a gate may conclude from a segment depends on its state
//! here, never on whether its replica still answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trust::{Generation, RootId, Timestamp};

use crate::ReplicaName;
use crate::codec;

/// One incarnation of one replica, and what it may still release.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Segment {
    /// Whose it is.
    pub replica: ReplicaName,
    /// What its rows prove.
    pub state: SegmentState,
    /// Latest end of any leaf that it may release, by root. Never above the root's horizon, never goes back.
    #[serde(with = "codec::bounds")]
    pub bounds: BTreeMap<RootId, Timestamp>,
}

/// What the rows of a segment prove.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentState {
    /// It takes rows, on any snapshot its replica may still hold: reading it proves nothing.
    Open,
    /// It takes rows only on snapshots of this generation or newer; whatever was released on a former one is in it.
    Sealed {
        /// The oldest snapshot that is still in use.
        #[serde(with = "codec::generation")]
        generation: Generation,
    },
    /// It takes no row and no extension, for ever.
    Closed(Contents),
}

/// Whether the rows of a closed segment are known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contents {
    /// All its rows have been read.
    Read,
    /// Its file could not be read: it counts as full until its bounds have passed, never as empty.
    Unread,
}

impl Segment {
    /// Whether it takes no row and no extension any more.
    pub const fn is_closed(&self) -> bool {
        matches!(self.state, SegmentState::Closed(_))
    }

    /// The latest of its bounds; `None` if it never was allowed to release a leaf.
    pub fn last_bound(&self) -> Option<Timestamp> {
        self.bounds.values().max().copied()
    }
}
