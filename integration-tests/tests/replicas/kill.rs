//! `kill -9` of one server.

use integration_tests::replicas::{LEASE, Plan, Trio};
use tokio::time::Instant;

use super::ROTATION_MAX;

pub(crate) async fn the_lead_is_killed_while_trust_is_distributed_and_is_started_again(
    plan: Plan,
) -> anyhow::Result<()> {
    killed_in(Plan { clients: 1, ..plan }, 0, "distributing").await
}

pub(crate) async fn a_server_that_does_not_lead_is_killed_while_leaves_are_renewed_and_is_started_again(
    plan: Plan,
) -> anyhow::Result<()> {
    killed_in(plan, 2, "draining").await
}

async fn killed_in(plan: Plan, killed: usize, phase: &str) -> anyhow::Result<()> {
    let mut trio = Trio::start(&plan).await?;
    let (other, since) = ((killed + 1) % 3, Instant::now());
    let name = trio.server(killed)?.name().to_owned();
    anyhow::ensure!(trio.server(other)?.sees("ca-1").await?.leads, "ca-1 leads");
    trio.rotate(other, "among-faults").await?;
    trio.phase(phase).await?;
    trio.server(killed)?.kill().await?;
    // The others name it once its lease is over, until when it holds gates, and what can be done.
    let said = trio.server(other)?.until_it_says(&format!("replica {name} (")).await?;
    anyhow::ensure!(
        said.contains("has not renewed its lease for") && said.contains("start it again"),
        "{said}"
    );
    let seen = trio.server(other)?.sees(&name).await?;
    anyhow::ensure!(seen.standing == "silent" && !seen.leads, "{seen:?}");
    anyhow::ensure!(seen.seen_seconds_ago >= LEASE.as_secs(), "{seen:?}");
    trio.server(killed)?.start()?;
    trio.ready(killed).await?;
    trio.over("among-faults", since, ROTATION_MAX).await?;
    trio.judged().await.map(drop)
}
