//! The words of `banyan issuer`.

use clap::{Args, Subcommand};

use super::{AdminTarget, ReasonedOptions, WordOptions};

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

/// What can be done with the issuer, which signs leaves under a root. Nothing of it changes the bundle.
#[derive(Debug, Subcommand)]
pub enum IssuerAction {
    /// Request a new issuer now, in place of a renewal that is stuck
    Renew(IssuerWhich),
    /// Cancel the renewal that is under way; the server tries again after an hour
    Cancel(IssuerWhich),
    /// Its key may be somebody else's: get another one, and renew its leaves
    Distrust(IssuerDistrustOptions),
    /// It was a mistake: take the word back
    TrustAgain(IssuerDistrustOptions),
}

/// Which issuer, by itself.
#[derive(Debug, Args)]
pub struct IssuerDistrustOptions {
    /// Fingerprint of its certificate as `root show` prints it, or the first digits
    #[arg(value_name = "ISSUER")]
    pub issuer: String,
    /// Idempotency key for this request [default: a random one]
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Who says so, and why.
    #[command(flatten)]
    pub word: ReasonedOptions,
    /// Change nothing, and say who has leaves of it
    #[arg(long)]
    pub dry_run: bool,
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
