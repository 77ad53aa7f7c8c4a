//! The day after of a node's agent: it is killed, what it stored is wiped, the API server is away, and Pods come and go meanwhile.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use integration_tests::cluster::{Cluster, Pod};
use integration_tests::mesh::http;
use integration_tests::support::eventually;
use serde_json::{Value, json};

use super::cluster;
use super::istio::ADMIN;
use super::node::{
    CART, Installed, Place, SECOND, TILL, agents, answered, application, holders, installed,
    is_held, logs, uid_of,
};

/// Of cart too; it comes while the agent is away.
const THIRD: Place = Place { namespace: "shop", account: "cart", end: 6 };
/// The server, the agent, and four applications; one end is left out.
const PODS: u8 = 7;

pub(crate) async fn an_agent_of_a_node_comes_back_from_kills_a_wiped_state_and_an_api_server_that_is_away(
    name: &'static str,
) -> anyhow::Result<()> {
    let Some(mut cluster) = cluster(name, PODS).await? else { return Ok(()) };
    let Installed { servers, mut agent, .. } = installed(&mut cluster).await?;
    let mut applications = Vec::new();
    for (own, peer) in [(CART, TILL), (TILL, CART), (Place { end: 4, ..SECOND }, TILL)] {
        applications.push(application(&mut cluster, own, peer).await?);
    }
    let [cart, till, second] = applications.as_mut_slice() else { anyhow::bail!("three") };
    for pod in [&*cart, &*till, &*second] {
        answered(pod).await.with_context(|| logs(&[&agent, pod]))?;
    }
    held_by(&agent, 3).await?;
    let first = agents(&servers).await?;
    ensure!(first.len() == 1, "{first:?}");

    // Killed: a Pod goes and another comes while it is away; whoever has a certificate goes on.
    agent.container("agent")?.kill().await?;
    gone(&cluster, second).await?;
    let third = application(&mut cluster, Place { end: 5, ..THIRD }, TILL).await?;
    for pod in [&*cart, &*till] {
        answered(pod).await?;
    }
    agent.run()?;
    answered(&third).await.with_context(|| logs(&[&agent, &third]))?;
    let uid = uid_of(second).to_owned();
    holders(&agent, "three Pods hold secrets, and the one that went is forgotten", |all| {
        let is_there =
            |one: &Value| one["pod"].as_str().is_some_and(|pod| pod == uid || pod == "shop/cart-4");
        all.iter().filter(|one| is_held(one)).count() == 3 && !all.iter().any(is_there)
    })
    .await?;
    ensure!(agents(&servers).await? == first, "it is another agent now");

    // What it stored is wiped: it joins as another agent, and everybody has certificates of that one.
    agent.container("agent")?.kill().await?;
    std::fs::remove_dir_all(agent.path("state", "state")?)?;
    agent.run()?;
    held_by(&agent, 3).await?;
    let second_life = agents(&servers).await?;
    ensure!(second_life.iter().any(|name| !first.contains(name)), "{second_life:?}");
    for pod in [&*cart, &*till, &third] {
        answered(pod).await.with_context(|| logs(&[&agent, pod]))?;
    }

    // The API server is away: a Pod that is known is served, also when its process begins anew.
    cluster.api.pause()?;
    for container in &mut cart.containers {
        container.kill().await?;
    }
    cart.run()?;
    answered(cart).await.with_context(|| logs(&[&agent, cart]))?;
    // An agent that begins meanwhile knows no Pod: it says what is in the way, and nobody loses what they have.
    agent.container("agent")?.kill().await?;
    agent.run()?;
    let line = ["/banyan", "agent", "status", "--socket", "/run/banyan/agent.sock"];
    let said = std::sync::Mutex::new(String::new());
    let told = eventually("the agent says that Pods cannot be watched", async || {
        let Ok((_, printed)) = agent.exec("agent", &line).await else { return false };
        let is_told = printed.contains("cannot be watched");
        *said.lock().unwrap_or_else(|held| held.into_inner()) = printed;
        is_told
    })
    .await;
    let said = said.into_inner().unwrap_or_else(|held| held.into_inner());
    println!("while the API server is away: {said}");
    for pod in [&*cart, &*till, &third] {
        http(SocketAddr::new(pod.address(), ADMIN), "GET", "/ready").await?;
        answered(pod).await.with_context(|| logs(&[&agent, pod]))?;
    }
    cluster.api.resume()?;
    told.with_context(|| format!("{said}\n{}", logs(&[&agent])))?;
    held_by(&agent, 3).await?;
    eventually("the agent is well", async || {
        agent.exec("agent", &line).await.is_ok_and(|(is_well, _)| is_well)
    })
    .await?;
    for pod in [&*cart, &*till, &third] {
        answered(pod).await.with_context(|| logs(&[&agent, pod]))?;
    }
    Ok(())
}

/// Waits until so many Pods hold secrets of the agent.
async fn held_by(agent: &Pod, count: usize) -> anyhow::Result<()> {
    let what = format!("{count} Pods hold secrets");
    holders(agent, &what, |all| all.iter().filter(|one| is_held(one)).count() == count).await
}

/// Ends a Pod, its object first.
async fn gone(cluster: &Cluster, pod: &mut Pod) -> anyhow::Result<()> {
    let path = format!("/api/v1/namespaces/{}/pods/{}", pod.namespace(), pod.name());
    cluster.api.ask("DELETE", &path, Some(json!({ "gracePeriodSeconds": 0 }))).await?;
    for container in &mut pod.containers {
        container.kill().await?;
    }
    Ok(())
}
