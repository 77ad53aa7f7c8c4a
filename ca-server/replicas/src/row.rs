//! What a replica writes of itself, and what operators want of it.

use std::time::Duration;

use rotation::ReplicaName;
use serde::{Deserialize, Serialize};
use stores::spaces::REPLICAS;
use stores::{InvalidKey, Key, Space};

/// What a replica does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It starts, and serves nobody yet.
    Starts,
    /// It serves.
    Serves,
    /// It lets its agents go elsewhere, and releases no leaf.
    Drains,
    /// It stopped in order: nothing of it is in flight.
    Stopped,
}

impl Standing {
    /// Its name in texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starts => "starting",
            Self::Serves => "serving",
            Self::Drains => "draining",
            Self::Stopped => "stopped",
        }
    }
}

/// A replica, as it says itself. Fields that a newer release adds are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaRow {
    /// Chosen at random by the process.
    pub holder: String,
    /// Chosen at random when the data directory was made: two processes with the same hold the same lock, one after the
    /// other.
    pub place: String,
    /// Where other replicas reach it, `host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its release.
    pub version: String,
    /// The newest format of the record that it can read.
    pub reads: u32,
    /// Length of its lease, in milliseconds.
    pub lease_millis: u64,
    /// Counted up at each renewal of the lease.
    pub beat: u64,
    /// Its wall clock at the renewal, in milliseconds since the Unix epoch.
    pub wall_millis: i64,
    /// What it does.
    pub standing: Standing,
    /// The segment of the ledger that it writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
}

/// Somebody wants a replica to serve nobody any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Who said so.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, in seconds since the Unix epoch.
    pub at_secs: i64,
    /// Time over which its agents are spread, in seconds.
    pub spread_secs: u64,
}

/// A row that this program did not write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{key} was not written by this program ({what}): delete it, and start the replica that it names again"
)]
pub struct UnreadableRow {
    /// Where it is.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
}

impl ReplicaRow {
    /// Length of its lease.
    pub const fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_millis)
    }

    pub(crate) const fn space() -> Space {
        REPLICAS
    }

    pub(crate) fn key(name: &ReplicaName) -> Result<Key, InvalidKey> {
        REPLICAS.key(name.as_str())
    }

    /// Reads a row of this name.
    ///
    /// # Errors
    /// [`UnreadableRow`].
    pub fn decode(id: &str, bytes: &[u8]) -> Result<Self, UnreadableRow> {
        let unreadable = |error: serde_json::Error| UnreadableRow {
            key: format!("{}/{id}", REPLICAS.name()),
            what: error.to_string(),
        };
        serde_json::from_slice(bytes).map_err(unreadable)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // Texts and numbers alone: nothing in it can fail to be written.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
