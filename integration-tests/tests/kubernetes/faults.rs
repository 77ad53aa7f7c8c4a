//! What can go wrong between a channel, the API server and the CA.

use std::time::Duration;

use anyhow::Context as _;
use integration_tests::support::eventually;
use proto::banyan::admin::v1::{AddRelyingPartyRequest, RemoveRelyingPartyRequest};
use serde_json::json;

use super::support::{MESH, World, map, never, until_says};

const NAME: &str = "banyan-trust-bundle";

#[tokio::test(flavor = "multi_thread")]
async fn an_older_bundle_never_takes_the_place_of_a_newer_one() -> anyhow::Result<()> {
    let world = World::start(&["banyan-publish-config-maps"]).await?;
    let running = world.beside(MESH).await?;
    world.until_confirmed("mesh").await?;
    // As if another process, which knows a later bundle, had been here: this one has woken up.
    let sequence = world.ca.running().bundle().sequence().0 + 3;
    let later =
        json!({ "metadata": { "annotations": { "banyan.dev/sequence": sequence.to_string() } } });
    world.api.ask("PATCH", &map("default", NAME), Some(later)).await?;
    let words = format!("default/{NAME}: it has bundle {sequence} of this CA");
    until_says(&running, "publish/mesh", false, &words).await?;
    let map_now = world.config_map("default", NAME).await?;
    assert_eq!(map_now["metadata"]["annotations"]["banyan.dev/sequence"], sequence.to_string());
    world.api.ask("DELETE", &map("kube-system", NAME), None).await?;
    world.until_published("kube-system").await?;
    world.ca.rotate("one").await?;
    never(
        "the new root signs although one was not published to",
        Duration::from_secs(5),
        || async { world.ca.rotation().await.is_ok_and(|rotation| rotation.phase == "draining") },
    )
    .await?;
    world.api.ask("DELETE", &map("default", NAME), None).await?;
    world.until_over("one").await?;
    world.until_published("default").await?;
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_of_another_ca_is_left_alone_and_the_channel_says_whose_it_is()
-> anyhow::Result<()> {
    let world = World::start(&["banyan-publish-config-maps"]).await?;
    let theirs = json!({ "metadata": { "name": NAME, "annotations": { "banyan.dev/ca": "another-ca" } },
        "data": { "ca.crt": "theirs" } });
    world.api.ask("POST", "/api/v1/namespaces/default/configmaps", Some(theirs)).await?;
    let running = world.beside(MESH).await?;
    until_says(&running, "publish/mesh", false, "another CA (another-ca)").await?;
    assert_eq!(world.published("default").await.as_deref(), Some("theirs"));
    assert_eq!(world.party("mesh").await.map(|party| party.confirmed), Some(0));
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_or_silent_is_told_and_the_channel_goes_on_when_it_is_back()
-> anyhow::Result<()> {
    let mut world = World::start(&["banyan-publish-config-maps"]).await?;
    let running = world.beside(MESH).await?;
    world.until_confirmed("mesh").await?;
    world.api.stop();
    until_says(&running, "publish/mesh", false, "").await?;
    world.ca.rotate("one").await?;
    never("the new root signs unseen", Duration::from_secs(4), || async {
        world.ca.rotation().await.is_ok_and(|rotation| rotation.phase == "draining")
    })
    .await?;
    world.api.run().await?;
    world.until_over("one").await?;
    world.until_published("default").await?;
    until_says(&running, "publish/mesh", true, ", confirmed").await?;
    // Silent: its sockets are open, and nobody answers.
    world.api.pause()?;
    world.ca.rotate("two").await?;
    until_says(&running, "publish/mesh", false, "gives no answer").await?;
    world.api.resume()?;
    world.until_over("two").await?;
    world.until_published("default").await?;
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_right_the_channel_says_which_and_goes_on_once_it_has_it() -> anyhow::Result<()> {
    let world = World::start(&[]).await?;
    let running = world.beside(MESH).await?;
    until_says(&running, "publish/mesh", false, "docs/kubernetes.md").await?;
    let probe = probed(running.address()).await?;
    assert!(probe.starts_with("HTTP/1.1 503") && probe.contains("[-] publish/mesh"), "{probe}");
    world.allow("banyan-publish-config-maps").await?;
    world.until_confirmed("mesh").await?;
    until_says(&running, "publish/mesh", true, ", confirmed").await?;
    let probe = probed(running.address()).await?;
    assert!(probe.starts_with("HTTP/1.1 200"), "{probe}");
    running.shutdown().await;
    Ok(())
}

async fn probed(address: std::net::SocketAddr) -> anyhow::Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_of_the_cluster_refuses_is_told_with_its_reason() -> anyhow::Result<()> {
    let world = World::start(&["banyan-publish-config-maps"]).await?;
    world.api.add_namespace("guarded").await?;
    let immutable =
        json!({ "metadata": { "name": NAME }, "immutable": true, "data": { "a": "b" } });
    world.api.ask("POST", "/api/v1/namespaces/guarded/configmaps", Some(immutable)).await?;
    let running = world.beside(MESH).await?;
    until_says(&running, "publish/mesh", false, "guarded/banyan-trust-bundle").await?;
    until_says(&running, "publish/mesh", false, "immutable").await?;
    world.until_published("default").await?;
    assert_eq!(world.party("mesh").await.map(|party| party.confirmed), Some(0));
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_that_come_and_go_during_a_publish_do_not_stop_it() -> anyhow::Result<()> {
    let world = World::start(&["banyan-publish-config-maps"]).await?;
    for number in 0..40 {
        world.api.add_namespace(&format!("n{number}")).await?;
    }
    let running = world.beside(MESH).await?;
    for number in 0..20 {
        world.api.ask("DELETE", &format!("/api/v1/namespaces/n{number}"), None).await?;
        world.api.add_namespace(&format!("m{number}")).await?;
    }
    world.until_confirmed("mesh").await?;
    world.until_published("m19").await?;
    world.until_published("n39").await?;
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_away_is_told_and_what_it_published_is_kept_up() -> anyhow::Result<()> {
    let world = World::start(&["banyan-publish-config-maps"]).await?;
    let gone = world.ca.directory().join("gone.sock");
    let running = world.beside_at(&gone, world.api.address(), MESH).await?;
    until_says(&running, "ca", false, "admin_socket").await?;
    until_says(&running, "publish/mesh", false, "waits for the CA's bundle").await?;
    // The server is there now.
    std::os::unix::fs::symlink(&world.ca.running().admin_socket, &gone)?;
    world.until_confirmed("mesh").await?;
    std::fs::remove_file(&gone)?;
    let bundle = world.published("default").await;
    assert!(bundle.is_some());
    world.api.ask("DELETE", &map("default", NAME), None).await?;
    eventually("it is put back", || async { world.published("default").await == bundle }).await?;
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_was_removed_or_changed_by_hand_is_known_to_the_ca_again()
-> anyhow::Result<()> {
    let world = World::start(&["banyan-publish-config-maps"]).await?;
    let running = world.beside(MESH).await?;
    world.until_confirmed("mesh").await?;
    let name = "kubernetes/mesh".to_owned();
    let gone = RemoveRelyingPartyRequest { name: name.clone(), ..Default::default() };
    world.ca.rotations().remove_relying_party(gone).await?;
    assert!(world.party("mesh").await.is_none());
    let again = world.until_confirmed("mesh").await;
    again.with_context(|| format!("{:?}", running.board().lines()))?;
    // With a bound, time alone would open gates for it.
    let bound = AddRelyingPartyRequest { name, staleness_seconds: 60, ..Default::default() };
    world.ca.rotations().add_relying_party(bound).await?;
    eventually("it has no bound", || async {
        world.party("mesh").await.is_some_and(|party| party.staleness_seconds == 0)
    })
    .await?;
    let again = world.until_confirmed("mesh").await;
    again.with_context(|| format!("{:?}", running.board().lines()))?;
    until_says(&running, "publish/mesh", true, ", confirmed").await?;
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_checks_its_file_the_ca_and_the_cluster_under_either_name() -> anyhow::Result<()>
{
    let world = World::start(&["banyan-publish-config-maps"]).await?;
    let config = world.config(&world.ca.running().admin_socket, world.api.address(), MESH)?;
    let folder = tempfile::tempdir()?;
    let plugin = folder.path().join("kubectl-banyan");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_banyan_under_test"), &plugin)?;
    let run = |config: &std::path::Path| {
        let config = config.to_owned();
        let plugin = plugin.clone();
        async move {
            let mut command = tokio::process::Command::new(plugin);
            command.args(["kubernetes", "check", "--config"]).arg(config).output().await
        }
    };
    let good = run(&config).await?;
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    // Rights are looked at too: these sections need others.
    let more =
        format!("{MESH}[lead]\nnamespace = \"banyan\"\n[resources]\nnamespace = \"banyan\"\n");
    let poor = world.config(&world.ca.running().admin_socket, world.api.address(), &more)?;
    let told = run(&poor).await?;
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert_eq!(told.status.code(), Some(5), "{said}");
    for lacks in [
        "lead: this account may not get, update leases.coordination.k8s.io \"banyan-kubernetes\" in namespace banyan",
        "resources: this account may not list, watch rootrotations.banyan.dev in namespace banyan",
        "as banyan-resources of docs/kubernetes.md has them",
    ] {
        assert!(said.contains(lacks), "{said}");
    }
    assert!(!said.contains("publish.mesh"), "{said}");
    world.allow("banyan-lead").await?;
    world.allow("banyan-resources").await?;
    let rich = run(&poor).await?;
    assert!(rich.status.success(), "{}", String::from_utf8_lossy(&rich.stderr));
    let bad = world.config(&folder.path().join("none.sock"), "127.0.0.1:1".parse()?, MESH)?;
    let told = run(&bad).await?;
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert_eq!(told.status.code(), Some(5), "{said}");
    assert!(said.contains("admin_socket:") && said.contains("cluster:"), "{said}");
    Ok(())
}
