//! The words of `banyan state`.

use clap::{Args, Subcommand};

use super::AdminTarget;

/// Options of `state`.
#[derive(Debug, Args)]
pub struct StateOptions {
    /// What to do with the record.
    #[command(subcommand)]
    pub action: StateAction,
    /// Name of this wish: repeated with the same name it does nothing twice [default: a random one]
    #[arg(long, global = true, value_name = "ID")]
    pub request_id: Option<String>,
    /// Print one JSON object
    #[arg(long, global = true)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// What can be done with the record.
#[derive(Debug, Subcommand)]
pub enum StateAction {
    /// Show which bundles agents hold that this server never published, and what going on would mean
    Show,
    /// Go on above everything that was seen: the roots of today are published under a number that nobody has
    Continue {
        /// The next bundle has a greater sequence than this; `state show` says which is the least
        #[arg(long, value_name = "SEQUENCE")]
        above: u64,
        /// Who wants it, for the journal
        #[arg(long, value_name = "WHO")]
        by: String,
        /// Why, for the journal
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Let the word of an agent about bundles count no more: it is wrong, or does not matter
    Dismiss {
        /// Name of the agent, as `state show` has it
        agent: String,
        /// Who says so, for the journal
        #[arg(long, value_name = "WHO")]
        by: String,
        /// Why, for the journal
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Let the word of a dismissed agent count again
    Heed {
        /// Name of the agent
        agent: String,
        /// Who says so, for the journal
        #[arg(long, value_name = "WHO")]
        by: String,
    },
}
