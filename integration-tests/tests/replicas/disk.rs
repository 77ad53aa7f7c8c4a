//! A server that loses its disk.

use std::fs;

use anyhow::ensure;
use integration_tests::replicas::{GIVEN, Plan, Trio};
use tokio::time::Instant;

use super::ROTATION_MAX;

pub(crate) async fn a_server_that_lost_its_disk_joins_anew_and_its_former_rows_hold_gates_until_their_bound(
    plan: Plan,
) -> anyhow::Result<()> {
    let mut trio = Trio::start(&plan).await?;
    let hammer = trio.hammer(2)?;
    hammer.until(GIVEN).await?;
    let since = Instant::now();
    trio.rotate(0, "among-faults").await?;
    trio.phase("distributing").await?;
    let former = trio.at(0)?.sees("ca-3").await?.segment;
    trio.server(2)?.kill().await?;
    drop(hammer);
    trio.count_rows().await;
    // Nothing raises it any more.
    let until = trio.at(0)?.sees("ca-3").await?.leaves_until;
    fs::remove_dir_all(trio.at(2)?.data())?;
    trio.server(2)?.start()?;
    let (_, explained) = trio.at(0)?.banyan(&["rotate", "explain"]).await?;
    trio.phase("draining").await?;
    let opened = Trio::now().as_secs();
    ensure!(
        opened >= until,
        "the gate opened at {opened}, leaves of lost rows lived until {until}"
    );
    ensure!(explained.contains("ca-3"), "who holds the gate is named: {explained}");
    trio.ready(2).await?;
    let now = trio.at(0)?.sees("ca-3").await?;
    ensure!(now.segment != former && now.standing == "serving", "{now:?} after {former}");
    trio.over("among-faults", since, ROTATION_MAX).await?;
    trio.judged().await.map(drop)
}
