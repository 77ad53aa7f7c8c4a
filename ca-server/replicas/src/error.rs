//! Why a replica is none, or is one no more.

use rotation::ReplicaName;
use stores::InvalidKey;

use crate::UnreadableRow;

/// Why a server could not join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Another process has the name, and lives.
    #[error(
        "another server is running as replica {name}{}: give this one another `replica.name`, or stop that one",
        at(address.as_deref())
    )]
    NameTaken {
        /// The name.
        name: ReplicaName,
        /// Where that one is.
        address: Option<String>,
    },
    /// The row of this name cannot be read.
    #[error(transparent)]
    Unreadable(#[from] UnreadableRow),
    /// The name makes no key.
    #[error("the replica's name makes no key: {0}")]
    Name(#[from] InvalidKey),
}

fn at(address: Option<&str>) -> String {
    address.map(|address| format!(" at {address}")).unwrap_or_default()
}

/// Why a server is no replica any more. It must stop, and release nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Another process took the name.
    #[error(
        "another process has taken the name of replica {name}{}: this one stops; two servers need two names",
        at(address.as_deref())
    )]
    Taken {
        /// The name.
        name: ReplicaName,
        /// Where that one is.
        address: Option<String>,
    },
    /// An operator removed it.
    #[error("replica {name} was removed: this one stops, and joins anew when it is started again")]
    Removed {
        /// The name.
        name: ReplicaName,
    },
    /// Its row was edited.
    #[error(transparent)]
    Unreadable(#[from] UnreadableRow),
}
