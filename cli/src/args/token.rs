//! The words of `banyan token`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{AdminTarget, WordOptions};

/// Options of `token`.
#[derive(Debug, Args)]
pub struct TokenOptions {
    /// What to do with tokens.
    #[command(subcommand)]
    pub action: TokenAction,
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Create a join token for one agent and print it
    Create(TokenCreateOptions),
    /// List the tokens that were made: for whom, until when, and whether they were used. Never their secrets
    List(TokenListOptions),
    /// Take tokens back: nobody can join with them any more
    Revoke(TokenRevokeOptions),
}

/// Options of `token list`.
#[derive(Debug, Args)]
pub struct TokenListOptions {
    /// Only those for this agent
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Only those that somebody can still join with
    #[arg(long)]
    pub unused: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of `token revoke`.
#[derive(Debug, Args)]
pub struct TokenRevokeOptions {
    /// Id of the token, as `token list` prints it, or its first digits; may be repeated
    #[arg(value_name = "ID", required = true, num_args = 1..=1000)]
    pub ids: Vec<String>,
    /// Who takes it back, and why.
    #[command(flatten)]
    pub word: WordOptions,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of `token create`.
#[derive(Debug, Args)]
pub struct TokenCreateOptions {
    /// Name of the agent, such as `node-1`
    #[arg(long, value_name = "NAME")]
    pub agent: String,
    /// SPIFFE id that the agent may ask for; may be repeated
    #[arg(long = "identity", value_name = "SPIFFE_ID", required = true)]
    pub identities: Vec<String>,
    /// How long the token can be used
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    pub ttl: Duration,
    /// Write the token into this new file (mode 0600) instead of printing it
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Who makes it, and why.
    #[command(flatten)]
    pub word: WordOptions,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}
