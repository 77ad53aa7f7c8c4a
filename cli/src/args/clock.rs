//! The words of `clock`.

use clap::{Args, Subcommand};

use super::{AdminTarget, ReasonedOptions};

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
    /// Who says that it is right, and why.
    #[command(flatten)]
    pub word: ReasonedOptions,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}
