//! The CA process: gRPC services, authentication, authorization, issuance, ledger, admin.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | `banyan.toml`, checked as a whole |
//! | [`boot`] | starts and stops a server; the task that keeps it up |
//! | `transport` | sockets, TLS, limits |
//! | `service` | gRPC handlers: each owns the order of steps of its request |
//! | [`authn`], [`authz`] | who calls, and what they may have |
//! | [`refusal`] | every way to say no, in one table |
//! | `bundles` | bundles of the past, and who vouched for each change |
//! | `registry`, `sessions` | agents and join tokens; who is connected |
//! | `seen` | what agents hold that the record never published |
//! | `reissue` | leaves of a root that drains, asked for at a pace |
//! | `explain`, `forecast` | where a rotation stands, who holds its gate, and what one would wait for |
//! | `leaves` | leaves that may live, as operators see them |
//! | `levels` | what shall be so and is tried for until it is |
//! | `findings` | what was found wrong with files when they were looked at last |
//! | `pace` | how fast one identity gets leaves |
//! | `admin`, `metrics` | what operators see |
//!
//! Start at [`Server::start`] for the wiring, and at `service/istio.rs` for the way of one CSR.
#![forbid(unsafe_code)]

mod admin;
pub mod authn;
pub mod authz;
mod away;
pub mod boot;
mod bundles;
mod ca;
mod census;
pub mod config;
mod drift;
mod explain;
mod findings;
#[cfg(test)]
#[path = "../issuance/src/fixture.rs"]
mod fixture;
mod forecast;
mod further;
mod hush;
mod leaves;
mod levels;
mod metered;
mod metrics;
mod own_trust;
mod pace;
pub mod refusal;
mod registry;
mod reissue;
mod roster;
mod seen;
mod service;
mod sessions;
mod spans;
mod target;
mod tier;
mod transport;

pub use boot::{BootError, Embedding, HostDeps, Running, Server};
pub use config::{Config, ConfigError};
