//! The words of `banyan authority`.

use clap::{Args, Subcommand};

use super::AdminTarget;

/// Options of `authority`.
#[derive(Debug, Args)]
pub struct AuthorityOptions {
    /// What to do with authorities.
    #[command(subcommand)]
    pub action: AuthorityAction,
    /// Print one JSON object
    #[arg(long, global = true)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// What can be done with authorities.
#[derive(Debug, Subcommand)]
pub enum AuthorityAction {
    /// List every authority with its health, latency, earliest expiry and capabilities
    List,
    /// Check the health of one, or of all; exit code 1 if one is down
    Check {
        /// Section [authority.NAME] [default: all]
        name: Option<String>,
    },
    /// Show one with its roots
    Show {
        /// Section [authority.NAME]
        name: String,
    },
}
