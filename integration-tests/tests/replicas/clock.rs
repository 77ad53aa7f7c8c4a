//! A wall clock that is wrong on one of three servers.

use std::fs;

use anyhow::ensure;
use integration_tests::replicas::{GIVEN, Plan, Trio};
use tokio::time::Instant;

use super::ROTATION_MAX;

const HOUR: i64 = 3_600;

pub(crate) async fn a_clock_that_jumps_an_hour_ahead_and_back_stops_that_server_alone_for_so_long(
    plan: Plan,
) -> anyhow::Result<()> {
    jumps(plan, HOUR).await
}

pub(crate) async fn a_clock_that_jumps_an_hour_back_and_ahead_stops_that_server_alone_for_so_long(
    plan: Plan,
) -> anyhow::Result<()> {
    jumps(plan, -HOUR).await
}

async fn jumps(plan: Plan, by: i64) -> anyhow::Result<()> {
    let mut trio = Trio::start(&plan).await?;
    let hammer = trio.hammer(0)?;
    hammer.until(GIVEN).await?;
    let since = Instant::now();
    trio.rotate(1, "among-faults").await?;
    trio.phase("distributing").await?;
    trio.server(0)?.hooks().set_clock_off(by)?;
    let said = trio.at(0)?.until_it_says("no leaf is issued and no gate opens").await?;
    ensure!(said.contains("set the clock right"), "{said}");
    trio.at(0)?.until_not_ready().await?;
    hammer.forget();
    trio.all_meet().await?;
    let outcomes = hammer.outcomes();
    ensure!(!outcomes.contains_key(GIVEN), "it issues nothing: {outcomes:?}");
    drop(hammer);
    trio.server(0)?.hooks().set_clock_off(0)?;
    trio.ready(0).await?;
    trio.over("among-faults", since, ROTATION_MAX).await?;
    trio.judged().await.map(drop)
}

pub(crate) async fn a_server_that_starts_with_a_wrong_clock_is_outvoted_and_goes_on_once_it_is_right(
    plan: Plan,
) -> anyhow::Result<()> {
    let mut trio = Trio::start(&plan).await?;
    let since = Instant::now();
    trio.rotate(0, "among-faults").await?;
    // A new machine: nothing on it knows better.
    trio.server(2)?.stop().await?;
    trio.count_rows().await;
    let server = trio.server(2)?;
    fs::remove_dir_all(server.data())?;
    server.hooks().set_clock_off(HOUR)?;
    server.start()?;
    let said = trio.at(2)?.until_it_says("the wall clock of this replica is").await?;
    ensure!(said.contains("ahead of those of the others"), "{said}");
    ensure!(said.contains("set the clock right, say so with `banyan clock accept"), "{said}");
    trio.at(2)?.until_not_ready().await?;
    let said = trio.at(0)?.until_it_says("the wall clock of replica ca-3 is").await?;
    ensure!(said.contains("ahead of this one's"), "{said}");
    // As it was told.
    trio.until_seen(0, "ca-3", "serving").await?;
    let server = trio.server(2)?;
    server.hooks().set_clock_off(0)?;
    let accept = ["clock", "accept", "--by", "tests", "--reason", "it is set right"];
    let (done, said) = server.banyan(&accept).await?;
    ensure!(done && said.contains("restart"), "{said}");
    server.stop().await?;
    server.start()?;
    server.ready().await?;
    trio.over("among-faults", since, ROTATION_MAX).await?;
    trio.judged().await.map(drop)
}
