//! Agents whose server is killed under them: how long each takes to be connected to another one.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent::{Agent, AgentConfig, HostDeps, Running, Status};
use anyhow::{Context, anyhow};
use console::admin_socket;
use proto::banyan::admin::v1::CreateTokenRequest;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::fleet::Fleet;
use crate::bench::server::{BenchServer, TRUST_DOMAIN};
use crate::mesh::ca::write_private;

/// Longest wait for an agent to be connected.
const CONNECTED_WITHIN: Duration = Duration::from_secs(120);

/// What it took.
#[derive(Debug)]
pub(super) struct Failover {
    /// Agents that had to go elsewhere.
    pub(super) agents: usize,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

/// Kills each server in turn.
pub(super) async fn measure(
    fleet: &mut Fleet,
    agents: u16,
    directory: &Path,
) -> anyhow::Result<Failover> {
    let mut running = Vec::new();
    for number in 0..agents {
        let home = directory.join(format!("agent-{number}"));
        running.push(start(&fleet.three, &home, number).await?);
    }
    for agent in &running {
        connected(agent.changes(), None).await?;
    }
    let mut took = Vec::new();
    for server in &mut fleet.three {
        let address = server.address().to_string();
        let mut waiting = JoinSet::new();
        for agent in running.iter().filter(|agent| uses(&agent.status(), &address)) {
            let (changes, left) = (agent.changes(), address.clone());
            waiting.spawn(async move { connected(changes, Some(&left)).await });
        }
        let killed = Instant::now();
        server.kill().await?;
        while let Some(elsewhere) = waiting.join_next().await {
            took.push(elsewhere??.duration_since(killed));
        }
        server.restart().await.context("a server that was killed")?;
    }
    for agent in running {
        agent.shutdown().await;
    }
    took.sort();
    let at = |part: f64| {
        let place = (took.len().saturating_sub(1) as f64 * part).round() as usize;
        took.get(place).copied().context("no agent was at any server")
    };
    Ok(Failover { agents: took.len(), p50: at(0.5)?, p99: at(0.99)? })
}

fn uses(status: &Status, address: &str) -> bool {
    status.ca_addresses.iter().any(|known| known.in_use && known.address == address)
}

/// Waits until the agent's stream is up, elsewhere than at `left`; gives when that was.
async fn connected(
    agent: watch::Receiver<Arc<Status>>,
    left: Option<&str>,
) -> anyhow::Result<Instant> {
    let mut agent = agent;
    let up =
        agent.wait_for(|status| status.connected && left.is_none_or(|left| !uses(status, left)));
    let waited = tokio::time::timeout(CONNECTED_WITHIN, up).await;
    waited.map_err(|_| anyhow!("an agent is not connected after {CONNECTED_WITHIN:?}"))??;
    Ok(Instant::now())
}

async fn start(servers: &[BenchServer], home: &Path, number: u16) -> anyhow::Result<Running> {
    let id = format!("spiffe://{TRUST_DOMAIN}/ns/bench/sa/w{number}");
    std::fs::create_dir_all(home)?;
    let socket = servers.first().context("no server")?.admin_socket();
    let request = CreateTokenRequest {
        agent: format!("bench-{number}"),
        identities: vec![id.clone()],
        ttl_seconds: 600,
        ..Default::default()
    };
    let token = admin_socket::connect(&socket).await?.create_token(request).await?.into_inner();
    write_private(&home.join("token"), &token.token)?;
    let addresses: BTreeSet<_> =
        servers.iter().map(|server| format!("\"{}\"", server.address())).collect();
    let addresses = addresses.into_iter().collect::<Vec<_>>().join(", ");
    let uid = rustix::process::getuid().as_raw();
    let config = home.join("agent.toml");
    let text = format!(
        r#"# Written by `banyan bench`.
trust_domain = "{TRUST_DOMAIN}"
ca_addresses = [{addresses}]
state_dir = "{home}/state"
socket = "{home}/sds.sock"
join_token_file = "{home}/token"

[[workload]]
uid = {uid}
spiffe_id = "{id}"
"#,
        home = home.display()
    );
    std::fs::write(&config, text)?;
    Ok(Agent::start(AgentConfig::read(&config)?, HostDeps::of_this_machine()).await?)
}
