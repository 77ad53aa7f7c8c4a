//! The words of `banyan downstream`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{AdminTarget, WordOptions};

/// Options of `downstream`.
#[derive(Debug, Args)]
pub struct DownstreamOptions {
    /// What to do with downstream CAs.
    #[command(subcommand)]
    pub action: DownstreamAction,
    /// Print one JSON object
    #[arg(long, global = true)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// What can be done with downstream CAs.
#[derive(Debug, Subcommand)]
pub enum DownstreamAction {
    /// List them: their issuers, and what they reported
    List,
    /// Let a CA issue under the root of this one; its token is printed once
    Add {
        /// Name of the downstream CA, such as a cluster's
        name: String,
        /// It is a neighbor with roots of its own: it trusts the roots here, gets no issuer, and rotations wait for its word
        #[arg(long)]
        neighbor: bool,
        /// Write the token into this new file (mode 0600) [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Who adds it, and why.
        #[command(flatten)]
        word: WordOptions,
    },
    /// Stop waiting for a downstream CA: its token becomes void, and whoever still uses its issuers loses connections in a rotation
    Remove {
        /// Name of the downstream CA
        name: String,
        /// Who removes it, and why.
        #[command(flatten)]
        word: WordOptions,
    },
}
