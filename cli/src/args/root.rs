//! The words of `banyan root`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{AdminTarget, WordOptions};

/// Options of `root`.
#[derive(Debug, Args)]
pub struct RootOptions {
    /// What to do with roots.
    #[command(subcommand)]
    pub action: RootAction,
}

/// What can be done with roots.
#[derive(Debug, Subcommand)]
pub enum RootAction {
    /// List every root with its state
    List(RootListOptions),
    /// Show one root with its issuers
    Show(RootShowOptions),
    /// Attest that nobody else issues under a shared root any more; the leaf gate of a rotation away from it waits for that
    // `vouch` is what it was called first.
    #[command(alias = "vouch")]
    Attest(RootAttestOptions),
    /// Have the record forget retired roots whose certificates, and all leaves under them, are over
    Prune(RootPruneOptions),
}

/// Options of `root prune`.
#[derive(Debug, Args)]
pub struct RootPruneOptions {
    /// Fingerprint of a retired root, or its first digits; may be repeated
    #[arg(value_name = "ROOT", required_unless_present = "all", num_args = 1..=64)]
    pub roots: Vec<String>,
    /// Every root that may be forgotten now
    #[arg(long, conflicts_with = "roots")]
    pub all: bool,
    /// Only show what would be forgotten
    #[arg(long)]
    pub dry_run: bool,
    /// Idempotency key for this request [default: a random one]
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Who wants it, and why.
    #[command(flatten)]
    pub word: WordOptions,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of `root attest`.
#[derive(Debug, Args)]
pub struct RootAttestOptions {
    /// Fingerprint of the root, or its first digits
    #[arg(value_name = "ROOT")]
    pub root: String,
    /// Who attests it, and why.
    #[command(flatten)]
    pub word: WordOptions,
    /// How long ago the others stopped issuing under it [default: now]
    #[arg(long, value_name = "DURATION", default_value = "0s", hide_default_value = true, value_parser = humantime::parse_duration)]
    pub quiet_for: Duration,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of `root show`.
#[derive(Debug, Args)]
pub struct RootShowOptions {
    /// Fingerprint of the root, or its first digits
    #[arg(value_name = "ROOT")]
    pub root: String,
    /// Print one JSON object
    #[arg(long, conflicts_with = "pem")]
    pub json: bool,
    /// Print the root in PEM
    #[arg(long)]
    pub pem: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of `root list`.
#[derive(Debug, Args)]
pub struct RootListOptions {
    /// Print one JSON object
    #[arg(long, conflicts_with = "pem")]
    pub json: bool,
    /// Print the trusted roots in PEM, for use as a trust bundle file
    #[arg(long)]
    pub pem: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}
