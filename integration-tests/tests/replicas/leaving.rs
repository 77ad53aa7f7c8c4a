//! Servers that drain, come back, stop in order, and are taken out for good.

use anyhow::ensure;
use integration_tests::replicas::{GIVEN, Plan, Trio};
use rotation::{Contents, SegmentState};
use tokio::time::Instant;

use super::ROTATION_MAX;

pub(crate) async fn a_server_that_drains_sends_its_agents_elsewhere_stops_in_order_and_holds_nothing(
    plan: Plan,
) -> anyhow::Result<()> {
    let mut trio = Trio::start(&plan).await?;
    let (hammer, since) = (trio.hammer(0)?, Instant::now());
    hammer.until(GIVEN).await?;
    let word = ["--by", "tests", "--reason", "to see"];
    let drain = [["replica", "drain", "ca-1", "--spread", "1s"].as_slice(), &word].concat();
    let (done, said) = trio.at(1)?.banyan(&drain).await?;
    ensure!(done && said.contains("its agents go elsewhere"), "{said}");
    trio.agents_leave(0).await?;
    trio.at(0)?
        .until_it_says("`banyan replica undrain ca-1 --reason TEXT` takes that back")
        .await?;
    trio.at(0)?.until_not_ready().await?;
    trio.until_seen(1, "ca-1", "draining").await?;
    hammer.forget();
    trio.all_meet().await?;
    let outcomes = hammer.outcomes();
    ensure!(!outcomes.contains_key(GIVEN), "it issues nothing: {outcomes:?}");
    // As it says.
    let undrain = [["replica", "undrain", "ca-1"].as_slice(), &word].concat();
    let (done, said) = trio.at(0)?.banyan(&undrain).await?;
    ensure!(done, "{said}");
    trio.ready(0).await?;
    hammer.forget();
    hammer.until(GIVEN).await?;
    drop(hammer);

    trio.rotate(1, "among-faults").await?;
    trio.phase("distributing").await?;
    let (done, said) = trio.at(1)?.banyan(&drain).await?;
    ensure!(done, "{said}");
    trio.agents_leave(0).await?;
    let segment = trio.at(1)?.sees("ca-1").await?.segment.parse()?;
    trio.server(0)?.stop().await?;
    let record = trio.at(1)?.verified().await?;
    let closed = record.segments.get(&segment).map(|segment| segment.state);
    let read = matches!(closed, Some(SegmentState::Closed(Contents::Read)) | None);
    ensure!(read, "its account is closed as read: {closed:?}");
    trio.over("among-faults", since, ROTATION_MAX).await?;
    let remove = [["replica", "remove", "ca-1"].as_slice(), &word].concat();
    let (done, said) = trio.at(1)?.banyan(&remove).await?;
    ensure!(done && said.contains("is removed"), "{said}");
    ensure!(trio.at(1)?.sees("ca-1").await.is_err(), "it is listed no more");
    ensure!(trio.at(1)?.status().await?.conditions.is_empty(), "and nothing waits for it");
    trio.judged().await.map(drop)
}

pub(crate) async fn a_dead_server_that_is_removed_is_waited_for_no_more_and_a_live_one_is_removed_by_force_alone(
    plan: Plan,
) -> anyhow::Result<()> {
    let mut trio = Trio::start(&plan).await?;
    let since = Instant::now();
    let word = ["--by", "tests", "--reason", "to see"];
    let remove = |name| [["replica", "remove", name].as_slice(), &word].concat();
    trio.rotate(0, "among-faults").await?;
    trio.phase("distributing").await?;
    let (done, said) = trio.at(0)?.banyan(&remove("ca-2")).await?;
    ensure!(!done && said.contains("stop it first") && said.contains("--force"), "{said}");
    ensure!(trio.at(0)?.sees("ca-2").await?.standing == "serving", "nothing changed");
    trio.server(2)?.kill().await?;
    trio.at(0)?
        .until_it_says("`banyan replica remove ca-3 --reason TEXT` if it is gone for good")
        .await?;
    let (done, said) = trio.at(0)?.banyan(&remove("ca-3")).await?;
    ensure!(done && said.contains("is removed"), "{said}");
    ensure!(trio.at(0)?.sees("ca-3").await.is_err(), "it is listed no more");
    let forced = [remove("ca-2").as_slice(), &["--force"]].concat();
    let (done, said) = trio.at(0)?.banyan(&forced).await?;
    ensure!(done, "{said}");
    let ended = trio.server(1)?.ended().await?;
    let log = trio.at(1)?.log_tail();
    ensure!(!ended.success() && log.contains("removed"), "{ended}: {log}");
    trio.over("among-faults", since, ROTATION_MAX).await?;
    // Both come back as new ones.
    trio.judged().await.map(drop)
}
