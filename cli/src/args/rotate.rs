//! The words for rotations, relying parties and the journal.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{AdminTarget, WordOptions};

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
    /// Say whether a rotation that starts now would end, and change nothing
    Check(RotateCheckOptions),
    /// Start a rotation to a new root
    Start(RotateStartOptions),
    /// Let the new root sign once everybody trusts it, in a canary for all; after a rollback, go forward
    Activate(RotateDecideOptions),
    /// Let the new root sign for more than the present cohort of a canary
    Widen(RotateWidenOptions),
    /// Pause the rotation: no phase ends until `resume`
    Hold(RotateDecideOptions),
    /// Continue a paused rotation
    Resume(RotateDecideOptions),
    /// Give up the rotation, before the new root has signed
    Abort(RotateDecideOptions),
    /// Let the old root sign again, while both are still trusted
    Rollback(RotateDecideOptions),
    /// Show the state of the rotation
    Status(RotateLookOptions),
    /// Show what the rotation is waiting for, whom, and until when at the latest
    Explain(RotateLookOptions),
    /// Follow the rotation until it is over; Ctrl-C leaves it running
    Watch(RotateLookOptions),
}

/// Options of `rotate check`.
#[derive(Debug, Args)]
pub struct RotateCheckOptions {
    /// Section [authority.NAME] that would make the new root [default: root.authority in the configuration]
    #[arg(long = "to", visible_alias = "authority", value_name = "NAME")]
    pub authority: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of `rotate start`.
#[derive(Debug, Args)]
pub struct RotateStartOptions {
    /// Section [authority.NAME] that makes the new root [default: root.authority in the configuration]
    #[arg(long = "to", visible_alias = "authority", value_name = "NAME")]
    pub authority: Option<String>,
    /// Let the new root sign as soon as everybody trusts it [default: rotation.mode in the configuration]
    #[arg(long, conflicts_with = "manual")]
    pub auto: bool,
    /// Let the new root sign only at `banyan rotate activate`
    #[arg(long)]
    pub manual: bool,
    /// For whom the new root signs first: a share of all workloads such as 5%, a SPIFFE id, which may end in /*, or several; `none`
    /// for all at once [default: rotation.canary in the configuration]
    #[arg(long, value_name = "COHORT", value_delimiter = ',')]
    pub canary: Vec<String>,
    /// Idempotency key for this request [default: a random one, which is printed]
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Accept this root again although it was withdrawn before, or has the key and the name of a known one: its
    /// fingerprint, or the first digits
    #[arg(long, value_name = "ROOT", requires = "by")]
    pub stage_again: Option<String>,
    /// Who wants it, and why.
    #[command(flatten)]
    pub word: WordOptions,
    /// Follow the rotation until it is over
    #[arg(long, conflicts_with = "dry_run")]
    pub wait: bool,
    /// Start nothing, and show what a rotation would wait for
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON: one object, with --wait one for each change
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of the verbs that decide about a rotation.
#[derive(Debug, Args)]
pub struct RotateDecideOptions {
    /// Idempotency key for this request [default: a random one, which is printed]
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Who wants it, and why.
    #[command(flatten)]
    pub word: WordOptions,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of `rotate widen`.
#[derive(Debug, Args)]
pub struct RotateWidenOptions {
    /// For whom it signs from now on, those of the present cohort among them: a share of all workloads such as 20%, a SPIFFE id,
    /// which may end in /*, or several
    #[arg(long = "canary", value_name = "COHORT", value_delimiter = ',', required = true)]
    pub cohort: Vec<String>,
    /// The rest is as for the other verbs.
    #[command(flatten)]
    pub decide: RotateDecideOptions,
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

/// Options of `relying-party`.
#[derive(Debug, Args)]
pub struct RelyingPartyOptions {
    /// What to do with relying parties.
    #[command(subcommand)]
    pub action: RelyingPartyAction,
    /// Print one JSON object
    #[arg(long, global = true)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// What can be done with relying parties.
#[derive(Debug, Subcommand)]
pub enum RelyingPartyAction {
    /// List who else relies on the bundle
    List,
    /// Add one, or change its staleness bound and the holders it covers
    Add {
        /// Such as `mesh-a/istio-ca-root-cert` or `partner.example`
        name: String,
        /// Time after which it has the newest bundle at the latest; without it, gates wait until it is confirmed
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        staleness: Option<Duration>,
        /// Holder that takes its roots from this party, such as a file; confirmed with it; `ID/*` for all below; may be repeated
        #[arg(long, value_name = "SPIFFE_ID")]
        covers: Vec<String>,
        /// Whether it covers nobody any more; without this and `--covers`, whom it covers stays
        #[arg(long, conflicts_with = "covers")]
        covers_nobody: bool,
        /// Who adds it, and why.
        #[command(flatten)]
        word: WordOptions,
    },
    /// Confirm that one has the bundle
    Confirm {
        /// Its name
        name: String,
        /// Sequence of the bundle that it has [default: the current one]
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        sequence: u64,
        /// Who says so, and why.
        #[command(flatten)]
        word: WordOptions,
    },
    /// Remove one; no gate waits for it any more
    Remove {
        /// Its name
        name: String,
        /// Who removes it, and why.
        #[command(flatten)]
        word: WordOptions,
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
    /// Show its entries: every event, who requested it, and the outcome
    Show {
        /// Index of the first entry
        #[arg(long, value_name = "N", default_value_t = 0)]
        from: u64,
        /// Include routine entries: horizons and segments
        #[arg(long)]
        all: bool,
    },
    /// Replay every transition through the state machine, and compare the result with the record
    Verify,
}
