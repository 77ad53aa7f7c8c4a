//! The words of `banyan issuer`.

use clap::{Args, Subcommand};

use super::AdminTarget;

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
    /// Ask for a new issuer now, in the place of a renewal that hangs
    Renew(IssuerWhich),
    /// Cancel the renewal that is under way; it is asked for again after an hour
    Cancel(IssuerWhich),
}

/// Which issuer.
#[derive(Debug, Args)]
pub struct IssuerWhich {
    /// Fingerprint of the root that it stands below, or its first digits [default: the root that signs]
    #[arg(long, value_name = "ROOT")]
    pub root: Option<String>,
    /// Name of this wish: repeated with the same name it asks for nothing twice [default: a random one]
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
}
