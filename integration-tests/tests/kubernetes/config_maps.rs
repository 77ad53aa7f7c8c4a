//! A ConfigMap in each namespace, and a Secret in some.

use std::time::Duration;

use integration_tests::support::eventually;
use serde_json::json;

use super::support::{MESH, World, map, never, until_says};

#[tokio::test(flavor = "multi_thread")]
async fn every_namespace_has_both_roots_before_the_switch_and_the_new_one_after()
-> anyhow::Result<()> {
    let world = World::start(&["banyan-publish-config-maps"]).await?;
    world.api.add_namespace("shop").await?;
    let running = world.beside(MESH).await?;
    world.until_published("shop").await?;
    world.until_published("kube-system").await?;
    world.until_confirmed("mesh").await?;
    let party = world.party("mesh").await.expect("it is known");
    assert_eq!(party.staleness_seconds, 0, "nothing but its word proves anything");
    let old = world.ca.running().bundle();
    world.ca.rotate("one").await?;
    let switched = |rotation: &proto::banyan::admin::v1::Rotation| rotation.phase == "draining";
    let both = std::cell::RefCell::new(None);
    let seen = async {
        world.ca.until_rotation("the new root signs", Duration::from_secs(90), switched).await?;
        *both.borrow_mut() = world.published("shop").await;
        anyhow::Ok(())
    };
    let confirmed = eventually("the bundle with both is confirmed", || async {
        world.party("mesh").await.is_some_and(|party| party.confirmed > old.sequence().0)
    });
    tokio::try_join!(seen, confirmed)?;
    let both = both.into_inner().expect("it is there");
    assert!(both.contains(&**old.pem()), "the former root is still trusted");
    assert_eq!(both.matches("BEGIN CERTIFICATE").count(), 2);
    world.until_over("one").await?;
    world.until_published("shop").await?;
    world.until_published("kube-system").await?;
    assert!(!world.published("shop").await.unwrap_or_default().contains(&**old.pem()));
    until_says(&running, "publish/mesh", true, ", confirmed").await?;
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_namespace_has_the_bundle_at_once_and_one_that_ends_holds_nobody_up()
-> anyhow::Result<()> {
    let world = World::start(&["banyan-publish-config-maps"]).await?;
    // It never ends, since a finalizer of nobody is on it.
    let body = json!({ "metadata": { "name": "ending" }, "spec": { "finalizers": ["example.org/nobody"] } });
    world.api.ask("POST", "/api/v1/namespaces", Some(body)).await?;
    world.api.ask("DELETE", "/api/v1/namespaces/ending", None).await?;
    let running = world.beside(MESH).await?;
    world.until_confirmed("mesh").await?;
    assert!(world.published("ending").await.is_none());
    world.api.add_namespace("late").await?;
    world.until_published("late").await?;
    // One that ends while it has the bundle.
    world.api.ask("DELETE", "/api/v1/namespaces/late", None).await?;
    world.ca.rotate("one").await?;
    world.until_over("one").await?;
    until_says(&running, "publish/mesh", true, ", confirmed").await?;
    running.shutdown().await;
    Ok(())
}

async fn namespaces_come(world: &World) -> anyhow::Result<std::convert::Infallible> {
    for number in 0_u32.. {
        world.api.add_namespace(&format!("preview-{number}")).await?;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    anyhow::bail!("there are no more numbers")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_gets_to_its_end_where_namespaces_come_all_the_time() -> anyhow::Result<()> {
    let world = World::start(&["banyan-publish-config-maps"]).await?;
    // Readers have longer than the time between two namespaces.
    let late = "[publish.mesh]\nkind = \"config-map\"\nstaleness = \"3s\"\n";
    let running = world.beside(late).await?;
    world.until_confirmed("mesh").await?;
    world.ca.rotate("one").await?;
    tokio::select! {
        over = world.until_over("one") => drop(over?),
        failed = namespaces_come(&world) => match failed? {},
    }
    world.until_published("preview-0").await?;
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_or_stripped_is_put_back_and_what_is_right_is_not_written()
-> anyhow::Result<()> {
    let world = World::start(&["banyan-publish-config-maps"]).await?;
    let running = world.beside(MESH).await?;
    world.until_confirmed("mesh").await?;
    let name = "banyan-trust-bundle";
    let version = |map: serde_json::Value| map["metadata"]["resourceVersion"].clone();
    let other = version(world.config_map("kube-system", name).await?);
    world.api.ask("DELETE", &map("default", name), None).await?;
    world.until_published("default").await?;
    // To remove a field is to own nothing: it is put back.
    let stripped = json!({ "data": { "ca.crt": null } });
    world.api.ask("PATCH", &map("default", name), Some(stripped)).await?;
    world.until_published("default").await?;
    // A field that is not ours is left alone.
    let more = json!({ "data": { "other": "kept" } });
    world.api.ask("PATCH", &map("default", name), Some(more)).await?;
    let again = world.beside(MESH).await?;
    until_says(&again, "publish/mesh", true, ", confirmed").await?;
    assert_eq!(world.config_map("default", name).await?["data"]["other"], "kept");
    assert_eq!(version(world.config_map("kube-system", name).await?), other, "it was equal");
    again.shutdown().await;
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_writer_on_istios_config_map_stops_the_channel_which_says_who() -> anyhow::Result<()>
{
    let world = World::start(&["banyan-publish-istio"]).await?;
    let name = "istio-ca-root-cert";
    let theirs = json!({ "metadata": { "name": name }, "data": { "root-cert.pem": "theirs" } });
    let at = "/api/v1/namespaces/default/configmaps?fieldManager=pilot-discovery";
    world.api.ask("POST", at, Some(theirs)).await?;
    let sections = "[publish.istio]\nkind = \"config-map\"\nistio = true\nstaleness = \"1s\"\n";
    let running = world.beside(sections).await?;
    until_says(&running, "publish/istio", false, "pilot-discovery").await?;
    until_says(&running, "publish/istio", false, "default/istio-ca-root-cert").await?;
    assert_eq!(world.config_map("default", name).await?["data"]["root-cert.pem"], "theirs");
    let kept = world.config_map("kube-system", name).await?;
    assert_eq!(kept["metadata"]["labels"]["istio.io/config"], "true", "others have it");
    never("it is confirmed", Duration::from_secs(3), || async {
        world.party("istio").await.is_some_and(|party| party.confirmed > 0)
    })
    .await?;
    // The advice: when that one is gone, so is what it wrote.
    world.api.ask("DELETE", &map("default", name), None).await?;
    world.until_confirmed("istio").await?;
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_are_chosen_by_label_and_a_secret_by_name() -> anyhow::Result<()> {
    let world = World::start(&["banyan-publish-config-maps", "banyan-publish-secret"]).await?;
    let labelled = |name: &str| json!({ "metadata": { "name": name, "labels": { "mesh": "on" } } });
    world.api.ask("POST", "/api/v1/namespaces", Some(labelled("in"))).await?;
    world.api.add_namespace("out").await?;
    let sections = format!(
        "{MESH}namespace_selector = \"mesh=on\"\n[publish.ingress]\nkind = \"secret\"\n\
         namespaces = [\"ingress\"]\nstaleness = \"1s\"\n"
    );
    let running = world.beside(&sections).await?;
    world.until_published("in").await?;
    world.until_confirmed("mesh").await?;
    world.until_confirmed("ingress").await?;
    assert!(world.published("out").await.is_none());
    let path = "/api/v1/namespaces/ingress/secrets/banyan-trust-bundle";
    let secret = world.api.ask("GET", path, None).await?;
    use base64::Engine as _;
    let held = base64::engine::general_purpose::STANDARD
        .decode(secret["data"]["ca.crt"].as_str().unwrap_or_default())?;
    assert_eq!(held, world.ca.running().bundle().pem().as_bytes());
    // What was written once is kept up where it no longer belongs: readers would hold it for ever.
    let off = json!({ "metadata": { "labels": { "mesh": null } } });
    world.api.ask("PATCH", "/api/v1/namespaces/in", Some(off)).await?;
    world.api.ask("PATCH", "/api/v1/namespaces/out", Some(labelled("out"))).await?;
    world.until_published("out").await?;
    world
        .api
        .ask("PATCH", &map("in", "banyan-trust-bundle"), Some(json!({ "data": null })))
        .await?;
    world.until_published("in").await?;
    running.shutdown().await;
    Ok(())
}
