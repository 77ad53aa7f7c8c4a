//! The words of `keys`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Options of `keys`.
#[derive(Debug, Args)]
pub struct KeysOptions {
    /// What to do.
    #[command(subcommand)]
    pub action: KeysAction,
}

/// What can be done with key files.
#[derive(Debug, Subcommand)]
pub enum KeysAction {
    /// Put every key file under a new passphrase. The server must be stopped
    Rewrap(RewrapOptions),
}

/// Options of `keys rewrap`.
#[derive(Debug, Args)]
pub struct RewrapOptions {
    /// File with the new passphrase (mode 0600)
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// File with the former passphrase [default: what the configuration names]
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Only the key files of `[authority.NAME.keys]` [default: those of `[keys]`, and of authorities with the same passphrase]
    #[arg(long, value_name = "NAME")]
    pub authority: Option<String>,
    /// Configuration file [default: ./banyan.toml, else /etc/banyan/banyan.toml]
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
