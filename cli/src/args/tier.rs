//! The words of `banyan tier`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::AdminTarget;

/// Options of `tier`.
#[derive(Debug, Args)]
pub struct TierOptions {
    /// What to do with tiers.
    #[command(subcommand)]
    pub action: TierAction,
    /// Print one JSON object
    #[arg(long, global = true)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// What can be done with tiers.
#[derive(Debug, Subcommand)]
pub enum TierAction {
    /// List the CAs one tier below: their issuers, and what they reported
    List,
    /// Let a CA issue under the root of this one; its token is shown once
    Add {
        /// Name of the tier, such as a cluster's
        name: String,
        /// Write the token to this new file, readable by its owner only [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Wait for a tier no more: its token is void, and whoever still uses its issuers loses connections in a rotation
    Remove {
        /// Name of the tier
        name: String,
    },
}
