//! Sockets: what untrusted clients can reach, and how much of the machine they may take.
//!
//! | listener | speaks | judged by |
//! |---|---|---|
//! | [`grpc`] | gRPC over TLS | `authn`, at every call: the handshake accepts any client certificate whose key is proven |
//! | [`unix`] | the admin API on a Unix socket | the kernel's peer credentials |
//! | [`plain`] | health and metrics | nobody: nothing secret is there |
//!
//! One accept loop ([`accept`]) serves them all: it survives errors of `accept` and owns its tasks. The connections of a
//! port are a [`crowd`], which knows the [`conduct`] of each: it bounds how many there are, ends those that hold places or
//! memory for nothing, and keeps a good client's way free. [`watched`] counts frames on their way in, [`answer`] the bytes
//! that wait on their way out. [`guard`] stands before every gRPC handler: size of metadata, requests in flight, time.
//! The bounds come from the section `[limits]` of the configuration, and from what the system grants ([`files`]).

pub(crate) mod accept;
pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod conduct;
pub(crate) mod crowd;
pub(crate) mod distrust;
pub(crate) mod files;
pub(crate) mod grpc;
pub(crate) mod guard;
pub(crate) mod plain;
pub(crate) mod tls;
pub(crate) mod unix;
pub(crate) mod watched;

#[cfg(test)]
mod tests;
