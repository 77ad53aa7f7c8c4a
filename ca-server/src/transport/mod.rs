//! Sockets: what strangers can reach, and how much of the machine they may take.
//!
//! | listener | speaks | judged by |
//! |---|---|---|
//! | [`grpc`] | gRPC over TLS | `authn`, at every call: the handshake accepts any client certificate whose key is proven |
//! | [`unix`] | the admin API on a Unix socket | the kernel's peer credentials |
//! | [`plain`] | health and metrics | nobody: nothing secret is there |
//!
//! One accept loop ([`accept`]) serves them all: it bounds the connections, survives errors of `accept` and owns its
//! tasks. [`guard`] stands before every gRPC handler: size of metadata, requests in flight, time. The bounds come from
//! the section `[limits]` of the configuration.

pub(crate) mod accept;
pub(crate) mod body;
pub(crate) mod grpc;
pub(crate) mod guard;
pub(crate) mod plain;
pub(crate) mod tls;
pub(crate) mod unix;
