//! What is counted of the traffic.

use serde::Serialize;

/// Counters of the load at one moment.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Connections tried.
    pub handshakes: u64,
    /// Connections that failed while both sides had a live leaf.
    pub failed: u64,
    /// Connections that one side could not open or take for want of a live leaf, or because it was frozen.
    pub expired: u64,
    /// Renewals of each workload.
    pub renewals: Vec<u64>,
    /// Ordered pairs that talked.
    pub pairs: usize,
    /// The first failures, in words.
    pub samples: Vec<FailureSample>,
}

/// One failed connection.
#[derive(Debug, Clone, Serialize)]
pub struct FailureSample {
    /// SPIFFE id of the side that opened it.
    pub client: String,
    /// SPIFFE id of the side that was called.
    pub server: String,
    /// What was seen.
    pub error: String,
}
