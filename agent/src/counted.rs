//! What Envoys of this machine count of their handshakes, as the CA is told it.

use proto::banyan::agent::v1 as wire;
use trust::{SpiffeId, Timestamp};

/// What the Envoys of one identity counted while this agent looked. No number goes back while the agent runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// When the agent began to look.
    pub(crate) since: Timestamp,
    pub(crate) sums: Sums,
    /// Admin endpoints that were asked.
    pub(crate) endpoints: u32,
    /// Those that gave no good answer when they were asked last.
    pub(crate) silent: u32,
}

/// Counts of listeners and upstream clusters together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) handshakes: u64,
    /// Handshakes that failed for another reason than the peer's certificate; that the peer refused ours is one of them.
    pub(crate) connection_errors: u64,
    /// Peers whose certificates were refused, or that had none.
    pub(crate) refused_peers: u64,
}

impl Sums {
    pub(crate) fn add(&mut self, more: Self) {
        self.handshakes = self.handshakes.saturating_add(more.handshakes);
        self.connection_errors = self.connection_errors.saturating_add(more.connection_errors);
        self.refused_peers = self.refused_peers.saturating_add(more.refused_peers);
    }
}

impl Counted {
    pub(crate) fn wire(&self, identity: &SpiffeId) -> wire::HandshakeCount {
        wire::HandshakeCount {
            spiffe_id: identity.to_string(),
            since: self.since.as_secs(),
            handshakes: self.sums.handshakes,
            connection_errors: self.sums.connection_errors,
            refused_peers: self.sums.refused_peers,
            endpoints: self.endpoints,
            silent_endpoints: self.silent,
        }
    }
}
