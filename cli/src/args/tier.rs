//! The words of `banyan tier`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{AdminTarget, WordOptions};

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
    /// List them: their issuers, and what they reported
    List,
    /// Let a CA issue under the root of this one; its token is printed once
    Add {
        /// Name of the tier, such as a cluster's
        name: String,
        /// Write the token into this new file (mode 0600) [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Who adds it, and why.
        #[command(flatten)]
        word: WordOptions,
    },
    /// Stop waiting for a tier: its token becomes void, and whoever still uses its issuers loses connections in a rotation
    Remove {
        /// Name of the tier
        name: String,
        /// Who removes it, and why.
        #[command(flatten)]
        word: WordOptions,
    },
}
