//! The words of `banyan root`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{AdminTarget, ReasonedOptions, WordOptions};

/// Options of `root`.
#[derive(Debug, Args)]
pub struct RootOptions {
    /// What to do with roots.
    #[command(subcommand)]
    pub action: RootAction,
}

/// What can be done with roots.
#[derive(Debug, Subcommand)]
pub enum RootAction {
    /// List every root with its state
    List(RootListOptions),
    /// Show one root with its issuers
    Show(RootShowOptions),
    /// Attest that nobody else issues under a shared root any more; the leaf gate of a rotation away from it waits for that
    // `vouch` is what it was called first.
    #[command(alias = "vouch")]
    Attest(RootAttestOptions),
    /// Have the record forget retired roots whose certificates, and all leaves under them, are over
    Prune(RootPruneOptions),
    /// Keep a root that everybody trusts and that does not sign, for the day on which one must go at once
    Standby(RootStandbyOptions),
    /// Say that a root is compromised: another one signs as soon as it may, and this one goes as soon as it may
    Distrust(RootDistrustOptions),
    /// Take back that a root is compromised
    TrustAgain(RootTrustAgainOptions),
    /// Cut off a distrusted root although leaves of it are in use: their holders break
    Cut(RootCutOptions),
}

/// Options of `root standby`.
#[derive(Debug, Args)]
pub struct RootStandbyOptions {
    /// What to do with standby roots.
    #[command(subcommand)]
    pub action: StandbyAction,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// What can be done with standby roots.
#[derive(Debug, Subcommand)]
pub enum StandbyAction {
    /// Make one, and have everybody trust it
    Prepare {
        /// Section [authority.NAME] that makes it [default: root.authority in the configuration]
        #[arg(long, value_name = "NAME")]
        authority: Option<String>,
        /// Who wants it, and why.
        #[command(flatten)]
        word: WordOptions,
        /// Follow until everybody trusts it
        #[arg(long, conflicts_with = "dry_run")]
        wait: bool,
        /// Start nothing, and show what it would wait for
        #[arg(long)]
        dry_run: bool,
        /// Idempotency key for this request [default: a random one]
        #[arg(long, value_name = "ID")]
        request_id: Option<String>,
    },
    /// List them
    List,
    /// Let one take the place of the root that signs: a rotation without a wait for distribution
    Promote(StandbyRuleOptions),
    /// Take one out of the bundle
    Drop(StandbyRuleOptions),
}

/// Options of the verbs about one standby root.
#[derive(Debug, Args)]
pub struct StandbyRuleOptions {
    /// Fingerprint of the standby root, or its first digits
    #[arg(value_name = "ROOT")]
    pub root: String,
    /// Who wants it, and why.
    #[command(flatten)]
    pub word: WordOptions,
    /// Only show what would come of it
    #[arg(long)]
    pub dry_run: bool,
    /// Idempotency key for this request [default: a random one]
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
}

/// Options of `root distrust`.
#[derive(Debug, Args)]
pub struct RootDistrustOptions {
    /// Fingerprint of the root, or its first digits
    #[arg(value_name = "ROOT")]
    pub root: String,
    /// Section [authority.NAME] that makes the next root, if there is no standby root [default: root.authority in the
    /// configuration]
    #[arg(long, value_name = "NAME")]
    pub authority: Option<String>,
    /// Who says so, and why.
    #[command(flatten)]
    pub word: ReasonedOptions,
    /// Change nothing, and show who has leaves of it and who cannot be asked to renew
    #[arg(long)]
    pub dry_run: bool,
    /// Follow until it is gone
    #[arg(long, conflicts_with = "dry_run")]
    pub wait: bool,
    /// Idempotency key for this request [default: a random one]
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of `root trust-again`.
#[derive(Debug, Args)]
pub struct RootTrustAgainOptions {
    /// Fingerprint of the root, or its first digits
    #[arg(value_name = "ROOT")]
    pub root: String,
    /// Who says so, and by what evidence.
    #[command(flatten)]
    pub word: ReasonedOptions,
    /// Idempotency key for this request [default: a random one]
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of `root cut`.
#[derive(Debug, Args)]
pub struct RootCutOptions {
    /// Fingerprint of the root, or its first digits
    #[arg(value_name = "ROOT")]
    pub root: String,
    /// The whole fingerprint of the root, typed
    #[arg(long, value_name = "ROOT-ID", default_value = "", hide_default_value = true)]
    pub confirm: String,
    /// Who wants it, and why.
    #[command(flatten)]
    pub word: ReasonedOptions,
    /// Change nothing, and show who would break
    #[arg(long)]
    pub dry_run: bool,
    /// Idempotency key for this request [default: a random one]
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of `root prune`.
#[derive(Debug, Args)]
pub struct RootPruneOptions {
    /// Fingerprint of a retired root, or its first digits; may be repeated
    #[arg(value_name = "ROOT", required_unless_present = "all", num_args = 1..=64)]
    pub roots: Vec<String>,
    /// Every root that may be forgotten now
    #[arg(long, conflicts_with = "roots")]
    pub all: bool,
    /// Only show what would be forgotten
    #[arg(long)]
    pub dry_run: bool,
    /// Idempotency key for this request [default: a random one]
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

/// Options of `root attest`.
#[derive(Debug, Args)]
pub struct RootAttestOptions {
    /// Fingerprint of the root, or its first digits
    #[arg(value_name = "ROOT")]
    pub root: String,
    /// Who attests it, and why.
    #[command(flatten)]
    pub word: WordOptions,
    /// How long ago the others stopped issuing under it [default: now]
    #[arg(long, value_name = "DURATION", default_value = "0s", hide_default_value = true, value_parser = humantime::parse_duration)]
    pub quiet_for: Duration,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of `root show`.
#[derive(Debug, Args)]
pub struct RootShowOptions {
    /// Fingerprint of the root, or its first digits
    #[arg(value_name = "ROOT")]
    pub root: String,
    /// Print one JSON object
    #[arg(long, conflicts_with = "pem")]
    pub json: bool,
    /// Print the root in PEM
    #[arg(long)]
    pub pem: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of `root list`.
#[derive(Debug, Args)]
pub struct RootListOptions {
    /// Print one JSON object
    #[arg(long, conflicts_with = "pem")]
    pub json: bool,
    /// Print the trusted roots in PEM, for use as a trust bundle file
    #[arg(long)]
    pub pem: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}
