//! The CA process: gRPC services, authentication, authorization, issuance, ledger, admin.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | `banyan.toml`, checked as a whole |
//! | [`boot`] | starts and stops a server; the task that keeps it up |
//! | `service` | gRPC handlers: each owns the order of steps of its request |
//! | `bundles` | bundles of the past, and the signature of each change |
//! | `hear` | what agents say they hold, on its way into the record |
//! | `seen` | what agents hold that the record never published |
//! | `reissue` | leaves of a root that drains, asked for at a pace |
//! | `explain`, `forecast` | where a rotation stands, who holds its gate, and what one would wait for |
//! | `leaves` | leaves that may live, as operators see them |
//! | `levels` | what shall be so and is tried for until it is |
//! | `findings` | what was found wrong with files when they were looked at last |
//! | `status`, `conditions`, `roots`, `roster`, `metrics` | what operators see |
//!
//! Start at [`Server::start`] for the wiring, and at `service/istio.rs` for the way of one CSR.
#![forbid(unsafe_code)]

mod away;
pub mod boot;
mod bundles;
mod ca;
mod census;
mod conditions;
pub mod config;
mod drift;
mod explain;
mod findings;
mod forecast;
mod front;
mod further;
mod gauges;
mod hear;
mod hierarchy;
mod hush;
mod leaves;
mod levels;
mod metered;
mod metrics;
mod own_trust;
mod paths;
mod reissue;
mod roots;
mod roster;
mod seen;
mod service;
mod spans;
mod status;
mod target;

pub use boot::{BootError, Embedding, HostDeps, Running, Server};
pub use config::{Config, ConfigError};
