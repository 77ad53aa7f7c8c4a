//! The words that users type.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod agent;
mod authority;
mod ceremony;
mod clock;
mod issuer;
mod plugin;
mod rotate;
mod state;
mod target;
mod tier;

pub use agent::{AgentAction, AgentListOptions, AgentOptions, AgentRuleOptions, EnvoyConfigOptions};
pub use authority::{AuthorityAction, AuthorityOptions};
pub use ceremony::{CeremonyAction, CeremonyOptions};
pub use clock::{ClockAcceptOptions, ClockAction, ClockOptions};
pub use issuer::{IssuerAction, IssuerOptions, IssuerWhich};
pub use plugin::{PluginAction, PluginCheckOptions, PluginOptions};
pub use rotate::{
    JournalAction, JournalOptions, RotateAction, RotateLookOptions, RotateOptions, RotateStartOptions,
    RotateSteerOptions, SubscriberAction, SubscriberOptions,
};
pub use state::{StateAction, StateOptions};
pub use target::{AdminTarget, LogFormat};
pub use tier::{TierAction, TierOptions};

/// A certificate authority for service meshes whose root can be replaced while everything keeps running.
#[derive(Debug, Parser)]
#[command(name = "banyan", version, propagate_version = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the CA server in the foreground
    Serve(ServeOptions),
    /// Run an agent in the foreground; look at a server's agents, remove or ban them; print an Envoy configuration
    Agent(AgentOptions),
    /// Make join tokens for agents
    Token(TokenOptions),
    /// Look at roots, and vouch that nobody else issues under a shared one
    Root(RootOptions),
    /// Renew the certificate that signs leaves, under the root that there is
    Issuer(IssuerOptions),
    /// Look at root authorities, and ask them how they are
    Authority(AuthorityOptions),
    /// What waits for an offline root: carry it there, and bring back what is signed
    Ceremony(CeremonyOptions),
    /// Try a plugin against the contract of root authorities
    Plugin(PluginOptions),
    /// Replace the root while everything keeps running, and watch it
    Rotate(RotateOptions),
    /// Who relies on the bundle without a leaf of this CA
    Subscriber(SubscriberOptions),
    /// CAs one tier below, which issue under the root of this one
    Tier(TierOptions),
    /// A data directory that was restored from an older backup, and the way on
    State(StateOptions),
    /// What happened to the roots, and on which evidence
    Journal(JournalOptions),
    /// Say that the wall clock is right after it was set
    Clock(ClockOptions),
    /// Show what a server does, in one look
    Status(StatusOptions),
    /// Check configuration files
    Config(ConfigOptions),
    /// Run a whole mesh on this machine: a CA, agents, and workloads that connect without pause
    Demo(DemoOptions),
    /// Measure this machine
    Bench(BenchOptions),
}

/// Options of `serve`.
#[derive(Debug, Args)]
pub struct ServeOptions {
    /// Configuration file
    #[arg(long, short, value_name = "FILE", default_value = "banyan.toml")]
    pub config: PathBuf,
}

/// Options of `token`.
#[derive(Debug, Args)]
pub struct TokenOptions {
    /// What to do with tokens.
    #[command(subcommand)]
    pub action: TokenAction,
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Make a join token for one agent and print it
    Create(TokenCreateOptions),
}

/// Options of `token create`.
#[derive(Debug, Args)]
pub struct TokenCreateOptions {
    /// Name of the agent, such as `node-1`
    #[arg(long, value_name = "NAME")]
    pub agent: String,
    /// SPIFFE id that the agent may ask for; may be repeated
    #[arg(long = "identity", value_name = "SPIFFE_ID", required = true)]
    pub identities: Vec<String>,
    /// How long the token may be used for the first time
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    pub ttl: Duration,
    /// Write the token into this new file (mode 0600) instead of printing it
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of `root`.
#[derive(Debug, Args)]
pub struct RootOptions {
    /// What to show.
    #[command(subcommand)]
    pub action: RootAction,
}

/// What can be shown of roots.
#[derive(Debug, Subcommand)]
pub enum RootAction {
    /// List every root with its state
    List(RootListOptions),
    /// Show one root with its issuers
    Show(RootShowOptions),
    /// Say that nobody else issues under a root that others shared; its leaf gate waits for that word
    Vouch(RootVouchOptions),
}

/// Options of `root vouch`.
#[derive(Debug, Args)]
pub struct RootVouchOptions {
    /// Fingerprint of the root, or its first digits
    #[arg(value_name = "ROOT")]
    pub root: String,
    /// Who says so, for whoever asks later
    #[arg(long, value_name = "WHO")]
    pub by: String,
    /// For how long nobody else has issued under it [default: from now on]
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
    /// Print the root as PEM
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
    /// Print the trusted roots as PEM, as a trust bundle file
    #[arg(long)]
    pub pem: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusOptions {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of `config`.
#[derive(Debug, Args)]
pub struct ConfigOptions {
    /// What to do.
    #[command(subcommand)]
    pub action: ConfigAction,
}

/// What can be done with configuration files.
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Check a file without starting anything; lists every problem
    Check(ConfigCheckOptions),
}

/// Options of `config check`.
#[derive(Debug, Args)]
pub struct ConfigCheckOptions {
    /// Configuration file [default: banyan.toml, or agent.toml with --agent]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Check an agent's configuration, not a server's
    #[arg(long)]
    pub agent: bool,
    /// Check the form alone, and not what the file names on this machine
    #[arg(long)]
    pub offline: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Options of `demo`.
#[derive(Debug, Args, Clone)]
pub struct DemoOptions {
    /// How many agents, each with one workload [default: 12, or 4 with --envoy]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(2..=64))]
    pub agents: Option<u16>,
    /// How often the root is rotated under the traffic
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub rotations: u32,
    /// Further workloads without agent, which only speak the Istio CSR API
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "envoy", value_parser = clap::value_parser!(u16).range(0..=16))]
    pub csr_only: u16,
    /// How long the traffic runs at least, in seconds
    #[arg(long, value_name = "S", default_value_t = 45, value_parser = clap::value_parser!(u64).range(5..=3600))]
    pub seconds: u64,
    /// Break something during a rotation; may be repeated
    #[arg(long, value_enum)]
    pub fault: Vec<Fault>,
    /// Workloads are real Envoys; PATH of the binary if it is not on PATH or installed by `cargo xtask peers envoy`
    #[arg(long, value_name = "PATH", num_args = 0..=1)]
    pub envoy: Option<Option<PathBuf>>,
    /// Print one JSON object as the last line, and no live view
    #[arg(long)]
    pub json: bool,
    /// Keep the temporary directory and say where it is
    #[arg(long)]
    pub keep: bool,
}

/// What the demo can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// Kill the CA with SIGKILL in the middle of a rotation, and start it again
    KillCa,
    /// Cut one agent off from the CA while the new root is distributed
    PartitionAgent,
    /// Freeze one proxy while the new root is distributed: an Envoy with SIGSTOP, a built-in one by not reading
    FreezeProxy,
    /// Stop one agent while the new root is distributed, and start it again; its proxy keeps running
    RestartAgent,
}

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct BenchOptions {
    /// What to measure.
    #[command(subcommand)]
    pub subject: BenchSubject,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum BenchSubject {
    /// Issue certificates over gRPC and TLS, and compare with the bare cryptography
    Issue(BenchIssueOptions),
}

/// Options of `bench issue`.
#[derive(Debug, Args, Clone)]
pub struct BenchIssueOptions {
    /// Seconds for each of the measured rows
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Requests in flight
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub in_flight: u16,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub json: bool,
}
