//! The registry: which join tokens were handed out, which agents joined and what each may ask for, and who relies on the
//! bundle without a leaf.
//!
//! All of it is in memory and in `registry.redb`; a change is durable before anybody sees it. One writer at a time,
//! off the async threads. After a failed write nothing more is written until the file has been opened and read again: what
//! is on the disk is unknown then. The upkeep tries that every few seconds.
//!
//! What the rows are is in `rows.rs`; who is connected, which nothing durable says, in [`sessions`]. The registry answers what
//! authentication and authorization ask (`ports.rs`). Start at [`AgentRegistry`].
#![forbid(unsafe_code)]

mod agents;
mod attested;
mod downstream;
mod error;
mod pace;
mod ports;
mod registry;
mod relying_parties;
mod rows;
mod rulings;
pub mod sessions;
mod store;
#[cfg(test)]
mod stored_tests;
mod tokens;

pub use error::RegistryError;
pub use registry::{AgentRegistry, Limits, Membership, TOKENS_MAX, check_token};
pub use rows::{
    ActRow, AgentRow, AttestedRow, BanRow, Confirmation, DownstreamIssuer, DownstreamRow,
    ListedAgent, Newcomer, RelyingPartyRow, Seen, TokenHash, TokenRow,
};
pub use rulings::{Ruled, Ruling, Sentence};
pub use store::RegistryUnreadable;
pub use tokens::id_of;
