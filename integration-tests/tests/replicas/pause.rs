//! A server that is stopped for longer than its lease, and goes on.

use integration_tests::replicas::{GIVEN, Plan, Trio};
use tokio::time::Instant;

use super::ROTATION_MAX;

pub(crate) async fn the_lead_is_paused_for_longer_than_its_lease_and_releases_nothing_that_it_held(
    plan: Plan,
) -> anyhow::Result<()> {
    let mut trio = Trio::start(&plan).await?;
    // Requests are in flight at any moment.
    let hammer = trio.hammer(0)?;
    hammer.until(GIVEN).await?;
    let since = Instant::now();
    trio.rotate(1, "among-faults").await?;
    trio.phase("distributing").await?;
    hammer.forget();
    trio.server(0)?.pause(true)?;
    trio.server(1)?.until_it_says("replica ca-1 (").await?;
    let leads = trio.server(1)?.sees("ca-2").await?;
    anyhow::ensure!(leads.leads, "another leads: {leads:?}");
    trio.server(0)?.pause(false)?;
    // What it was asked while it was paused it answers with a refusal that says when to retry.
    hammer.until("Unavailable LEASE_LAPSED, with a time to retry").await?;
    trio.ready(0).await?;
    hammer.forget();
    hammer.until(GIVEN).await?;
    drop(hammer);
    trio.over("among-faults", since, ROTATION_MAX).await?;
    trio.judged().await.map(drop)
}
