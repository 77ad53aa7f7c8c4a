//! Sockets: what untrusted clients can reach, and how much of the machine they may take.
//!
//! | listener | speaks | judged by |
//! |---|---|---|
//! | [`grpc`] | gRPC over TLS | the server, at every call: the handshake accepts any client certificate whose key is proven |
//! | [`unix`] | the admin API on a Unix socket | the kernel's peer credentials |
//! | [`document`] | HTTPS for one public document | nobody: it is for everybody |
//! | [`plain`] | health and metrics | nobody: nothing secret is there |
//!
//! One accept loop ([`accept`]) serves them all: it survives errors of `accept` and owns its tasks. The connections of a
//! port are a [`crowd`], which knows the `conduct` of each: it bounds how many there are, ends those that hold places or
//! memory for nothing, and keeps a good client's way free. `watched` counts frames on their way in, `answer` the bytes
//! that wait on their way out. [`guard`] stands before every gRPC handler: size of metadata, requests in flight, time.
//! The bounds are [`Limits`], and what the system grants ([`files`]).
//!
//! It knows no service and no caller: handlers are routes, and whoever embeds it tells it who is believed ([`grpc::Doorman`]),
//! how a refusal is said ([`RejectionHandler`]) and where it counts ([`Meter`]).
#![forbid(unsafe_code)]

pub mod accept;
mod answer;
mod body;
mod common;
mod conduct;
pub mod crowd;
mod cut;
mod departure;
mod distrust;
pub mod document;
pub mod files;
pub mod grpc;
pub mod guard;
mod limits;
mod meter;
mod peer;
pub mod plain;
mod rejection;
mod rules;
pub mod tls;
pub mod unix;
mod watched;

#[cfg(test)]
mod tests;

pub use conduct::Conduct;
pub use departure::{Departure, Resident};
pub use limits::Limits;
pub use meter::Meter;
pub use peer::Peer;
pub use rejection::{MESSAGE_BYTES_MAX, METADATA_BYTES_MAX, Rejection, RejectionHandler};
pub use rules::Rules;
