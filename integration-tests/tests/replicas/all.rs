//! All servers at once.

use integration_tests::replicas::{Plan, Trio};
use tokio::time::Instant;

use super::ROTATION_MAX;

pub(crate) async fn all_servers_are_killed_at_once_while_leaves_are_renewed(
    plan: Plan,
) -> anyhow::Result<()> {
    let mut trio = Trio::start(&Plan { clients: 1, ..plan }).await?;
    let since = Instant::now();
    trio.rotate(1, "among-faults").await?;
    trio.phase("draining").await?;
    kill_all(&mut trio).await?;
    trio.all_ready().await?;
    trio.over("among-faults", since, ROTATION_MAX).await?;
    trio.judged().await.map(drop)
}

pub(crate) async fn all_servers_and_their_store_are_killed_at_once_and_go_on_from_what_is_on_disks(
    plan: Plan,
) -> anyhow::Result<()> {
    let mut trio = Trio::start(&plan).await?;
    let since = Instant::now();
    trio.rotate(1, "among-faults").await?;
    trio.phase("distributing").await?;
    trio.etcd.stop();
    kill_all(&mut trio).await?;
    // Servers first: they wait for the store.
    trio.tend()?;
    trio.etcd.run()?;
    trio.all_ready().await?;
    trio.over("among-faults", since, ROTATION_MAX).await?;
    trio.judged().await.map(drop)
}

async fn kill_all(trio: &mut Trio) -> anyhow::Result<()> {
    let kills = trio.servers.iter_mut().map(integration_tests::replicas::Server::kill);
    futures::future::try_join_all(kills).await.map(drop)
}
