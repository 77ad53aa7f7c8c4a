//! How a cluster of Kubernetes is reached: as whom, over which connection, and one bounded exchange with its API.
//!
//! | file | what |
//! |---|---|
//! | `access.rs` | [`Access`]: a Pod's service account, a token and a CA in files, or a kubeconfig |
//! | `connection.rs` | [`Connections`]: the client in use, until it fails or is refused; then files are read anew |
//! | `exchange.rs` | [`exchanged`]: one request and its answer, bounded in size; a deadline is the caller's |
//! | `pods.rs` | [`PodObject`]: Pods, and where they are listed ([`pods_listed`]) and watched ([`pods_watched`]) |
//!
//! What is not here: what else is asked, what an answer means, and whether to ask again. Redirects are not followed, proxies are not
//! used, and nothing is tried again.
#![forbid(unsafe_code)]

mod access;
mod connection;
mod exchange;
mod pods;

pub use access::{Access, InCluster, POD_TOKEN};
pub use connection::{Connection, Connections, cause};
pub use exchange::{Answered, CallFailed, exchanged, parsed};
pub use pods::{
    POD_PAGE_BYTES, PodList, PodListMeta, PodMeta, PodObject, PodSpec, PodStatus, encoded,
    is_expired, pods_listed, pods_watched,
};
