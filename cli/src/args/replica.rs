//! The words of `banyan replica`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{AdminTarget, ReasonedOptions};

/// Options of `replica`.
#[derive(Debug, Args)]
pub struct ReplicaOptions {
    /// What to do with servers.
    #[command(subcommand)]
    pub action: ReplicaAction,
}

/// What can be done with servers.
#[derive(Debug, Subcommand)]
pub enum ReplicaAction {
    /// List the servers of this CA: which serve, which leads, and until when their leaves may live
    List(ReplicaListOptions),
    /// Let a server issue nothing more and its agents go elsewhere, before it is stopped
    Drain(ReplicaDrainOptions),
    /// Take that back
    Undrain(ReplicaRuleOptions),
    /// Take a server out for good that is stopped or lost
    Remove(ReplicaRemoveOptions),
}

/// Options of `replica list`.
#[derive(Debug, Args)]
pub struct ReplicaListOptions {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of `replica drain`.
#[derive(Debug, Args)]
pub struct ReplicaDrainOptions {
    /// Time over which its agents go elsewhere [default: what fits their number]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub spread: Option<Duration>,
    /// The server.
    #[command(flatten)]
    pub rule: ReplicaRuleOptions,
}

/// Options of `replica remove`.
#[derive(Debug, Args)]
pub struct ReplicaRemoveOptions {
    /// Although its lease may hold; it stops then
    #[arg(long)]
    pub force: bool,
    /// The server.
    #[command(flatten)]
    pub rule: ReplicaRuleOptions,
}

/// Options of `replica undrain`.
#[derive(Debug, Args)]
pub struct ReplicaRuleOptions {
    /// Name of the server, as `replica list` prints it
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Who does it, and why.
    #[command(flatten)]
    pub word: ReasonedOptions,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}
