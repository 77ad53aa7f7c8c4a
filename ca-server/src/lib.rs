//! The CA process: gRPC services, authentication, authorization, issuance, ledger, admin.
#![forbid(unsafe_code)]

pub mod authn;
pub mod authz;
pub mod config;
mod metrics;
pub mod refusal;
mod transport;

pub use config::{Config, ConfigError};
