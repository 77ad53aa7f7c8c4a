//! Tokens of service accounts, judged by a real kube-apiserver or by its key set, and impersonation by node accounts.
//!
//! | file | what |
//! |---|---|
//! | `place.rs` | a cluster with nodes, pods and accounts, and CAs that know it |
//! | `tokens.rs` | the family "token" as a cluster judges it; rights; another cluster's tokens |
//! | `forged.rs` | forged tokens, which cost the API server nothing, and keys that are replaced or not known |
//! | `away.rs` | an API server that is away, slow, or comes back; a pod that is deleted |
//! | `offline.rs` | the family "key set" |
//! | `impersonation.rs` | the family "impersonation"; watches that are lost |
//! | `node_agents.rs` | agents of nodes, which show their token beside their certificate |
//! | `burst.rs` | many pods that begin at once |
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy takes helpers of tests for product code"
)]

mod away;
mod burst;
mod forged;
mod impersonation;
mod node_agents;
mod offline;
mod place;
mod tokens;
