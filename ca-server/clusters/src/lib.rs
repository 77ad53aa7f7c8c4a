//! Clusters of Kubernetes whose service accounts get certificates: their tokens, and which pods run where.
//!
//! | file | what |
//! |---|---|
//! | `set.rs` | [`KubeClusters`]: which cluster a token is for; implements the port of [`auth::authn::cluster`] |
//! | `cluster.rs` | one cluster: token review or key set, pods, looks at its rights |
//! | `reviews.rs` | reviews of tokens: remembered for a bounded time, joined, so many at a time |
//! | `keys.rs`, `fetch.rs` | the cluster's key set: fetched, kept until it is too old, refreshed when a key is unknown; by it tokens are judged, or forgeries found before the cluster is asked |
//! | `pods.rs`, `watch.rs` | the pods of a cluster, and the watch that keeps them |
//! | `api.rs` | what is asked of the API server, one bounded call each |
//! | `look.rs` | whether the server's account has the rights that it needs |
//! | `health.rs`, `counters.rs` | what is wrong now, and what is counted |
//!
//! What makes a token good, and what a node account may have, is decided in `auth`; here is how that is found out.
#![forbid(unsafe_code)]

mod api;
mod cluster;
mod counters;
mod fetch;
mod health;
mod keys;
mod look;
mod pods;
mod reviews;
mod set;
mod settings;
mod watch;

pub use fetch::{AddressRefused, KeySetAddress};
pub use look::look;
pub use set::KubeClusters;
pub use settings::{ClusterSettings, Judged};
