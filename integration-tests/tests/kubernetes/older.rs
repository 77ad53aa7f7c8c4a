//! Objects that were stored under an older version of their kind, which is then upgraded as operators do it.

use std::path::PathBuf;

use anyhow::Context as _;
use integration_tests::cluster::kubectl;
use integration_tests::support::eventually;
use kubernetes::resources;
use serde_json::{Value, json};
use stores_peers::Token;

use super::support::{World, until_says};

const KIND: &str = "rootrotations.banyan.dev";
const OBJECTS: &str = "/apis/banyan.dev/v1alpha1/namespaces/banyan/rootrotations";

/// A kind as it may have been: another version is stored, and anything goes.
fn former() -> Value {
    let version = |name: &str, stored: bool| {
        json!({ "name": name, "served": true, "storage": stored, "subresources": { "status": {} },
            "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } })
    };
    json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": KIND },
        "spec": { "group": "banyan.dev", "scope": "Namespaced",
            "names": { "kind": "RootRotation", "plural": "rootrotations", "singular": "rootrotation" },
            "versions": [version("v1alpha0", true), version("v1alpha1", false)] } })
}

async fn stored_versions(world: &World) -> Value {
    let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{KIND}");
    let kind = world.api.ask("GET", &path, None).await.unwrap_or_default();
    kind["status"]["storedVersions"].clone()
}

async fn phase(world: &World, name: &str) -> Value {
    let object = world.api.ask("GET", &format!("{OBJECTS}/{name}"), None).await;
    object.unwrap_or_default()["status"]["phase"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_stored_version_is_not_dropped_unseen_and_its_objects_go_on_after_an_upgrade()
-> anyhow::Result<()> {
    let world = World::start(&[]).await?;
    let config: PathBuf = world.api.kubeconfig(world.api.address(), Token::Admin)?;
    let apply = ["apply", "-f", "-"];
    kubectl(&config, &apply, &former().to_string()).await?;
    for (name, mode) in [("old", "manual"), ("strange", "weekly")] {
        let body = json!({ "apiVersion": "banyan.dev/v1alpha0", "kind": "RootRotation",
            "metadata": { "name": name, "namespace": "banyan" }, "spec": { "mode": mode, "gone": true } });
        eventually(&format!("{name} is stored"), || {
            let (config, body) = (config.clone(), body.to_string());
            async move { kubectl(&config, &apply, &body).await.is_ok() }
        })
        .await?;
    }
    assert_eq!(stored_versions(&world).await, json!(["v1alpha0"]));
    let manifests = resources::manifests()?;
    for (_, manifest) in manifests.iter().filter(|(_, text)| !text.contains(KIND)) {
        kubectl(&config, &apply, manifest).await?;
    }
    let ours = manifests.iter().find(|(_, text)| text.contains(KIND));
    let (_, ours) = ours.context("no manifest of RootRotation")?;
    // The API server does not let go of a version that objects may be stored in.
    let refused = kubectl(&config, &apply, ours).await.err().context("it was dropped")?;
    assert!(format!("{refused:#}").contains("v1alpha0"), "{refused:#}");
    let arguments = ["create", "--dry-run=client", "-f", "-", "-o", "json"];
    let mut both: Value = serde_json::from_str(&kubectl(&config, &arguments, ours).await?)?;
    let mut kept = former()["spec"]["versions"][0].clone();
    (kept["storage"], kept["served"]) = (json!(false), json!(false));
    both["spec"]["versions"].as_array_mut().context("no versions")?.push(kept);
    kubectl(&config, &apply, &both.to_string()).await?;
    world.allow("banyan-resources").await?;

    let running = world.beside("[resources]\nnamespace = \"banyan\"\n").await?;
    // One that cannot be read is named, with what to do, and keeps nobody from the others.
    until_says(&running, "resources/rotations", false, "strange cannot be read").await?;
    until_says(
        &running,
        "resources/rotations",
        false,
        "kubectl delete rootrotation -n banyan strange",
    )
    .await?;
    eventually("the other one is under way", || async {
        phase(&world, "old").await == "Distributing"
    })
    .await?;
    let abort = json!({ "spec": { "action": "abort" } });
    world.api.ask("PATCH", &format!("{OBJECTS}/old"), Some(abort)).await?;
    eventually("it is aborted", || async { phase(&world, "old").await == "Aborted" }).await?;
    // The advice is followed.
    world.api.ask("DELETE", &format!("{OBJECTS}/strange"), None).await?;
    until_says(&running, "resources/rotations", true, "0 rotations not over, of 1").await?;
    // All that is left was stored anew meanwhile: the former version can go.
    let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{KIND}/status");
    let stored = json!({ "status": { "storedVersions": ["v1alpha1"] } });
    world.api.ask("PATCH", &path, Some(stored)).await?;
    kubectl(&config, &apply, ours).await?;
    assert_eq!(stored_versions(&world).await, json!(["v1alpha1"]));
    assert_eq!(phase(&world, "old").await, json!("Aborted"));
    running.shutdown().await;
    Ok(())
}
