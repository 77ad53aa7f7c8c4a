//! The side of the workload: one agent for each host takes bundles and leaves from the CA and serves them to Envoy.
//!
//! It obeys bundles and reports; it knows no rotation and no CA key. Workload keys are made here, live in memory, and
//! leave only over the local socket, to the user id that the configuration names, or to the Pod that the identity is of.
//!
//! | step | module |
//! |---|---|
//! | configuration is read and checked; what it names on this machine is looked at | [`config`], `preflight` |
//! | the right CA is found, the agent joins and renews its own certificate | `first_contact`, `member`, `identity` |
//! | calls to the CA, over channels that follow every change of trust | `ca_client` |
//! | bundles down and evidence up, by level | `uplink`, `evidence` |
//! | one task owns the state: bundles, leaves, holders, streams | `hub` |
//! | what is durable before anybody is told: bundles, those of other trust domains, holders | `bundle_store`, `foreign`, `holders` |
//! | the order in which a holder gets trust and leaves; pure | `install` |
//! | whether proxies can verify the root that shall sign | `probe`, `probed` |
//! | what its Envoys count of handshakes | `envoy_admin`, `counted` |
//! | revocation lists, and when holders do without | `lists` |
//! | how the agent is, for root and its own user | `local` |
//! | Envoy's secret discovery service on a Unix socket | `sds` |
//! | which Pod of the node a caller runs in, of an agent of a node | `pods`, `node` |
//! | a bootstrap file for an Envoy that uses it | [`envoy_config`] |
//!
//! Start at [`Agent::start`], then `hub`; the rule that everything else serves is in `install`.

mod admin;
mod backoff;
mod bundle_store;
mod ca_client;
pub mod config;
mod counted;
mod envoy_admin;
pub mod envoy_config;
mod evidence;
#[cfg(test)]
mod fakes;
mod first_contact;
mod foreign;
mod holders;
mod hub;
mod identity;
mod in_flight;
mod install;
mod key;
mod leaf;
mod lists;
mod local;
mod member;
mod node;
mod open_files;
mod pods;
mod preflight;
mod probe;
mod probed;
mod process;
mod running;
mod sds;
mod secret_name;
mod shares;
mod status;
#[cfg(test)]
mod tests;
mod uplink;

pub use bundle_store::BundleStoreError;
pub use config::{AgentConfig, ConfigError};
pub use foreign::ForeignStoreError;
pub use holders::HolderFileError;
pub use identity::IdentityError;
pub use running::{Agent, HostDeps, Running, StartError};
pub use sds::socket::SocketError;
pub use status::{
    CaAddressStatus, HolderStatus, ListenerStatus, MemberStatus, Status, WorkloadStatus,
};
