//! How a cluster of Kubernetes is reached: as whom, over which connection, and one bounded exchange with its API.
//!
//! | file | what |
//! |---|---|
//! | `access.rs` | [`Access`]: a Pod's service account, a token and a CA in files, or a kubeconfig |
//! | `connection.rs` | [`Connections`]: the client in use, until it fails or is refused; then files are read anew |
//! | `exchange.rs` | [`exchanged`]: one request and its answer, bounded in size; a deadline is the caller's |
//!
//! What is not here: what is asked, what an answer means, and whether to ask again. Redirects are not followed, proxies are not
//! used, and nothing is tried again.
#![forbid(unsafe_code)]

mod access;
mod connection;
mod exchange;

pub use access::{Access, InCluster, POD_TOKEN};
pub use connection::{Connection, Connections, cause};
pub use exchange::{Answered, CallFailed, exchanged, parsed};
