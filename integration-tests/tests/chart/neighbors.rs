//! Roots of several clusters: two real API servers, each with servers and controllers of the chart, whose members talk to those of
//! the other cluster while the roots are replaced by `kubectl`.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration_tests::cluster::{Container, Pod};
use integration_tests::mesh::Reader;
use integration_tests::support::eventually;
use serde_json::json;
use tonic::Code;
use trust::RootId;

use super::NAMESPACE;
use super::mesh::{of_deploy, phase, until_phase};
use super::servers::{clients, nothing_was_forbidden, rotation};
use super::sites::{EastWest, Servers, Site, Sites, banyan, conditions, while_kept_up};

/// Gates that wait for lives of leaves on both sides, for the Lease of one that was killed, and for a machine that is busy.
const ROTATION_MAX: Duration = Duration::from_secs(240);
/// How often each pair meets before something is done, and after.
const MEETINGS: u64 = 8;

pub(crate) async fn roots_of_two_clusters_are_replaced_in_turn_by_kubectl_and_no_handshake_between_them_fails(
    name: &'static str,
) -> anyhow::Result<()> {
    let Some(sites) = Sites::neighbors(name).await? else { return Ok(()) };
    let Sites { east, west, mut servers } = sites;
    let story = async {
        a_token_of_the_other_cluster_is_refused(&east, &west).await?;
        let traffic = EastWest::between(&east, &west)?;
        traffic.meet(MEETINGS).await?;
        let before = east.publishes(2).await?;
        kubectl_rotates(&east).await?;
        let first = until_replaced(&east, &west, &servers.east, &before).await?;
        traffic.meet(MEETINGS).await?;
        let before = west.publishes(2).await?;
        kubectl_rotates(&west).await?;
        until_phase(&west.cluster, "Distributing").await?;
        // Whoever works at either side dies without a word, and is started again.
        for pod in [&mut servers.west, &mut servers.east] {
            let pod = pod.first_mut().context("no server")?;
            kill(pod).await?;
            pod.run()?;
        }
        let witnesses = servers.west.get(1..).unwrap_or_default();
        let second = until_replaced(&west, &east, witnesses, &before).await?;
        traffic.meet(MEETINGS).await?;
        let talk = traffic.stop().await?;
        ensure!(talk.failed.is_empty(), "{} failed: {:#?}", talk.failed.len(), talk.failed.first());
        for site in [&east, &west] {
            nothing_was_forbidden(&site.cluster).with_context(|| site.name)?;
        }
        // What a neighbor said each server hears, and none takes for trouble that another one has kept it already.
        for pod in servers.east.iter().chain(&servers.west) {
            let log = pod.containers.iter().map(Container::log).collect::<String>();
            ensure!(!log.contains("state `tier-above`: authority-books"), "{}: {log}", pod.name());
        }
        println!(
            "figures of {name}: handshakes between the clusters {}, failed {}, roots in each namespace of both before a switch \
             {first} and {second}, after it 2 and 2",
            talk.handshakes,
            talk.failed.len(),
        );
        Ok(())
    };
    let done = Box::pin(while_kept_up(&east, &west, story)).await;
    done.with_context(|| logs(&servers))
}

pub(crate) async fn a_neighbor_cluster_that_is_away_garbled_or_left_is_named_and_what_was_trusted_stays_until_it_is_left(
    name: &'static str,
) -> anyhow::Result<()> {
    let Some(sites) = Sites::neighbors(name).await? else { return Ok(()) };
    let Sites { east, west, mut servers } = sites;
    let story = async {
        let traffic = EastWest::between(&east, &west)?;
        traffic.meet(MEETINGS).await?;
        away(&east, &west, &mut servers).await?;
        traffic.meet(MEETINGS).await?;
        garbled(&west, &mut servers.west).await?;
        traffic.meet(MEETINGS).await?;
        let talk = traffic.stop().await?;
        ensure!(talk.failed.is_empty(), "{} failed: {:#?}", talk.failed.len(), talk.failed.first());
        left(&east, &west, &mut servers).await?;
        println!(
            "figures of {name}: handshakes between the clusters {}, failed {}",
            talk.handshakes,
            talk.failed.len()
        );
        Ok(())
    };
    let done = Box::pin(while_kept_up(&east, &west, story)).await;
    done.with_context(|| logs(&servers))
}

/// The neighbor is away during a rotation: it is held and says for whom, and goes on when the neighbor is back.
async fn away(east: &Site, west: &Site, servers: &mut Servers) -> anyhow::Result<()> {
    let before = east.publishes(2).await?;
    for pod in &mut servers.west {
        kill(pod).await?;
    }
    kubectl_rotates(east).await?;
    until_phase(&east.cluster, "Distributing").await?;
    let server = servers.east.first().context("no server")?;
    let mut client = clients(&servers.east)?.pop().context("no server")?;
    let waited = async {
        loop {
            let gate = rotation(&mut client).await.and_then(|rotation| rotation.gate);
            let holders = gate.map(|gate| gate.holders).unwrap_or_default();
            let names: Vec<_> = holders.iter().map(|holder| holder.identity.as_str()).collect();
            if names == ["ca/west"] {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let waited = tokio::time::timeout(ROTATION_MAX, waited).await;
    let explained = banyan(server, &["rotate", "explain"]).await?;
    waited.with_context(|| format!("it does not wait for the neighbor alone: {explained}"))?;
    ensure!(explained.contains("ca/west"), "{explained}");
    says(server, "neighbor west does not tell its roots").await?;
    // Settle is a second: an open gate would have been passed long before.
    let passed =
        tokio::time::timeout(Duration::from_secs(4), until_phase(&east.cluster, "Draining"));
    ensure!(passed.await.is_err(), "the new root signs although the neighbor is away");
    for pod in &mut servers.west {
        pod.run()?;
    }
    for pod in &mut servers.west {
        pod.ready(15014, "/readyz").await?;
    }
    until_replaced(east, west, &servers.east, &before).await.map(drop)
}

/// What a neighbor is asked with is garbled, while servers run and before they start: what they trust stays, and they say so.
async fn garbled(west: &Site, servers: &mut Vec<Pod>) -> anyhow::Result<()> {
    let before = west.publishes(2).await?;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets/banyan-neighbor-east");
    let good = west.cluster.get(&path).await?["data"].clone();
    let garbage = json!({ "token": STANDARD.encode("garbage"), "ca.crt": "" });
    west.cluster.api.ask("PATCH", &path, Some(json!({ "data": garbage }))).await?;
    for server in &*servers {
        server.sync(&west.cluster.api).await?;
        says(server, "neighbor east").await?;
    }
    west.roll(servers).await.context("servers do not start with a garbled Secret of a neighbor")?;
    for server in &*servers {
        says(server, "neighbor east").await?;
    }
    let after = west.publishes(2).await?;
    ensure!(before == after, "{before:?} {after:?}");
    west.cluster.api.ask("PATCH", &path, Some(json!({ "data": good }))).await?;
    for server in &*servers {
        server.sync(&west.cluster.api).await?;
        is_well(server).await?;
    }
    Ok(())
}

/// One side leaves: its word is taken, and the other one waits no longer when an operator says so.
async fn left(east: &Site, west: &Site, servers: &mut Servers) -> anyhow::Result<()> {
    // Without a section nothing ends, and the advice that is given for it can be followed.
    west.configure(&[]).await?;
    west.roll(&mut servers.west).await?;
    let server = servers.west.first().context("no server")?;
    says(server, "put it back with leave = true").await?;
    west.publishes(2).await?;
    let leave = west.neighbor(east).into_iter().chain(["neighbors.east.leave=true".to_owned()]);
    west.configure(&leave.collect::<Vec<_>>()).await?;
    west.roll(&mut servers.west).await?;
    let own = west.publishes(1).await?;
    west.configure(&[]).await?;
    west.roll(&mut servers.west).await?;
    is_well(servers.west.first().context("no server")?).await?;
    ensure!(west.publishes(1).await? == own, "other roots are published");

    // At the other side its word is still waited for.
    let server = servers.east.first().context("no server")?;
    let second = json!({ "apiVersion": "banyan.dev/v1alpha1", "kind": "RootRotation",
        "metadata": { "name": "second", "namespace": NAMESPACE }, "spec": {} });
    east.cluster.kubectl(&["apply", "-f", "-"], &second.to_string()).await?;
    eventually("the rotation waits for the one that left", || async {
        let said = banyan(server, &["rotate", "explain"]).await.unwrap_or_default();
        said.contains("ca/west")
    })
    .await?;
    banyan(server, &["downstream", "remove", "west"]).await?;
    let path = "/apis/banyan.dev/v1alpha1/namespaces/banyan-system/rootrotations/second";
    let over = async {
        loop {
            let status = east.cluster.get(path).await.unwrap_or_default()["status"].clone();
            match status["phase"].as_str() {
                Some("Completed") => return Ok(()),
                Some("Aborted" | "RolledBack" | "Refused") => bail!("{status}"),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    tokio::time::timeout(ROTATION_MAX, over).await.context("it waits on")?
}

async fn kubectl_rotates(site: &Site) -> anyhow::Result<()> {
    let example = of_deploy("examples/root-rotation.yaml");
    site.cluster.kubectl(&["apply", "-f", &example], "").await.map(drop)
}

/// Follows a rotation of `here` to its end. Answers how many roots each namespace of both had before the new one signed, as a
/// server says that lives throughout; in the end they have the new one and the other cluster's. `before` are the roots before it.
async fn until_replaced(
    here: &Site,
    there: &Site,
    servers: &[Pod],
    before: &[RootId],
) -> anyhow::Result<usize> {
    let mut witness = clients(servers)?.pop().context("no server")?;
    let (mut last, mut at_the_switch) = (Vec::new(), None);
    let over = async {
        loop {
            let mut now = here.published().await?;
            now.extend(there.published().await?);
            let at_ca = rotation(&mut witness).await.unwrap_or_default();
            match at_ca.phase.as_str() {
                "draining" | "withdrawing" if at_the_switch.is_none() => {
                    // What was read before a look that still found it distributing.
                    at_the_switch = Some(last.clone());
                }
                "distributing" => last.clone_from(&now),
                _ => {}
            }
            match phase(&here.cluster).await.as_str() {
                "Completed" => return Ok(()),
                other @ ("Aborted" | "RolledBack" | "Refused") => bail!("{other}"),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    let over = tokio::time::timeout(ROTATION_MAX, over).await;
    let explained = match servers.first() {
        Some(server) => banyan(server, &["rotate", "explain"]).await.unwrap_or_default(),
        None => String::new(),
    };
    over.with_context(|| format!("the rotation does not end: {explained}"))??;
    let after = here.publishes(2).await?;
    let new: Vec<RootId> = after.iter().filter(|root| !before.contains(root)).copied().collect();
    let [new] = new.as_slice() else { bail!("{before:?} {after:?}") };
    let both = |roots: &Vec<RootId>| before.iter().chain([new]).all(|root| roots.contains(root));
    let at_the_switch = at_the_switch.context("the new root was not seen to sign")?;
    ensure!(!at_the_switch.is_empty() && at_the_switch.iter().all(both), "{at_the_switch:?}");
    let there = there.publishes(2).await?;
    ensure!(there == after, "{there:?} {after:?}");
    Ok(before.len() + 1)
}

/// Both clusters name the same issuer, and each has keys of its own.
async fn a_token_of_the_other_cluster_is_refused(east: &Site, west: &Site) -> anyhow::Result<()> {
    let mut files = east.files()?;
    Reader::ask(&files).await?;
    files.token = west.files()?.token;
    let refused = Reader::ask(&files).await.err().context("a token of another cluster is good")?;
    ensure!(refused.code() == Code::Unauthenticated, "{refused:?}");
    Ok(())
}

async fn kill(pod: &mut Pod) -> anyhow::Result<()> {
    for container in &mut pod.containers {
        container.kill().await?;
    }
    Ok(())
}

async fn says(server: &Pod, words: &str) -> anyhow::Result<()> {
    let said = eventually(words, || async {
        let conditions = conditions(server).await.unwrap_or_default();
        conditions.iter().any(|text| text.contains(words))
    });
    let said = said.await;
    let conditions = conditions(server).await?;
    said.with_context(|| format!("{}: {conditions:?}", server.name()))
}

async fn is_well(server: &Pod) -> anyhow::Result<()> {
    let well = eventually("nothing is wrong", || async {
        conditions(server).await.is_ok_and(|conditions| conditions.is_empty())
    });
    let well = well.await;
    let conditions = conditions(server).await?;
    well.with_context(|| format!("{}: {conditions:?}", server.name()))
}

fn logs(servers: &Servers) -> String {
    let pods = servers.east.iter().chain(&servers.west);
    let containers = pods.flat_map(|pod| pod.containers.iter().map(move |one| (pod, one)));
    let log = |(pod, one): (&Pod, &Container)| {
        let text = one.log();
        let lines: Vec<_> = text.lines().collect();
        let last = lines.iter().skip(lines.len().saturating_sub(60));
        let last = last.map(|line| format!("{line}\n")).collect::<String>();
        format!("--- {} {}\n{last}", pod.name(), one.name())
    };
    containers.map(log).collect()
}
