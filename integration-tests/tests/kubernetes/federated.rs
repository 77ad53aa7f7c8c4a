//! FederatedTrustDomains as custom resources: to create one is to say it, and to delete it is to take it back, also while nobody
//! looked; the status tells the truth about a real CA of another trust domain.

use integration_tests::mesh::{MeshCa, admin_channel};
use integration_tests::support::eventually;
use kubernetes::resources;
use proto::banyan::admin::v1::federation_service_client::FederationServiceClient;
use proto::banyan::admin::v1::{AddFederationRequest, Federation, ListFederationsRequest};
use serde_json::{Value, json};

use super::support::World;

const KIND: &str = "/apis/banyan.dev/v1alpha1/namespaces/banyan/federatedtrustdomains";
const SECTIONS: &str = "[resources]\nnamespace = \"banyan\"\n";
const READ: &str = "[bundle_endpoint]\nlisten = \"127.0.0.1:0\"\nrefresh_hint = \"5s\"\n";
const OTHER: &str = "other.example";

async fn with_kinds() -> anyhow::Result<World> {
    let world = World::start(&[]).await?;
    for (_, manifest) in resources::manifests()? {
        world.api.apply("", &manifest).await?;
    }
    eventually("the kinds are served", || async { world.api.ask("GET", KIND, None).await.is_ok() })
        .await?;
    world.allow("banyan-resources").await?;
    Ok(world)
}

fn at_ca(world: &World) -> FederationServiceClient<tonic::transport::Channel> {
    FederationServiceClient::new(admin_channel(&world.ca.running().admin_socket))
}

async fn known(world: &World) -> anyhow::Result<Vec<Federation>> {
    let listed = at_ca(world).list_federations(ListFederationsRequest {}).await?;
    Ok(listed.into_inner().federations)
}

async fn create(world: &World, name: &str, spec: &Value) -> anyhow::Result<Value> {
    let body = json!({ "apiVersion": "banyan.dev/v1alpha1", "kind": "FederatedTrustDomain",
        "metadata": { "name": name }, "spec": spec });
    world.api.ask("POST", &format!("{KIND}?fieldValidation=Strict"), Some(body)).await
}

async fn change(world: &World, name: &str, spec: Value) -> anyhow::Result<()> {
    let body = json!({ "spec": spec });
    world.api.ask("PATCH", &format!("{KIND}/{name}"), Some(body)).await.map(drop)
}

async fn until(world: &World, name: &str, type_: &str, wanted: [&str; 2]) -> anyhow::Result<Value> {
    let condition = || async {
        let object = world.api.ask("GET", &format!("{KIND}/{name}"), None).await.ok()?;
        let all = object["status"]["conditions"].as_array()?.clone();
        let one = all.into_iter().find(|one| one["type"] == type_)?;
        let current = one["observedGeneration"] == object["metadata"]["generation"];
        Some((current && one["status"] == wanted[0] && one["reason"] == wanted[1], object))
    };
    let waited = eventually(&format!("{name} is {type_} {wanted:?}"), || async {
        condition().await.is_some_and(|(holds, _)| holds)
    })
    .await;
    let last = condition().await.map(|(_, object)| object).unwrap_or_default();
    waited.map_err(|error| error.context(format!("{last:#}")))?;
    Ok(last)
}

fn spec(theirs: &MeshCa) -> Value {
    let at = theirs.running().bundle_addr.expect("it serves its bundle");
    json!({
        "trustDomain": OTHER,
        "endpointURL": format!("https://{at}/bundle.json"),
        "profile": "https_spiffe",
        "endpointSPIFFEID": format!("spiffe://{OTHER}/banyan/ca/*"),
        "bundle": theirs.running().bundle().pem().as_ref(),
        "readsOurs": true,
        "reason": "a test",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_here_is_federated_at_the_ca_and_what_is_gone_is_not() -> anyhow::Result<()> {
    let (world, theirs) = (with_kinds().await?, MeshCa::of_domain(OTHER, READ).await?);
    let good = spec(&theirs);
    let running = world.beside(SECTIONS).await?;
    create(&world, "partner", &good).await?;
    let object = until(&world, "partner", "Current", ["True", "Read"]).await?;
    let status = &object["status"];
    let root = theirs.running().bundle().roots()[0].id().to_string();
    assert_eq!(
        (&status["trusted"], &status["roots"]),
        (&json!(true), &json!([root])),
        "{status:#}"
    );
    assert_eq!(status["observedGeneration"], object["metadata"]["generation"]);
    let at_first = known(&world).await?.remove(0);
    assert_eq!(at_first.owner, "kubernetes/banyan/partner");
    assert!(at_first.by.starts_with("FederatedTrustDomain banyan/partner ("), "{at_first:?}");
    assert_eq!(at_first.reads_within_seconds, 1_500);

    // Another object, and operators, are told whose it is.
    create(&world, "twin", &good).await?;
    until(&world, "twin", "Accepted", ["False", "KeptByAnother"]).await?;
    world.api.ask("DELETE", &format!("{KIND}/twin"), None).await?;

    // What the CA refuses leaves what stood before, and both are told.
    change(&world, "partner", json!({ "endpointSPIFFEID": "spiffe://third.example/x" })).await?;
    until(&world, "partner", "Accepted", ["False", "Refused"]).await?;
    until(&world, "partner", "Trusted", ["True", "HasBundle"]).await?;
    assert_eq!(known(&world).await?.remove(0).endpoint_id, at_first.endpoint_id);
    change(&world, "partner", json!({ "endpointSPIFFEID": format!("spiffe://{OTHER}/nobody") }))
        .await?;
    until(&world, "partner", "Current", ["False", "NotRead"]).await?;
    change(&world, "partner", good.clone()).await?;
    until(&world, "partner", "Current", ["True", "Read"]).await?;

    world.api.ask("DELETE", &format!("{KIND}/partner"), None).await?;
    let none = || async { known(&world).await.is_ok_and(|known| known.is_empty()) };
    eventually("it is removed", none).await?;

    // What is deleted while nobody looks is removed when somebody looks again, and what operators keep is not.
    create(&world, "partner", &good).await?;
    until(&world, "partner", "Trusted", ["True", "HasBundle"]).await?;
    running.shutdown().await;
    world.api.ask("DELETE", &format!("{KIND}/partner"), None).await?;
    let by_hand = AddFederationRequest {
        trust_domain: "third.example".to_owned(),
        endpoint: "https://127.0.0.1:9/".to_owned(),
        reason: "by hand".to_owned(),
        ..AddFederationRequest::default()
    };
    at_ca(&world).add_federation(by_hand).await?;
    let again = world.beside(SECTIONS).await?;
    eventually("it is removed", || async {
        known(&world).await.is_ok_and(|known| known.len() == 1 && known[0].owner.is_empty())
    })
    .await?;
    again.shutdown().await;
    theirs.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_by_the_cluster() -> anyhow::Result<()> {
    let world = with_kinds().await?;
    let good = json!({ "trustDomain": OTHER, "endpointURL": "https://ca.other.example/", "reason": "a test" });
    for (key, value) in [
        ("trustDomain", json!("Other.Example")),
        ("trustDomain", Value::Null),
        ("endpointURL", json!("http://ca.other.example/")),
        ("profile", json!("https")),
        ("profile", json!("https_spiffe")),
        ("endpointSPIFFEID", json!("spiffe://other.example/x")),
        ("reason", json!("")),
    ] {
        let mut wrong = good.clone();
        wrong[key] = value.clone();
        let refused = create(&world, "wrong", &wrong).await;
        assert!(refused.is_err(), "{key} = {value} was taken");
    }
    create(&world, "right", &good).await?;
    let renamed = change(&world, "right", json!({ "trustDomain": "third.example" })).await;
    let refused = format!("{:#}", renamed.unwrap_err());
    assert!(refused.contains("trustDomain cannot be changed"), "{refused}");
    Ok(())
}
