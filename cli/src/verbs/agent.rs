//! `banyan agent`, `banyan agent envoy-config`, and what operators do about registered agents.

use std::net::SocketAddr;

use agent::envoy_config::{self, EnvoyConfig, Inbound, Outbound};
use agent::{Agent, AgentConfig, HostDeps};
use console::exit::Failure;
use console::{output, signals};
use trust::SpiffeId;

use crate::args::{AgentAction, AgentOptions, EnvoyConfigOptions};
use crate::{config_file, logs, verbs};

mod handshakes;
mod listeners;
pub(crate) mod registered;
mod status;

/// Runs the agent until it is asked to stop, or does what else was asked for.
///
/// # Errors
/// [`Failure::Configuration`] if the file is wrong, [`Failure::Failed`] if the agent cannot start.
pub async fn run(options: &AgentOptions) -> Result<(), Failure> {
    match &options.action {
        Some(AgentAction::Status(options)) => return status::run(options).await,
        Some(AgentAction::EnvoyConfig(options)) => return print_envoy_config(options),
        Some(AgentAction::List(options)) => return registered::list(options).await,
        Some(AgentAction::Remove(options)) => return registered::remove(options).await,
        Some(AgentAction::Ban(options)) => return registered::ban(options).await,
        Some(AgentAction::Unban(options)) => return registered::unban(options).await,
        None => {}
    }
    let file = config_file::find(options.config.as_deref(), config_file::AGENT)?;
    let config =
        AgentConfig::read(&file).map_err(|error| Failure::Configuration(error.to_string()))?;
    let _logs = logs::start(options.log_format, &options.log)?;
    tracing::info!(config = %file.display(), commit = verbs::about::COMMIT, "starting");
    let running =
        Agent::start(config, HostDeps::of_this_machine()).await.map_err(anyhow::Error::from)?;
    signals::stop_requested().await.map_err(anyhow::Error::from)?;
    tracing::info!("stopping");
    running.shutdown().await;
    Ok(())
}

fn print_envoy_config(options: &EnvoyConfigOptions) -> Result<(), Failure> {
    let config = EnvoyConfig {
        node: options.node.clone(),
        socket: options.socket.clone(),
        admin: Some(options.admin),
        inbound: Some(Inbound {
            listen: options.inbound,
            application: options.application,
            allowed_peers: options
                .allow
                .iter()
                .map(|id| spiffe_id(id))
                .collect::<Result<_, _>>()?,
        }),
        outbound: options.outbound.iter().map(|text| outbound(text)).collect::<Result<_, _>>()?,
        connection_age_max: options.max_connection_age,
    };
    output::verbatim(envoy_config::render(&config).trim_end())
}

/// Parses `LISTEN=PEER[,SPIFFE_ID]`.
fn outbound(text: &str) -> Result<Outbound, Failure> {
    let wrong = || {
        Failure::Usage(
            format!("--outbound {text}: write LISTEN=PEER or LISTEN=PEER,SPIFFE_ID").into(),
        )
    };
    let (listen, target) = text.split_once('=').ok_or_else(wrong)?;
    let (peer, id) = match target.split_once(',') {
        Some((peer, id)) => (peer, Some(spiffe_id(id)?)),
        None => (target, None),
    };
    let address = |text: &str| text.parse::<SocketAddr>().map_err(|_| wrong());
    Ok(Outbound {
        name: format!("to_{}", peer.replace([':', '.', '[', ']'], "_")),
        listen: address(listen)?,
        peer: address(peer)?,
        peer_identities: id.into_iter().collect(),
        new_connection_per_request: false,
    })
}

fn spiffe_id(text: &str) -> Result<SpiffeId, Failure> {
    SpiffeId::parse(text).map_err(|error| Failure::Usage(format!("{text}: {error}").into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outbound_is_listen_upstream_and_perhaps_an_identity() {
        let plain = outbound("127.0.0.1:1=127.0.0.1:2").unwrap();
        assert_eq!((plain.listen.port(), plain.peer.port()), (1, 2));
        assert!(plain.peer_identities.is_empty());
        let named = outbound("127.0.0.1:1=127.0.0.1:2,spiffe://a/b").unwrap();
        assert_eq!(named.peer_identities, [SpiffeId::parse("spiffe://a/b").unwrap()]);
        assert!(
            outbound("127.0.0.1:1").is_err()
                && outbound("=x").is_err()
                && outbound("a=b,c").is_err()
        );
    }
}
