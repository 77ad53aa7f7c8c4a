//! What a server needs of the machine.

use std::sync::Arc;

use host::{Disk, OsRandomness, RealDisk, SystemClock};
use trust::{Clock, Randomness};

/// What a server needs of the machine.
#[derive(Debug, Clone)]
pub struct HostDeps {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Serial numbers, ids and the secrets of join tokens.
    pub randomness: Arc<dyn Randomness>,
    /// Durable files.
    pub disk: Arc<dyn Disk>,
}

impl HostDeps {
    /// The machine itself.
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            randomness: Arc::new(OsRandomness::new()),
            disk: Arc::new(RealDisk),
        }
    }
}
