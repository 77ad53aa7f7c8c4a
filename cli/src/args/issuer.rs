//! The words of `banyan issuer`.

use clap::{Args, Subcommand};

use super::{AdminTarget, WordOptions};

/// Options of `issuer`.
#[derive(Debug, Args)]
pub struct IssuerOptions {
    /// What to do with the issuer.
    #[command(subcommand)]
    pub action: IssuerAction,
    /// Print one JSON object
    #[arg(long, global = true)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// What can be done with the issuer, which signs leaves under a root. Neither changes the bundle.
#[derive(Debug, Subcommand)]
pub enum IssuerAction {
    /// Request a new issuer now, in place of a renewal that is stuck
    Renew(IssuerWhich),
    /// Cancel the renewal that is under way; the server tries again after an hour
    Cancel(IssuerWhich),
}

/// Which issuer.
#[derive(Debug, Args)]
pub struct IssuerWhich {
    /// Fingerprint of its root, or the first digits [default: the root that signs]
    #[arg(long, value_name = "ROOT")]
    pub root: Option<String>,
    /// Idempotency key for this request [default: a random one]
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Who wants it, and why.
    #[command(flatten)]
    pub word: WordOptions,
}
