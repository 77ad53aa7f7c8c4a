//! The words of `banyan leaf`.

use clap::{Args, Subcommand};

use super::{AdminTarget, ReasonedOptions};

/// Options of `leaf`.
#[derive(Debug, Args)]
pub struct LeafOptions {
    /// What to do with leaves.
    #[command(subcommand)]
    pub action: LeafAction,
}

/// What can be done with leaves.
#[derive(Debug, Subcommand)]
pub enum LeafAction {
    /// List certificates that may be in use, those that live longest first
    List(LeafListOptions),
    /// Say by name that nobody holds a certificate any more, so that no gate of a rotation waits for it
    Forget(LeafForgetOptions),
    /// End a certificate: agents take it from its holders, and the CA takes it for nothing
    Revoke(LeafRevokeOptions),
}

/// Options of `leaf revoke`.
#[derive(Debug, Args)]
pub struct LeafRevokeOptions {
    /// Serial number, as `leaf list` prints it; may be repeated
    #[arg(value_name = "SERIAL", required = true, num_args = 1..=1000)]
    pub serials: Vec<String>,
    /// Who says so, and why.
    #[command(flatten)]
    pub word: ReasonedOptions,
    /// Change nothing, and say what it would do
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of `leaf list`.
#[derive(Debug, Args)]
pub struct LeafListOptions {
    /// Only those under this root: its fingerprint, or the first digits
    #[arg(long, value_name = "ROOT")]
    pub root: Option<String>,
    /// Only those of this kind
    #[arg(long, value_name = "KIND", value_parser = ["agent-held", "csr-only", "channel-trusted", "own", "agent-identity"])]
    pub kind: Option<String>,
    /// Only those behind this agent
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Only those of this identity
    #[arg(long, value_name = "SPIFFE_ID")]
    pub identity: Option<String>,
    /// Only those that the present gate of a rotation waits for
    #[arg(long)]
    pub waited_for: bool,
    /// Only those that somebody revoked, or called gone, right or wrong
    #[arg(long)]
    pub forgotten: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of `leaf forget`.
#[derive(Debug, Args)]
pub struct LeafForgetOptions {
    /// Serial number, as `leaf list` prints it; may be repeated
    #[arg(value_name = "SERIAL", required = true, num_args = 1..=1000)]
    pub serials: Vec<String>,
    /// Who says so, and why nobody holds it.
    #[command(flatten)]
    pub word: ReasonedOptions,
    /// Also if its agent is connected and has not given it up
    #[arg(long)]
    pub force: bool,
    /// Change nothing, and say who would break if the word is wrong
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}
