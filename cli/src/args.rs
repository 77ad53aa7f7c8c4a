//! The words that users type.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use demo::{BenchOptions, DemoOptions};

mod about;
mod agent;
mod authority;
mod ban;
mod ceremony;
mod clock;
mod crl;
mod downstream;
mod federation;
mod issue;
mod issuer;
mod keys;
mod kubernetes;
mod leaf;
mod plugin;
mod replica;
mod root;
mod rotate;
mod simulate;
mod state;
mod target;
mod token;
mod waiver;
mod word;

pub use about::{CompletedShell, CompletionsOptions, ManOptions, VersionOptions};
pub use agent::{
    AgentAction, AgentListOptions, AgentOptions, AgentRemoveOptions, AgentRuleOptions,
    AgentStatusOptions, EnvoyConfigOptions,
};
pub use authority::{AuthorityAction, AuthorityOptions};
pub use ban::{BanAction, BanOptions, Whom};
pub use ceremony::{CeremonyAction, CeremonyOptions};
pub use clock::{ClockAcceptOptions, ClockAction, ClockOptions};
pub use crl::{CrlAction, CrlOptions};
pub use downstream::{DownstreamAction, DownstreamOptions};
pub use federation::{FederationAction, FederationAddOptions, FederationOptions};
pub use issue::IssueOptions;
pub use issuer::{IssuerAction, IssuerDistrustOptions, IssuerOptions, IssuerWhich};
pub use keys::{KeysAction, KeysOptions, RewrapOptions};
pub use kubernetes::{
    KubernetesAction, KubernetesCheckOptions, KubernetesCrdsOptions, KubernetesOptions,
    KubernetesRunOptions,
};
pub use leaf::{LeafAction, LeafForgetOptions, LeafListOptions, LeafOptions, LeafRevokeOptions};
pub use plugin::{PluginAction, PluginCheckOptions, PluginOptions};
pub use replica::{
    ReplicaAction, ReplicaDrainOptions, ReplicaListOptions, ReplicaOptions, ReplicaRemoveOptions,
    ReplicaRuleOptions,
};
pub use root::{
    RootAction, RootAttestOptions, RootCutOptions, RootDistrustOptions, RootListOptions,
    RootOptions, RootPruneOptions, RootShowOptions, RootStandbyOptions, RootTrustAgainOptions,
    StandbyAction, StandbyRuleOptions,
};
pub use rotate::{
    JournalAction, JournalOptions, RelyingPartyAction, RelyingPartyOptions, RotateAction,
    RotateCheckOptions, RotateDecideOptions, RotateLookOptions, RotateOptions, RotateStartOptions,
};
pub use simulate::SimulateOptions;
pub use state::{StateAction, StateOptions};
pub use target::{AdminTarget, LogFormat};
pub use token::{
    TokenAction, TokenCreateOptions, TokenListOptions, TokenOptions, TokenRevokeOptions,
};
pub use waiver::{WaiverAction, WaiverOptions};
pub use word::{ReasonedOptions, WordOptions};

/// Columns of help where the terminal has as many, or where there is none.
const HELP_COLUMNS_MAX: usize = 80;

/// A certificate authority for service meshes whose root can be replaced while everything keeps running.
#[derive(Debug, Parser)]
#[command(name = "banyan", version, propagate_version = true, max_term_width = HELP_COLUMNS_MAX)]
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
    /// Run an agent, manage the agents of a server, or print an Envoy configuration
    Agent(AgentOptions),
    /// Create, list and revoke join tokens for agents
    Token(TokenOptions),
    /// Show certificates that may be in use, and end the wait for those that nobody holds
    Leaf(LeafOptions),
    /// Show roots, forget old ones, and attest that nobody else issues under a shared one
    Root(RootOptions),
    /// Renew the certificate that signs leaves, without changing the root
    Issuer(IssuerOptions),
    /// Show root authorities and check their health
    Authority(AuthorityOptions),
    /// Carry requests to an offline root, and bring back what it signed
    Ceremony(CeremonyOptions),
    /// Test a plugin against the contract of root authorities
    Plugin(PluginOptions),
    /// Replace the root while everything keeps running, and watch it
    Rotate(RotateOptions),
    /// Plan a rotation: how long it would take, who would hold it, what it would cost
    Simulate(SimulateOptions),
    /// Who else relies on the bundle? Parties without a leaf of this CA
    RelyingParty(RelyingPartyOptions),
    /// Let agents, identities and keys get no certificate any more
    Ban(BanOptions),
    /// Show the revocation lists that agents give to their holders, and who has them
    Crl(CrlOptions),
    /// Say for a time whose trust a rotation does not wait for
    Waiver(WaiverOptions),
    /// Believe members of other trust domains by their own bundles
    Federation(FederationOptions),
    /// Show the servers of a CA, drain one, and take one out for good
    Replica(ReplicaOptions),
    /// Manage CAs that issue under the root of this one
    Downstream(DownstreamOptions),
    /// Move the state to another store, and recover after it was restored from an older backup
    State(StateOptions),
    /// Show what happened to the roots, and on which evidence
    Journal(JournalOptions),
    /// Confirm that the wall clock is right after it was changed
    Clock(ClockOptions),
    /// Put the key files under a new passphrase
    Keys(KeysOptions),
    /// Give a Kubernetes cluster its bundles and custom resources, beside a server
    Kubernetes(KubernetesOptions),
    /// Get a certificate for a test, with a token that the CA accepts
    Issue(IssueOptions),
    /// Show the state of a server at a glance
    Status(StatusOptions),
    /// Check configuration files
    Config(ConfigOptions),
    /// Run a whole mesh on this machine, under traffic, and replace its root
    Demo(DemoOptions),
    /// Measure this machine
    Bench(BenchOptions),
    /// Show the version of this program, and the commit that it was built from
    Version(VersionOptions),
    /// Print a script that completes these words in a shell
    Completions(CompletionsOptions),
    /// Write a manual page for each verb
    Man(ManOptions),
}

/// Options of `serve`.
#[derive(Debug, Args)]
pub struct ServeOptions {
    /// Configuration file [default: ./banyan.toml, else /etc/banyan/banyan.toml]
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
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
    /// Configuration file [default: banyan.toml, or agent.toml with --agent, here or else in /etc/banyan]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The same, as other verbs name it
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    pub config: Option<PathBuf>,
    /// Check an agent's configuration, not a server's
    #[arg(long)]
    pub agent: bool,
    /// Check the syntax only, not the files and ports that it names
    #[arg(long)]
    pub offline: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use unicode_width::UnicodeWidthStr as _;

    use super::*;

    fn walk(command: &mut clap::Command, path: &str, complaints: &mut Vec<String>) {
        for help in [command.render_help(), command.render_long_help()] {
            let help = help.to_string();
            let wide = help.lines().filter(|line| line.width() > HELP_COLUMNS_MAX);
            complaints.extend(wide.map(|line| format!("{path}: {line}")));
        }
        for below in command.get_subcommands_mut() {
            let path = format!("{path} {}", below.get_name());
            walk(below, &path, complaints);
        }
    }

    fn that_need_a_name(command: &clap::Command, path: &str, complaints: &mut Vec<String>) {
        let named = command.get_arguments().filter(|argument| argument.get_long() == Some("by"));
        complaints.extend(named.filter(|by| by.is_required_set()).map(|_| path.to_owned()));
        for below in command.get_subcommands() {
            that_need_a_name(below, &format!("{path} {}", below.get_name()), complaints);
        }
    }

    #[test]
    fn no_verb_insists_on_a_name_since_the_server_knows_who_asks() {
        let mut complaints = Vec::new();
        that_need_a_name(&Arguments::command(), "banyan", &mut complaints);
        assert_eq!(complaints, Vec::<String>::new());
    }

    #[test]
    fn the_help_of_every_verb_fits_eighty_columns() {
        let mut command = Arguments::command();
        command.build();
        let mut complaints = Vec::new();
        walk(&mut command, "banyan", &mut complaints);
        complaints.sort();
        complaints.dedup();
        assert_eq!(complaints, Vec::<String>::new());
    }
}
