//! The words of `banyan ban`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{AdminTarget, ReasonedOptions};

/// Options of `ban`.
#[derive(Debug, Args)]
pub struct BanOptions {
    /// What to do with bans.
    #[command(subcommand)]
    pub action: BanAction,
    /// Print one JSON object
    #[arg(long, global = true)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// What can be done with bans.
#[derive(Debug, Subcommand)]
pub enum BanAction {
    /// List them, also those that are over
    List,
    /// Let somebody get no certificate any more, new or renewed
    #[command(
        override_usage = "banyan ban add [OPTIONS] --reason <TEXT>\n                      <--agent <NAME>|--identity <SPIFFE_ID>|--key <SHA256>>"
    )]
    Add {
        /// Whom.
        #[command(flatten)]
        whom: Whom,
        /// How long it stands, from `1m` [default: until it is removed]
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        lasts: Option<Duration>,
        /// Who says so, and why.
        #[command(flatten)]
        word: ReasonedOptions,
        /// The identity once more, where it is about everybody or yourself
        #[arg(long, value_name = "SPIFFE_ID")]
        confirm: Option<String>,
        /// Change nothing, and say who would be kept away
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove one: who was banned may ask again
    #[command(
        override_usage = "banyan ban remove [OPTIONS] --reason <TEXT>\n                         <--agent <NAME>|--identity <SPIFFE_ID>|--key <SHA256>>"
    )]
    Remove {
        /// Whom.
        #[command(flatten)]
        whom: Whom,
        /// Who removes it, and why.
        #[command(flatten)]
        word: ReasonedOptions,
    },
}

/// Whom a ban is about.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Whom {
    /// An agent by its name; for JWTs the path of their identity
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// A workload's SPIFFE id; `ID/*` for all below
    #[arg(long, value_name = "SPIFFE_ID")]
    pub identity: Option<String>,
    /// The SHA-256 of a public key (of its SubjectPublicKeyInfo in DER)
    #[arg(long, value_name = "SHA256")]
    pub key: Option<String>,
}
