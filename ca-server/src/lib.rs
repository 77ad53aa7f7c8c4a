//! The CA process: gRPC services, authentication, authorization, issuance, ledger, admin.
#![forbid(unsafe_code)]

pub mod config;
mod metrics;
mod transport;

pub use config::{Config, ConfigError};
