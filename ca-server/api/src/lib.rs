//! What a CA answers: gRPC services, from wire messages to the domain and back, and the sockets that they are served on.
//!
//! A handler owns the order of steps of its request and nothing else: parse (`trust`), authenticate and authorize (`auth`), prove
//! possession, issue (`issuance`), reply. `call` keeps what refusals and metrics need to know. What operators are told is a
//! value of `control`; `wire` is the one place that turns values into messages.
//!
//! Start at `istio.rs` for the way of one CSR, and at [`Sockets::serve`] for which service is on which socket.
#![forbid(unsafe_code)]

mod admin;
mod agent;
mod agent_admin;
mod authority;
mod backup;
mod ban;
mod call;
mod clock;
mod cohorts;
mod covers;
mod crl;
mod documents;
mod downstream;
mod downstream_admin;
mod entrance;
mod federation;
mod intake;
mod issuer;
mod istio;
mod join;
mod leaf;
mod listen;
mod page;
mod peer;
mod prune;
mod relying_parties;
mod replica;
mod revocations;
mod rotation;
mod ruling;
mod signer;
mod starting;
mod state;
mod token;
mod uplink;
mod waiver;
mod watcher;
mod wire;
mod words;

pub use admin::OperatorSettings;
pub use documents::{ShownAs, fits};
pub use listen::{Addresses, ListenError, Served, ServerFront, Settings, Sockets};
pub use rotation::Defaults;
pub use starting::StartingProbes;
