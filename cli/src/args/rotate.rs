//! The words for rotations, subscribers and the journal.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::AdminTarget;

/// Options of `rotate`.
#[derive(Debug, Args)]
pub struct RotateOptions {
    /// What to do with the root.
    #[command(subcommand)]
    pub action: RotateAction,
}

/// What can be done with the root.
#[derive(Debug, Subcommand)]
pub enum RotateAction {
    /// Ask for a new root that takes the place of the one that signs
    Start(RotateStartOptions),
    /// Let the new root sign, if everybody trusts it; after a rollback, go forward again
    Activate(RotateSteerOptions),
    /// Let no phase end by itself
    Hold(RotateSteerOptions),
    /// Let phases end again
    Resume(RotateSteerOptions),
    /// Give the rotation up before the new root has signed
    Abort(RotateSteerOptions),
    /// Let the former root sign again
    Rollback(RotateSteerOptions),
    /// Show where the rotation stands
    Status(RotateLookOptions),
    /// Show what the present gate waits for, who holds it, and when it opens at the latest
    Explain(RotateLookOptions),
    /// Follow the rotation until it is over; Ctrl-C leaves it running
    Watch(RotateLookOptions),
}

/// Options of `rotate start`.
#[derive(Debug, Args)]
pub struct RotateStartOptions {
    /// Section [authority.NAME] that makes the new root [default: root.authority of the configuration]
    #[arg(long = "to", visible_alias = "authority", value_name = "NAME")]
    pub authority: Option<String>,
    /// The server lets the new root sign as soon as everybody trusts it [default: rotation.mode of the configuration]
    #[arg(long, conflicts_with = "manual")]
    pub auto: bool,
    /// The new root signs when an operator says `banyan rotate activate`
    #[arg(long)]
    pub manual: bool,
    /// Name of this wish: repeated with the same name it asks for nothing twice [default: a random one, which is printed]
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Let this root return although it was withdrawn before, or has the key and the name of a known one: its
    /// fingerprint, or the first digits
    #[arg(long, value_name = "ROOT", requires = "by")]
    pub stage_again: Option<String>,
    /// Who says so, for the journal
    #[arg(long, value_name = "NAME", requires = "stage_again")]
    pub by: Option<String>,
    /// Follow the rotation until it is over
    #[arg(long, conflicts_with = "dry_run")]
    pub wait: bool,
    /// Ask for nothing, and say what a rotation would wait for
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON: one object, with --wait one for each change
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of the verbs that steer a rotation.
#[derive(Debug, Args)]
pub struct RotateSteerOptions {
    /// Name of this wish: repeated with the same name it does nothing twice [default: a random one, which is printed]
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of the verbs that look at a rotation.
#[derive(Debug, Args)]
pub struct RotateLookOptions {
    /// Print JSON: one object, with `watch` one for each change
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of `subscriber`.
#[derive(Debug, Args)]
pub struct SubscriberOptions {
    /// What to do with subscribers.
    #[command(subcommand)]
    pub action: SubscriberAction,
    /// Print one JSON object
    #[arg(long, global = true)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// What can be done with subscribers.
#[derive(Debug, Subcommand)]
pub enum SubscriberAction {
    /// List who relies on the bundle without a leaf of this CA
    List,
    /// Add one, or change its staleness bound and whom it covers
    Add {
        /// Such as `mesh-a/istio-ca-root-cert` or `partner.example`
        name: String,
        /// It has the newest bundle after this time at the latest; without it only its word counts
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        staleness: Option<Duration>,
        /// Holders behind agents whose roots come from what this is, such as a file: its word is theirs; may be repeated
        #[arg(long, value_name = "SPIFFE_ID")]
        covers: Vec<String>,
    },
    /// Say that one has the bundle
    Confirm {
        /// Its name
        name: String,
        /// Sequence of the bundle that it has [default: the present one]
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        sequence: u64,
        /// Who says so, for the journal [default: the caller]
        #[arg(long, value_name = "WHO", default_value = "", hide_default_value = true)]
        by: String,
    },
    /// Remove one: no gate waits for it any more
    Remove {
        /// Its name
        name: String,
    },
}

/// Options of `journal`.
#[derive(Debug, Args)]
pub struct JournalOptions {
    /// What to do with the journal.
    #[command(subcommand)]
    pub action: JournalAction,
    /// Print JSON: one object for each entry, or one for the outcome
    #[arg(long, global = true)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// What can be done with the journal.
#[derive(Debug, Subcommand)]
pub enum JournalAction {
    /// Show its entries: every event, who wanted it, what came of it
    Show {
        /// Index of the first entry
        #[arg(long, value_name = "N", default_value_t = 0)]
        from: u64,
        /// Also what comes by itself all day: horizons and segments
        #[arg(long)]
        all: bool,
    },
    /// Replay every transition through the machine, and compare the end with the record
    Verify,
}
