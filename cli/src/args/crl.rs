//! The words of `banyan crl`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::AdminTarget;

/// Options of `crl`.
#[derive(Debug, Args)]
pub struct CrlOptions {
    /// What to do with revocation lists.
    #[command(subcommand)]
    pub action: CrlAction,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// What can be done with revocation lists.
#[derive(Debug, Subcommand)]
pub enum CrlAction {
    /// Show each issuer's list, and which holders have the newest entries
    Show {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print all lists in PEM, one behind the other
    Export {
        /// Into this file [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}
