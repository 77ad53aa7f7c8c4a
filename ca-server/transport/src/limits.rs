//! How much of the machine clients may take: the settings of this part.

use std::time::Duration;

/// What clients of the TLS port and of the admin socket may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open TLS connections of one address (IPv6: the first 64 bits).
    pub connections_per_address: usize,
    /// TLS handshakes under way. While half as many are, an address with more than an eighth of them has a fifth of
    /// `handshake_timeout` for each.
    pub handshakes: usize,
    /// Concurrent HTTP/2 streams on one connection.
    pub streams_per_connection: u32,
    /// The same, on a connection on which nobody has shown a credential yet.
    pub streams_without_credential: u32,
    /// Bytes of requests under way and of answers that wait to be sent, over all connections. Beyond them the connections
    /// without a credential end that have most of it; beyond four times as much, others too.
    pub unsent_bytes: u64,
    /// After this time a connection is asked to end.
    pub connection_age: Duration,
    /// Time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// Time from the handshake to the first request.
    pub first_request_timeout: Duration,
    /// Time that a connection may be idle.
    pub idle_timeout: Duration,
    /// Time in which a client takes an answer.
    pub answer_timeout: Duration,
}
