//! A network that is cut: one server from etcd, from the other servers, or from agents. All of it is in network namespaces.

use std::time::Duration;

use anyhow::ensure;
use integration_tests::replicas::{GIVEN, Net, Plan, Trio};
use stores_peers::Pki;
use tokio::time::Instant;

use super::ROTATION_MAX;

pub(crate) async fn a_server_that_is_cut_off_from_the_store_releases_nothing_after_its_lease(
    plan: Plan,
) -> anyhow::Result<()> {
    let Some(Laid { net, mut trio, _pki }) = laid(plan).await? else { return Ok(()) };
    let hammer = trio.hammer(0)?;
    hammer.until(GIVEN).await?;
    let since = Instant::now();
    trio.rotate(1, "among-faults").await?;
    trio.phase("distributing").await?;
    let [store, _] = net.store();
    net.cut(0, store.ip(), true)?;
    hammer.until("Unavailable LEASE_LAPSED, with a time to retry").await?;
    let said = trio.at(0)?.until_it_says("the lease of this replica lapsed").await?;
    ensure!(said.contains("goes on by itself once its lease is renewed"), "{said}");
    trio.at(0)?.until_not_ready().await?;
    trio.at(1)?.until_it_says("replica ca-1 (").await?;
    ensure!(trio.at(1)?.sees("ca-2").await?.leads, "another leads");
    ensure!(!trio.at(0)?.sees("ca-1").await?.leads, "it does not take itself for the lead");
    // It is cut off itself, and blames nobody.
    let said = trio.at(0)?.status().await?.conditions;
    ensure!(!said.iter().any(|one| one.contains("replica remove")), "{said:?}");
    hammer.forget();
    trio.all_meet().await?;
    let outcomes = hammer.outcomes();
    ensure!(!outcomes.contains_key(GIVEN), "it releases nothing: {outcomes:?}");
    net.cut(0, store.ip(), false)?;
    trio.ready(0).await?;
    drop(hammer);
    trio.over("among-faults", since, ROTATION_MAX).await?;
    trio.judged().await.map(drop)
}

pub(crate) async fn a_server_that_is_cut_off_from_the_others_alone_serves_on(
    plan: Plan,
) -> anyhow::Result<()> {
    let Some(Laid { net, trio, _pki }) = laid(plan).await? else { return Ok(()) };
    let since = Instant::now();
    for other in [1, 2] {
        net.cut(0, net.server(other), true)?;
        net.cut(other, net.server(0), true)?;
    }
    trio.rotate(1, "among-faults").await?;
    trio.over("among-faults", since, ROTATION_MAX).await?;
    // They see each other in the store.
    for (asked, name) in [(0, "ca-2"), (1, "ca-1")] {
        let seen = trio.at(asked)?.sees(name).await?;
        ensure!(seen.standing == "serving", "{seen:?}");
    }
    trio.at(0)?.until_ready().await?;
    for other in [1, 2] {
        net.cut(0, net.server(other), false)?;
        net.cut(other, net.server(0), false)?;
    }
    trio.judged().await.map(drop)
}

pub(crate) async fn agents_leave_a_server_that_they_are_cut_off_from_and_the_rotation_goes_on(
    plan: Plan,
) -> anyhow::Result<()> {
    let Some(Laid { net, trio, _pki }) = laid(plan).await? else { return Ok(()) };
    let since = Instant::now();
    net.cut(0, net.test(), true)?;
    trio.rotate(1, "among-faults").await?;
    trio.agents_leave(0).await?;
    // It serves, for all that it and the others know.
    let seen = trio.at(1)?.sees("ca-1").await?;
    ensure!(seen.standing == "serving" && seen.leads, "{seen:?}");
    trio.over("among-faults", since, ROTATION_MAX + Duration::from_secs(20)).await?;
    net.cut(0, net.test(), false)?;
    trio.judged().await.map(drop)
}

/// What is in a network of its own.
struct Laid {
    net: Net,
    trio: Trio,
    /// etcd reads its files at each connection.
    _pki: Pki,
}

/// Inside a network of its own: everything in it. Outside: goes there, and has nothing to do afterwards.
async fn laid(plan: Plan) -> anyhow::Result<Option<Laid>> {
    if !Net::is_inside() {
        let program = std::env::current_exe()?;
        let inside = move || Net::run_inside(&program, &["--exact", plan.name, "--nocapture"]);
        tokio::task::spawn_blocking(inside).await??;
        return Ok(None);
    }
    let net = Net::lay(3)?;
    let [store, _] = net.store();
    let pki = Pki::with_address(&store.ip().to_string())?;
    let trio = Trio::start(&Plan { net: Some(net), ..plan }.over_tls(&pki)?).await?;
    Ok(Some(Laid { net, trio, _pki: pki }))
}
