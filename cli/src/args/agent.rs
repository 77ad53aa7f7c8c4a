//! The words of `banyan agent`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{AdminTarget, LogFormat, ReasonedOptions};

/// Options of `agent`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AgentOptions {
    /// Configuration file [default: agent.toml in this directory, else /etc/banyan/agent.toml]
    // An id of its own: the verbs below have a `--config` too, which is a server's, and would get what was said for this one.
    #[arg(id = "agent_config", long = "config", short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Form of the log on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Log levels by module, such as `info,agent=debug` (the filter syntax of tracing)
    #[arg(long, env = "BANYAN_LOG", value_name = "FILTER", default_value = ca_server::config::DEFAULT_FILTER)]
    pub log: String,
    /// Do something else than run one.
    #[command(subcommand)]
    pub action: Option<AgentAction>,
}

/// What `agent` can do but run one. All but the first and the last ask a server.
#[derive(Debug, Subcommand)]
pub enum AgentAction {
    /// Ask the agent of this machine how it is: its CA, its bundle, its certificates, and who holds what
    Status(AgentStatusOptions),
    /// List the agents that are registered at a server, the names that are banned, or what was done about them
    List(AgentListOptions),
    /// Remove an agent from the registry: its name becomes free, and its certificate is no longer accepted
    Remove(AgentRemoveOptions),
    /// Refuse a name: calls under it, and joining under it
    Ban(AgentRuleOptions),
    /// Lift a ban
    Unban(AgentRuleOptions),
    /// Print an Envoy bootstrap that takes its certificate and trust from an agent's socket
    EnvoyConfig(EnvoyConfigOptions),
}

/// Options of `agent status`.
#[derive(Debug, Args)]
pub struct AgentStatusOptions {
    /// The agent's configuration file, to read the socket's path from
    /// [default: agent.toml in this directory, else /etc/banyan/agent.toml]
    #[arg(
        id = "status_config",
        long = "config",
        short,
        value_name = "FILE",
        conflicts_with = "socket"
    )]
    pub config: Option<PathBuf>,
    /// The socket at which the agent serves secrets
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Options of `agent list`.
#[derive(Debug, Args)]
pub struct AgentListOptions {
    /// List the names that are banned, with who did it and why
    #[arg(long, conflicts_with = "acts")]
    pub banned: bool,
    /// List what the Envoys of agents' workloads count of handshakes
    #[arg(long, conflicts_with_all = ["acts", "banned"])]
    pub handshakes: bool,
    /// List where workloads listen, as their agents know it
    #[arg(long, conflicts_with_all = ["acts", "banned", "handshakes"])]
    pub listeners: bool,
    /// List what operators did to agents, oldest first
    #[arg(long)]
    pub acts: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of `agent remove`.
#[derive(Debug, Args)]
pub struct AgentRemoveOptions {
    /// Whom, by whom, and why.
    #[command(flatten)]
    pub rule: AgentRuleOptions,
    /// No gate waits for the agent's leaves any more, as with `leaf forget`: for a node that is gone
    #[arg(long)]
    pub forget_leaves: bool,
    /// Forget its leaves although it is connected
    #[arg(long, requires = "forget_leaves")]
    pub force: bool,
}

/// Options of `agent remove`, `agent ban` and `agent unban`.
#[derive(Debug, Args)]
pub struct AgentRuleOptions {
    /// Name or SPIFFE id of the agent. The path of an identity, such as ns/shop/sa/cart, stands for all that joined with its JWT
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Who wants it, and why.
    #[command(flatten)]
    pub word: ReasonedOptions,
    /// Change nothing, and show what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

/// Options of `agent envoy-config`.
#[derive(Debug, Args)]
pub struct EnvoyConfigOptions {
    /// The agent's SDS socket
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// Name of this Envoy
    #[arg(long, value_name = "NAME", default_value = "banyan")]
    pub node: String,
    /// IP:PORT on which Envoy accepts mTLS
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8443")]
    pub inbound: SocketAddr,
    /// IP:PORT of the local application; without it Envoy answers by itself
    #[arg(long, value_name = "IP:PORT")]
    pub application: Option<SocketAddr>,
    /// Listen on LISTEN in plain text and connect to PEER with mTLS, expecting its SPIFFE id; may be repeated
    #[arg(long, value_name = "LISTEN=PEER[,SPIFFE_ID]")]
    pub outbound: Vec<String>,
    /// IP:PORT of Envoy's admin interface
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9901")]
    pub admin: SocketAddr,
    /// SPIFFE id that callers of the inbound listener must have; may be repeated; without it any of the trust domain
    #[arg(long, value_name = "SPIFFE_ID")]
    pub allow: Vec<String>,
    /// Longest lifetime of a connection, so that none outlives the trust it was opened with
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    pub max_connection_age: Duration,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Arguments, Verb};

    fn parsed(words: &[&str]) -> AgentOptions {
        let arguments = Arguments::try_parse_from(["banyan", "agent"].iter().chain(words)).unwrap();
        let Verb::Agent(options) = arguments.verb else { panic!("another verb") };
        options
    }

    #[test]
    fn an_agent_and_what_asks_a_server_about_agents_have_configurations_of_their_own() {
        assert_eq!(parsed(&[]).config, None);
        assert_eq!(parsed(&["--config", "x.toml"]).config, Some(PathBuf::from("x.toml")));
        let target = |words: &[&str]| match parsed(words).action {
            Some(AgentAction::List(options)) => options.target,
            Some(AgentAction::Ban(options)) => options.target,
            other => panic!("{other:?}"),
        };
        assert_eq!(target(&["list"]).config, None, "the server's file is found by itself");
        assert_eq!(target(&["list", "--config", "b.toml"]).config, Some(PathBuf::from("b.toml")));
        let ban = ["ban", "node-1", "--by", "ann", "--reason", "stolen", "--socket", "s"];
        assert_eq!(target(&ban).socket, Some(PathBuf::from("s")));
    }
}
