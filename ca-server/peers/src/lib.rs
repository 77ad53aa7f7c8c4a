//! Calls to the other servers of one CA (`banyan.replica.v1`): one channel to each, over TLS, by names of the CA's own.
//!
//! A server is called at the address that it says itself, and believed by its certificate: its id is `/banyan/ca/NAME` of the
//! very name that is meant, under a root of the bundle in force. This server shows the certificate that it serves with. A channel
//! is made anew when the bundle, that certificate or the address changes, and connects when it is used.
//!
//! Deadlines, how many calls there are at a time and whom to leave alone for a while is decided in [`control::peers`].
#![forbid(unsafe_code)]

mod channel;
mod client;
mod wire;

pub use client::PeerClient;
