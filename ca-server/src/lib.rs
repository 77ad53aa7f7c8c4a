//! The CA process: what it is made of, and in which order that starts and stops.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | `banyan.toml`, checked as a whole; nobody else reads it |
//! | [`boot`] | the plugins that there are, the settings of each part, the order of the start and of the stop |
//!
//! What it is made of are crates of their own: `transport`, `auth`, `registry`, `ledger`, `issuance`, `control` and `api`. Start at
//! [`Server::start`].
#![forbid(unsafe_code)]

pub mod boot;
pub mod config;

pub use boot::{
    BootError, Embedding, Ended, HostDeps, OfflineBackup, RewrapFailure, RewrapOrders,
    RewrappedStore, Running, SealedKeys, Server, StateBackupError, StateMoveError, machine_policy,
    machine_policy_for,
};
pub use ca_state::backup::{Backup, BackupError};
pub use ca_state::{RestoreError, Restored};
pub use config::{Config, ConfigError};
