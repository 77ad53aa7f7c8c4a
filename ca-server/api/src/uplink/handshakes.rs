//! What proxies count of their handshakes, as their agent says.

use control::handshakes::{HandshakeCounts, HandshakeReport};
use proto::banyan::agent::v1 as wire;
use trust::{SpiffeId, Timestamp};

use super::Uplink;

/// Identities of one message that are looked at.
const COUNTS_MAX: usize = 1_024;

impl Uplink {
    /// Notes what is said of identities that the agent is entitled to; it opens no gate.
    pub(super) fn handshakes(&self, said: &wire::HandshakeCounts) {
        let now = self.ca.clock.now();
        let Some((agent, _)) = self.ca.registry.agent(&self.agent) else { return };
        for count in said.counts.iter().take(COUNTS_MAX) {
            let Ok(identity) = SpiffeId::parse(&count.spiffe_id) else { continue };
            if !agent.identities.contains(&identity) {
                tracing::debug!(agent = self.agent, %identity, "counts of an identity that the agent has no right to");
                continue;
            }
            self.ca.handshakes.heard(&self.agent, &identity, report(count), now);
        }
        self.session.note(now, |_| {});
    }
}

const fn report(count: &wire::HandshakeCount) -> HandshakeReport {
    HandshakeReport {
        since: Timestamp::from_secs(count.since),
        counts: HandshakeCounts {
            handshakes: count.handshakes,
            connection_errors: count.connection_errors,
            refused_peers: count.refused_peers,
        },
        endpoints: count.endpoints,
        silent: count.silent_endpoints,
    }
}
