//! What stands at the beginning of a backup.

use serde::{Deserialize, Serialize};

/// The format of the file that this release writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// What stands at the beginning of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Whose state it is.
    pub trust_domain: String,
    /// Tells this CA from every other.
    pub ca: String,
    /// The format of the state.
    pub state_format: u64,
    /// The release that wrote the file.
    pub release: String,
    /// When it was made, in seconds since the Unix epoch.
    pub taken_at: i64,
    /// The generation of the record.
    pub generation: u64,
    /// The sequence of its bundle.
    pub sequence: u64,
    /// The phase that it is in.
    pub phase: String,
    /// Whether the sealed keys of roots are in it.
    pub with_keys: bool,
    /// Whether rows of the registry were written while they were read, so that two of them may be of different moments.
    pub registry_moved: bool,
}
