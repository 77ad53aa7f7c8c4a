//! What holds on a port: how many may come, and how long each thing may take.

use std::time::Duration;

use crate::limits::Limits;

/// How often connections are looked at, and the unit in which their time is counted.
pub(crate) const TICK: Duration = Duration::from_millis(250);
/// An idle connection without a credential goes after this time, if idle ones may stay longer.
const UNTRUSTED_IDLE: Duration = Duration::from_secs(60);
/// Part of the places that is cleared at once when all are taken.
const CLEARED_AT_ONCE: usize = 64;

/// What holds on one port. Times are in ticks.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Name of the port in metrics.
    pub(crate) port: &'static str,
    /// Connections at a time.
    pub(crate) places: usize,
    /// Handshakes under way, beyond half of which time grows short.
    pub(crate) half_open: usize,
    /// Connections of one address.
    pub(crate) per_network: usize,
    /// Streams of a connection on which nobody showed a credential.
    pub(crate) untrusted_streams: u32,
    /// Bytes that wait for all connections.
    pub(crate) budget: u64,
    /// Time for a handshake.
    pub(crate) handshake: u32,
    /// Time from the handshake to the first request.
    pub(crate) first_request: u32,
    /// Time that a connection may be idle.
    pub(crate) idle: u32,
    /// Time that one without a credential may be idle.
    pub(crate) untrusted_idle: u32,
    /// Time in which a client takes an answer.
    pub(crate) answer: u32,
    /// Everybody is known here, and nobody is cut.
    pub(crate) all_known: bool,
    /// A connection with requests under way goes too when places are needed, if all have.
    pub(crate) busy_go_too: bool,
}

/// A duration in ticks, at least one.
pub(crate) fn ticks(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u32::MAX).max(1)
}

impl Rules {
    /// Those of the TLS port.
    pub fn of_untrusted(limits: &Limits, places: usize) -> Self {
        Self {
            port: "grpc",
            places,
            half_open: limits.handshakes,
            per_network: limits.connections_per_address,
            untrusted_streams: limits.streams_without_credential,
            budget: limits.unsent_bytes,
            handshake: ticks(limits.handshake_timeout),
            first_request: ticks(limits.first_request_timeout),
            idle: ticks(limits.idle_timeout),
            untrusted_idle: ticks(limits.idle_timeout.min(UNTRUSTED_IDLE)),
            answer: ticks(limits.answer_timeout),
            all_known: false,
            busy_go_too: false,
        }
    }

    /// Those of a port of probes: `within` a time they ask, take the answer, or ask again.
    pub fn of_probes(places: usize, within: Duration) -> Self {
        let within = ticks(within);
        Self {
            port: "plain",
            places,
            half_open: places,
            per_network: places,
            untrusted_streams: 16,
            budget: 16 * 1024 * 1024,
            handshake: within,
            first_request: within,
            idle: within,
            untrusted_idle: within,
            answer: within,
            all_known: false,
            busy_go_too: true,
        }
    }

    /// Those of a port where everybody may read a document: within a time they ask, take the answer, or ask again.
    pub fn of_documents(places: usize, within: Duration) -> Self {
        Self { port: "bundle", ..Self::of_probes(places, within) }
    }

    /// Those of a port that only operators can reach.
    pub const fn of_operators(places: usize) -> Self {
        Self {
            port: "admin",
            places,
            half_open: places,
            per_network: places,
            untrusted_streams: u32::MAX,
            budget: u64::MAX,
            handshake: u32::MAX,
            first_request: u32::MAX,
            idle: u32::MAX,
            untrusted_idle: u32::MAX,
            answer: u32::MAX,
            all_known: true,
            busy_go_too: false,
        }
    }
}

impl Rules {
    /// How many go when places run out: some at once, so that looking for them is cheap.
    pub(crate) fn share_of(&self, places: usize) -> Share {
        Share { most: (places / CLEARED_AT_ONCE).max(1), busy_too: self.busy_go_too }
    }
}

/// How many connections go at once, and which.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) most: usize,
    pub(crate) busy_too: bool,
}
