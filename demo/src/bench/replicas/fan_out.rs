//! A new bundle, sent to many connected agents.

use std::time::Duration;

use anyhow::Context;
use console::admin_socket;
use proto::banyan::admin::v1::{StartRotationRequest, StatusRequest};
use tokio::time::Instant;

use super::connected::Connected;
use crate::bench::server::BenchServer;
use crate::tokens::TokenSource;

/// What one fan-out found.
#[derive(Debug)]
pub(super) struct FanOut {
    pub(super) servers: usize,
    pub(super) agents: u32,
    /// Agents that registered and connected, a second.
    pub(super) joined_per_sec: f64,
    /// Memory of all servers that their connections took, in KiB for each agent.
    pub(super) kib_per_agent: f64,
    /// From the first agent that had the new bundle.
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) last: Duration,
}

/// Connects the agents and starts a rotation, which publishes a bundle with a second root.
pub(super) async fn measure(
    servers: &[&BenchServer],
    tokens: &TokenSource,
    agents: u32,
) -> anyhow::Result<FanOut> {
    let before = rss_kib(servers)?;
    let began = Instant::now();
    let mut connected = Connected::join(servers, tokens, agents).await.context("agents")?;
    let joined_per_sec = f64::from(agents) / began.elapsed().as_secs_f64();
    let kib_per_agent = rss_kib(servers)?.saturating_sub(before) as f64 / f64::from(agents);
    let socket = servers.first().context("no server")?.admin_socket();
    let status = admin_socket::connect(&socket).await?.status(StatusRequest {}).await?;
    let sequence = status.into_inner().sequence + 1;
    let request = StartRotationRequest {
        request_id: "bench".to_owned(),
        mode: "manual".to_owned(),
        ..Default::default()
    };
    admin_socket::rotations(&socket).await?.start_rotation(request).await?;
    let mut came = connected.all_have(sequence).await?;
    came.sort();
    let first = came.first().copied().context("no agent")?;
    let after = |part: f64| {
        let place = ((came.len() - 1) as f64 * part) as usize;
        came.get(place).map_or(Duration::ZERO, |at| at.duration_since(first))
    };
    let (p50, p99, last) = (after(0.5), after(0.99), after(1.0));
    let servers = servers.len();
    Ok(FanOut { servers, agents, joined_per_sec, kib_per_agent, p50, p99, last })
}

fn rss_kib(servers: &[&BenchServer]) -> anyhow::Result<u64> {
    servers.iter().map(|server| server.rss_kib()).sum()
}
