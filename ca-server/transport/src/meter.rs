//! The counters of a server, as connections use them.

use std::fmt;

use prometheus_client::metrics::gauge::Gauge;

/// Counts what happens to connections, and shows all counters.
pub trait Meter: Send + Sync + fmt::Debug {
    /// The server ended a connection, for one of a closed set of reasons.
    fn connection_cut(&self, reason: &'static str);

    /// Bytes that wait for the connections of a port; the same gauge at each call.
    fn unsent_bytes(&self, port: &'static str) -> Gauge;

    /// All counters of the server in the OpenMetrics text format.
    fn exposition(&self) -> String;
}
