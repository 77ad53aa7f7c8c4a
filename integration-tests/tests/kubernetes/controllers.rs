//! What happens to channels where the controllers of a cluster work: a real kube-controller-manager ends namespaces, collects what
//! has no owner any more, and puts objects of its own beside ours. And what a real etcd forgets.

use std::time::Duration;

use anyhow::Context as _;
use integration_tests::support::eventually;
use serde_json::{Value, json};
use stores_peers::{ControllerManager, Line, Relay};

use super::support::{MESH, World, map, until_says};

const NAME: &str = "banyan-trust-bundle";

async fn is_gone(world: &World, namespace: &str) -> bool {
    let path = format!("/api/v1/namespaces/{namespace}");
    let answer = world.api.ask("GET", &path, None).await;
    answer.err().is_some_and(|error| format!("{error:#}").contains("not found"))
}

async fn end(world: &World, namespace: &str) -> anyhow::Result<()> {
    world.api.ask("DELETE", &format!("/api/v1/namespaces/{namespace}"), None).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_that_really_end_and_come_again_in_a_rotation_hold_nothing_up_and_none_is_lost()
-> anyhow::Result<()> {
    let world = World::start(&["banyan-publish-config-maps"]).await?;
    let _controllers = ControllerManager::start(&world.api)?;
    let names: Vec<_> = (0..60).map(|number| format!("n{number}")).collect();
    for name in &names {
        world.api.add_namespace(name).await?;
    }
    let running = world.beside(MESH).await?;
    world.until_confirmed("mesh").await?;
    world.ca.rotate("one").await?;
    // While it writes the bundle with both roots, and after.
    let (ending, coming) = names.split_at(30);
    for name in ending {
        end(&world, name).await?;
    }
    for name in ending {
        eventually(&format!("{name} is gone"), || is_gone(&world, name)).await?;
    }
    let (again, _) = ending.split_at(15);
    for name in again {
        world.api.add_namespace(name).await?;
    }
    world.until_over("one").await?;
    for name in again.iter().chain(coming) {
        world.until_published(name).await?;
    }
    for name in ending.iter().filter(|name| !again.contains(name)) {
        assert!(is_gone(&world, name).await, "{name} came back");
    }
    until_says(&running, "publish/mesh", true, ", confirmed").await?;
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_that_is_collected_with_its_owner_is_put_back() -> anyhow::Result<()> {
    let world = World::start(&["banyan-publish-config-maps"]).await?;
    let _controllers = ControllerManager::start(&world.api)?;
    let running = world.beside(MESH).await?;
    world.until_published("default").await?;
    // Somebody made it a part of something else.
    let owner = json!({ "metadata": { "name": "owner" } });
    let owner = world.api.ask("POST", "/api/v1/namespaces/default/configmaps", Some(owner)).await?;
    let uid = owner["metadata"]["uid"].clone();
    let owned = json!({ "metadata": { "ownerReferences": [
        { "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid } ] } });
    let before = world.api.ask("PATCH", &map("default", NAME), Some(owned)).await?;
    world.api.ask("DELETE", &map("default", "owner"), None).await?;
    let was = before["metadata"]["uid"].clone();
    eventually("it was collected, and is there again", || async {
        let now = world.config_map("default", NAME).await.unwrap_or_default();
        now["metadata"]["uid"].is_string() && now["metadata"]["uid"] != was
    })
    .await?;
    world.until_published("default").await?;
    running.shutdown().await;
    Ok(())
}

/// Lists of the account that were answered.
fn lists(world: &World) -> anyhow::Result<usize> {
    let all = world.api.requests()?;
    Ok(all
        .iter()
        .filter(|asked| asked.user == "ca" && asked.verb == "list" && asked.code == 200)
        .count())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_etcd_has_forgotten_in_a_rotation_is_read_again_and_no_namespace_is_lost()
-> anyhow::Result<()> {
    let mut world = World::start(&["banyan-publish-config-maps"]).await?;
    for number in 0..20 {
        world.api.add_namespace(&format!("n{number}")).await?;
    }
    let relay = Relay::start(world.api.address()).await?;
    let socket = world.ca.running().admin_socket.clone();
    let running = world.beside_at(&socket, relay.address(), MESH).await?;
    world.until_confirmed("mesh").await?;
    let list = "/api/v1/configmaps?fieldSelector=metadata.name%3Dbanyan-trust-bundle";
    let last = world.api.ask("GET", list, None).await?["metadata"]["resourceVersion"].clone();
    // It hears nothing, while everything changes: a root comes, namespaces come and go, somebody strips and deletes.
    relay.set(Line::Cut).await;
    world.ca.rotate("one").await?;
    let edited = json!({ "data": { "ca.crt": null } });
    world.api.ask("PATCH", &map("n0", NAME), Some(edited)).await?;
    world.api.ask("DELETE", &map("n1", NAME), None).await?;
    for number in 20..40 {
        world.api.add_namespace(&format!("n{number}")).await?;
    }
    // Nobody can say any more what came after what it saw last: neither etcd, nor what the API server remembers.
    world.api.etcd().compact()?;
    world.api.stop();
    world.api.run().await?;
    for number in 0..50 {
        let noise = json!({ "metadata": { "name": format!("noise-{number}") } });
        world.api.ask("POST", "/api/v1/namespaces/default/configmaps", Some(noise)).await?;
    }
    world.api.etcd().compact()?;
    let since = last.as_str().unwrap_or_default();
    let watch = format!("{list}&watch=1&timeoutSeconds=5&resourceVersion={since}");
    let told = world.api.ask("GET", &watch, None).await;
    let told = told.map_or_else(|error| format!("{error:#}"), |event| event.to_string());
    assert!(told.contains("too old resource version"), "it still knows: {told}");
    let before = lists(&world)?;
    relay.set(Line::Up).await;
    // It asks less and less often while nobody answers.
    until_says(&running, "publish/mesh", true, "").await?;
    let over = world.until_over("one").await;
    over.with_context(|| format!("{:?}", running.board().lines()))?;
    assert!(lists(&world)? > before, "it was not read again");
    for number in 0..40 {
        world.until_published(&format!("n{number}")).await?;
    }
    until_says(&running, "publish/mesh", true, ", confirmed").await?;
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_slow_all_through_a_rotation_only_makes_it_slower()
-> anyhow::Result<()> {
    let world = World::start(&["banyan-publish-config-maps"]).await?;
    let relay = Relay::start(world.api.address()).await?;
    let socket = world.ca.running().admin_socket.clone();
    let running = world.beside_at(&socket, relay.address(), MESH).await?;
    world.until_confirmed("mesh").await?;
    relay.set(Line::Slow(Duration::from_secs(2))).await;
    let sequence = world.ca.running().bundle().sequence().0;
    world.ca.rotate("one").await?;
    let over = world.until_over("one").await?;
    assert_eq!(over.last_ending, "completed");
    assert!(world.party("mesh").await.is_some_and(|party| party.confirmed > sequence));
    let held: Option<Value> = world.config_map("default", NAME).await.ok();
    assert!(held.is_some());
    world.until_published("default").await?;
    running.shutdown().await;
    Ok(())
}
