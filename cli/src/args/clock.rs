//! The words of `clock`.

use clap::{Args, Subcommand};

use super::AdminTarget;

/// Options of `clock`.
#[derive(Debug, Args)]
pub struct ClockOptions {
    /// What to do.
    #[command(subcommand)]
    pub action: ClockAction,
}

/// What can be said about the clock.
#[derive(Debug, Subcommand)]
pub enum ClockAction {
    /// Confirm that the wall clock is right although it disagrees with the machine's uptime. Check another clock first
    Accept(ClockAcceptOptions),
}

/// Options of `clock accept`.
#[derive(Debug, Args)]
pub struct ClockAcceptOptions {
    /// Your name, for the record
    #[arg(long, value_name = "WHO")]
    pub by: String,
    /// Why the clock was changed
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}
