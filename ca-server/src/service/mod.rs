//! The gRPC services: from wire messages to the domain and back.
//!
//! A handler owns the order of steps of its request and nothing else: parse (`trust`), authenticate (`authn`), prove
//! possession, authorize (`authz`), issue (`issuance`), reply. [`call`] keeps what refusals and metrics need to know.

pub(crate) mod admin;
pub(crate) mod agent;
pub(crate) mod agent_admin;
pub(crate) mod authority;
mod call;
mod clock;
pub(crate) mod downstream;
pub(crate) mod entrance;
mod intake;
pub(crate) mod istio;
mod join;
pub(crate) mod leaf;
mod page;
mod prune;
mod relying_parties;
pub(crate) mod rotation;
pub(crate) mod state;
pub(crate) mod token;
mod uplink;
mod watcher;
mod wire;
mod words;
