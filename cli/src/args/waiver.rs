//! The words of `banyan waiver`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{AdminTarget, ReasonedOptions, WordOptions};

/// Options of `waiver`.
#[derive(Debug, Args)]
pub struct WaiverOptions {
    /// What to do with waivers.
    #[command(subcommand)]
    pub action: WaiverAction,
    /// Print one JSON object
    #[arg(long, global = true)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// What can be done with waivers.
#[derive(Debug, Subcommand)]
pub enum WaiverAction {
    /// List them, also those that are over
    List,
    /// Say by name that gates do not wait until some holders trust the bundle
    #[command(
        override_usage = "banyan waiver add [OPTIONS] --covers <SPIFFE_ID> --lasts <DURATION>\n                         --reason <TEXT> <NAME>"
    )]
    Add {
        /// A name for it, such as `shop-is-closed`
        name: String,
        /// Whose trust is not waited for; `ID/*` for all below; may be repeated
        #[arg(long, value_name = "SPIFFE_ID", required = true)]
        covers: Vec<String>,
        /// How long it stands, from `1m` to `90d`
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        lasts: Duration,
        /// Who says so, and why.
        #[command(flatten)]
        word: ReasonedOptions,
        /// Also if agents are connected that hold leaves of theirs
        #[arg(long)]
        force: bool,
        /// Change nothing, and say who would break
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove one; gates wait again for whom it covered
    Remove {
        /// Its name
        name: String,
        /// Who removes it, and why.
        #[command(flatten)]
        word: WordOptions,
    },
}
