//! Waivers as custom resources: to create one is to say it, and to delete it is to take it back, also while nobody looked.

use integration_tests::mesh::admin_channel;
use integration_tests::support::eventually;
use kubernetes::resources;
use proto::banyan::admin::v1::waiver_service_client::WaiverServiceClient;
use proto::banyan::admin::v1::{AddWaiverRequest, ListWaiversRequest, Waiver};
use serde_json::{Value, json};

use super::support::{World, until_says};

const WAIVERS: &str = "/apis/banyan.dev/v1alpha1/namespaces/banyan/waivers";
const SECTIONS: &str = "[resources]\nnamespace = \"banyan\"\n";
const PART: &str = "resources/waivers";

async fn with_kinds() -> anyhow::Result<World> {
    let world = World::start(&[]).await?;
    for (_, manifest) in resources::manifests()? {
        world.api.apply("", &manifest).await?;
    }
    eventually("the kinds are served", || async {
        world.api.ask("GET", WAIVERS, None).await.is_ok()
    })
    .await?;
    world.allow("banyan-resources").await?;
    Ok(world)
}

fn at_ca(world: &World) -> WaiverServiceClient<tonic::transport::Channel> {
    WaiverServiceClient::new(admin_channel(&world.ca.running().admin_socket))
}

async fn known(world: &World) -> anyhow::Result<Vec<Waiver>> {
    let listed = at_ca(world).list_waivers(ListWaiversRequest::default()).await?;
    Ok(listed.into_inner().waivers)
}

fn spec(world: &World, path: &str, days: i64) -> Value {
    let domain = world.ca.running().bundle().trust_domain().to_string();
    let until =
        trust::Timestamp::from_secs(trust::Clock::now(&*world.clock).as_secs() + days * 86_400);
    json!({ "covers": [format!("spiffe://{domain}/{path}")], "until": until.to_string(), "reason": "a test" })
}

async fn create(world: &World, name: &str, spec: Value) -> anyhow::Result<Value> {
    let body = json!({ "apiVersion": "banyan.dev/v1alpha1", "kind": "Waiver",
        "metadata": { "name": name }, "spec": spec });
    world.api.ask("POST", &format!("{WAIVERS}?fieldValidation=Strict"), Some(body)).await
}

async fn change(world: &World, name: &str, spec: Value) -> anyhow::Result<()> {
    let body = json!({ "spec": spec });
    world.api.ask("PATCH", &format!("{WAIVERS}/{name}"), Some(body)).await.map(drop)
}

async fn until(world: &World, name: &str, type_: &str, wanted: [&str; 2]) -> anyhow::Result<Value> {
    let condition = || async {
        let object = world.api.ask("GET", &format!("{WAIVERS}/{name}"), None).await.ok()?;
        let all = object["status"]["conditions"].as_array()?.clone();
        let one = all.into_iter().find(|one| one["type"] == type_)?;
        let current = one["observedGeneration"] == object["metadata"]["generation"];
        Some((current && one["status"] == wanted[0] && one["reason"] == wanted[1], one))
    };
    let waited = eventually(&format!("{name} is {type_} {wanted:?}"), || async {
        condition().await.is_some_and(|(holds, _)| holds)
    })
    .await;
    let last = condition().await.map(|(_, one)| one).unwrap_or_default();
    waited.map_err(|error| error.context(format!("{last:#}")))?;
    Ok(last)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_here_stands_at_the_ca_and_what_is_gone_does_not() -> anyhow::Result<()> {
    let world = with_kinds().await?;
    let other = AddWaiverRequest {
        name: "by-hand".to_owned(),
        covers: vec![format!("{}/x", world.ca.running().bundle().trust_domain().id())],
        lasts_seconds: 3_600,
        reason: "by hand".to_owned(),
        ..Default::default()
    };
    at_ca(&world).add_waiver(other).await?;
    let running = world.beside(SECTIONS).await?;
    create(&world, "shop", spec(&world, "ns/shop/*", 7)).await?;
    until(&world, "shop", "Stands", ["True", "Stands"]).await?;
    let names = || async {
        let known = known(&world).await?;
        anyhow::Ok(known.into_iter().map(|waiver| waiver.name).collect::<Vec<_>>())
    };
    assert_eq!(names().await?, ["by-hand", "kubernetes/banyan/shop"]);
    let of_shop = known(&world).await?.remove(1);
    assert!(of_shop.by.starts_with("Waiver banyan/shop ("), "{of_shop:?}");
    assert_eq!(of_shop.reason, "a test");
    // Each is told with what ends it: what is said by an object is said again as long as that is there.
    let persons = world.ca.status().await?.waiting.join("\n");
    assert!(persons.contains("`banyan waiver remove by-hand`"), "{persons}");
    assert!(persons.contains("delete the Waiver banyan/shop"), "{persons}");

    // What the CA refuses leaves what stood before, and both are told.
    let wrong = json!({ "covers": ["spiffe://other.example/*"] });
    change(&world, "shop", wrong).await?;
    let refused = until(&world, "shop", "Accepted", ["False", "Refused"]).await?;
    let text = refused["message"].as_str().unwrap_or_default();
    assert!(text.contains("of another trust domain"), "{text}");
    until(&world, "shop", "Stands", ["True", "Stands"]).await?;
    assert_eq!(known(&world).await?.remove(1).covers, of_shop.covers);
    change(&world, "shop", spec(&world, "ns/shop/sa/web", 7)).await?;
    until(&world, "shop", "Accepted", ["True", "Taken"]).await?;
    assert!(known(&world).await?.remove(1).covers[0].ends_with("/ns/shop/sa/web"));

    world.api.ask("DELETE", &format!("{WAIVERS}/shop"), None).await?;
    eventually("it is removed", || async { names().await.is_ok_and(|names| names == ["by-hand"]) })
        .await?;

    // What is deleted while nobody looks is removed when somebody looks again.
    create(&world, "pay", spec(&world, "ns/pay/*", 7)).await?;
    until(&world, "pay", "Stands", ["True", "Stands"]).await?;
    running.shutdown().await;
    world.api.ask("DELETE", &format!("{WAIVERS}/pay"), None).await?;
    let again = world.beside(SECTIONS).await?;
    eventually("it is removed", || async { names().await.is_ok_and(|names| names == ["by-hand"]) })
        .await?;
    until_says(&again, PART, true, "0 waivers").await?;
    again.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_by_the_cluster_and_what_is_over_never_stands()
-> anyhow::Result<()> {
    let world = with_kinds().await?;
    let good = spec(&world, "ns/shop/*", 7);
    for (key, value) in [
        ("covers", json!([])),
        ("covers", json!(["ns/shop/*"])),
        ("until", json!("tomorrow")),
        ("until", Value::Null),
        ("reason", json!("")),
    ] {
        let mut wrong = good.clone();
        wrong[key] = value.clone();
        let refused = create(&world, "wrong", wrong).await;
        assert!(refused.is_err(), "{key} = {value} was taken");
    }
    let running = world.beside(SECTIONS).await?;
    create(&world, "over", spec(&world, "ns/shop/*", -1)).await?;
    until(&world, "over", "Accepted", ["False", "Over"]).await?;
    create(&world, "long", spec(&world, "ns/shop/*", 100)).await?;
    let refused = until(&world, "long", "Accepted", ["False", "Refused"]).await?;
    let text = refused["message"].as_str().unwrap_or_default();
    assert!(text.contains("stands for"), "{text}");
    assert!(known(&world).await?.is_empty());
    running.shutdown().await;
    Ok(())
}
