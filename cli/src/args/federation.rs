//! The words of `banyan federation`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{AdminTarget, ReasonedOptions, WordOptions};

/// Options of `federation`.
#[derive(Debug, Args)]
pub struct FederationOptions {
    /// What to do with federations.
    #[command(subcommand)]
    pub action: FederationAction,
    /// Print one JSON object
    #[arg(long, global = true)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// What can be done with federations.
#[derive(Debug, Subcommand)]
pub enum FederationAction {
    /// List them, and say where others read our bundle
    List,
    /// Show one with its bundle
    Show {
        /// The trust domain, such as `other.example`
        trust_domain: String,
        /// Print its roots as PEM, and nothing else
        #[arg(long)]
        pem: bool,
    },
    /// Believe members of another trust domain by its own bundle, or change how
    #[command(
        override_usage = "banyan federation add [OPTIONS] --endpoint <URL>\n                             --reason <TEXT> <TRUST_DOMAIN>"
    )]
    Add(FederationAddOptions),
    /// Believe members of that domain no more
    Remove {
        /// The trust domain
        trust_domain: String,
        /// Also if somebody else keeps it, such as a cluster
        #[arg(long)]
        force: bool,
        /// Who removes it, and why.
        #[command(flatten)]
        word: WordOptions,
    },
}

/// Options of `federation add`.
#[derive(Debug, Args)]
pub struct FederationAddOptions {
    /// The trust domain, such as `other.example`
    pub trust_domain: String,
    /// Where its bundle is, `https://HOST/PATH`
    #[arg(long, value_name = "URL")]
    pub endpoint: String,
    /// The endpoint shows this SPIFFE id (https_spiffe); `ID/*` for all below
    #[arg(long, value_name = "SPIFFE_ID", conflicts_with = "endpoint_ca")]
    pub endpoint_id: Option<String>,
    /// CAs of the endpoint's certificate (https_web) [default: the machine's]
    #[arg(long, value_name = "FILE")]
    pub endpoint_ca: Option<PathBuf>,
    /// Take this bundle now: a SPIFFE bundle document or PEM; `-` for stdin
    #[arg(long, value_name = "FILE")]
    pub bundle: Option<PathBuf>,
    /// That domain reads our bundle: rotations wait until it had the time to
    #[arg(long)]
    pub reads_ours: bool,
    /// That time [default: five times our refresh hint]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, requires = "reads_ours")]
    pub reads_within: Option<Duration>,
    /// Also if somebody else keeps it, such as a cluster
    #[arg(long)]
    pub force: bool,
    /// Who says so, and why.
    #[command(flatten)]
    pub word: ReasonedOptions,
}
