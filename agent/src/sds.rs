//! Envoy's secret discovery service on a Unix socket.
//!
//! An adapter of the hub: it speaks the protocol. What is served to whom, and in which order, is the hub's.

pub(crate) mod attest;
pub(crate) mod secret;
pub(crate) mod server;
pub(crate) mod socket;
