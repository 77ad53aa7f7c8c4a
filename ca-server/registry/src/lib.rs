//! The registry: which join tokens were handed out, which agents joined and what each may ask for, and who relies on the
//! bundle without a leaf.
//!
//! All of it is in the store that servers share, one key for each row, and in the memory of each server. A change is durable before
//! anybody sees it, and is made only of rows that nobody else changed meanwhile. While the store is away reading goes on.
//!
//! What the rows are is in `rows.rs`, how they are stored in `row.rs`; who is connected, which nothing durable says, in
//! [`sessions`]. The registry answers what authentication and authorization ask (`ports.rs`). Start at [`AgentRegistry`].
#![forbid(unsafe_code)]

mod agents;
mod attested;
mod ban_row;
mod bans;
mod cache;
mod change;
mod coverage;
mod downstream;
mod error;
#[cfg(test)]
mod fault_tests;
mod federation_row;
mod federations;
#[cfg(test)]
mod fixture;
mod follow;
mod former;
mod joining;
mod pace;
mod ports;
mod registry;
mod relying_parties;
mod row;
mod rows;
mod rulings;
pub mod sessions;
#[cfg(test)]
mod shared_tests;
#[cfg(test)]
mod stored_tests;
mod tables;
mod tokens;
mod waiver_row;
mod waivers;

pub use ban_row::{Ban, BanSubject};
pub use coverage::Coverage;
pub use error::{RegistryError, RegistryUnreadable, TakeOverError};
pub use federation_row::{Checked, EndpointProfile, FederationRow, ForeignBundle, ForeignRefused};
pub use federations::{FEDERATED_PARTY, FEDERATIONS_MAX, FederationAdded};
pub use follow::Following;
pub use former::take_over;
pub use joining::check_token;
pub use registry::{AgentRegistry, Limits, Membership};
pub use relying_parties::NEIGHBOR_PARTY;
pub use rows::{
    ActRow, AgentRow, AttestedRow, BanRow, Confirmation, DownstreamIssuer, DownstreamRow,
    ListedAgent, Newcomer, RelyingPartyRow, Seen, TokenHash, TokenRow, id_of,
};
pub use rulings::{Ruled, Ruling, Sentence};
pub use tokens::TOKENS_MAX;
pub use waiver_row::WaiverRow;
