//! The words of `banyan ceremony`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Options of `ceremony`.
#[derive(Debug, Args)]
pub struct CeremonyOptions {
    /// What to do with ceremonies.
    #[command(subcommand)]
    pub action: CeremonyAction,
    /// Print one JSON object
    #[arg(long, global = true)]
    pub json: bool,
    /// Directory of the authority, which has the outbox and the inbox
    #[arg(long, global = true, value_name = "DIR", conflicts_with_all = ["config", "authority"])]
    pub directory: Option<PathBuf>,
    /// Server's configuration file, to read the directory from [default: banyan.toml here, else in /etc/banyan]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Section [authority.NAME] [default: the only one with plugin "manual"]
    #[arg(long, global = true, value_name = "NAME")]
    pub authority: Option<String>,
}

/// What can be done with ceremonies.
#[derive(Debug, Subcommand)]
pub enum CeremonyAction {
    /// List what waits for the offline root
    List,
    /// Show one as it is exported, and what is wrong with an answer in the inbox
    Show {
        /// Name of the ceremony, such as issuer-3f9a1c22d07b
        name: String,
    },
    /// Write one into a file to carry away, and print its fingerprints and commands
    Export {
        /// Name of the ceremony
        name: String,
        /// New file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Check an answer as the server will, print what it is, and put it into the inbox
    Import {
        /// PEM file that came back
        file: PathBuf,
        /// Name of the ceremony [default: the name of the file without its extension]
        #[arg(long, value_name = "NAME")]
        ceremony: Option<String>,
        /// Check and print only
        #[arg(long)]
        dry_run: bool,
    },
}
