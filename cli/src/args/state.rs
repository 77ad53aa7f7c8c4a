//! The words of `banyan state`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{AdminTarget, ReasonedOptions, WordOptions};

/// Options of `state`.
#[derive(Debug, Args)]
pub struct StateOptions {
    /// What to do with the state.
    #[command(subcommand)]
    pub action: StateAction,
    /// Idempotency key for this request [default: a random one]
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
    /// Show the bundles that agents have and this server never published, and what to do about it
    Show,
    /// Continue above everything that was seen: publish the present roots under a number that nobody has
    Continue {
        /// Sequence that the next bundle must exceed; `state show` prints the lowest one possible
        #[arg(long, value_name = "N")]
        above: u64,
        /// Do not wait for leaves under a root that came after the backup: none had begun to sign
        #[arg(long)]
        now: bool,
        /// Who wants it, and why.
        #[command(flatten)]
        word: ReasonedOptions,
    },
    /// Ignore what an agent reports about bundles: it is wrong, or does not matter
    Dismiss {
        /// Name of the agent, as `state show` prints it
        agent: String,
        /// Who wants it, and why.
        #[command(flatten)]
        word: ReasonedOptions,
    },
    /// Write a backup of the state to a file; from the running server if there is one, else from its store
    Backup {
        /// The file to be made
        file: PathBuf,
        /// Leave out the sealed keys of roots
        #[arg(long)]
        without_keys: bool,
        /// Replace the file if it exists
        #[arg(long)]
        force: bool,
    },
    /// Check a backup, and print what is in it
    Verify {
        /// The backup
        file: PathBuf,
        /// Try the passphrase in this file on the keys [default: the one that --config names, if it is given]
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Make a backup the state of the place that `[store]` names, with all servers stopped
    Restore {
        /// The backup
        file: PathBuf,
        /// Throw away for good the state that is there; WHAT is how the refusal names it
        #[arg(long, value_name = "WHAT")]
        replace: Option<String>,
        /// Also if the sealed keys in it do not open with the passphrase of the configuration
        #[arg(long)]
        unopened: bool,
    },
    /// Count what may have been released after a backup that was restored by copying files; `restore` does it by itself
    Recover {
        /// Who wants it, and why.
        #[command(flatten)]
        word: ReasonedOptions,
    },
    /// Move the state of a CA whose servers are stopped to another store: --config names the present configuration
    Move {
        /// Configuration file whose section `[store]` names the other place; nothing else in it may differ
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Stop ignoring a dismissed agent
    Heed {
        /// Name of the agent
        agent: String,
        /// Who wants it, and why.
        #[command(flatten)]
        word: WordOptions,
    },
}
