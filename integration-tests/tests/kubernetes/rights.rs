//! What the account may do, and what it asks: by the account of requests that the API server keeps.

use std::collections::BTreeSet;
use std::time::Duration;

use integration_tests::support::eventually;
use kubernetes::resources;
use serde_json::json;

use super::support::{MESH, World, rules, until_says};

const ROLES: [&str; 5] = [
    "banyan-publish-config-maps",
    "banyan-publish-secret",
    "banyan-publish-cluster-trust-bundles",
    "banyan-lead",
    "banyan-resources",
];
const SECTIONS: &str = "[publish.ingress]\nkind = \"secret\"\nnamespaces = [\"ingress\"]\nstaleness = \"1s\"\n\
    [publish.pods]\nkind = \"cluster-trust-bundle\"\nsigner = \"example.org/mesh\"\n\
    [lead]\nnamespace = \"banyan\"\n[resources]\nnamespace = \"banyan\"\n";
const KINDS: &str = "/apis/banyan.dev/v1alpha1/namespaces/banyan";

pub(crate) type Right = (String, String, String);

/// What the account did: group, resource and verb; a patch that made something is a create too.
pub(crate) fn used(world: &World) -> anyhow::Result<BTreeSet<Right>> {
    let asked = world.api.requests()?.into_iter().filter(|asked| asked.user == "ca");
    let mut used = BTreeSet::new();
    for asked in asked {
        assert_ne!(asked.code, 403, "a right is missing: {asked:?}");
        let right = |verb: &str| (asked.group.clone(), asked.resource.clone(), verb.to_owned());
        used.insert(right(&asked.verb));
        if asked.verb == "patch" && asked.code == 201 {
            used.insert(right("create"));
        }
    }
    Ok(used)
}

async fn patch(world: &World, action: Option<&str>) -> anyhow::Result<()> {
    let body = json!({ "spec": { "action": action } });
    world.api.ask("PATCH", &format!("{KINDS}/rootrotations/one"), Some(body)).await.map(drop)
}

async fn until_refused(world: &World, generation: i64) -> anyhow::Result<()> {
    eventually("the action is refused", || async {
        let object = world.api.ask("GET", &format!("{KINDS}/rootrotations/one"), None).await;
        let status = object.unwrap_or_default()["status"].clone();
        status["observedGeneration"].as_i64() >= Some(generation)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_right_of_the_page_is_missing_and_none_is_superfluous() -> anyhow::Result<()> {
    let world = World::start(&[]).await?;
    for (_, manifest) in resources::manifests()? {
        world.api.apply("", &manifest).await?;
    }
    let kinds = format!("{KINDS}/rootauthorities");
    eventually("the kinds are served", || async {
        world.api.ask("GET", &kinds, None).await.is_ok()
    })
    .await?;
    for role in ROLES {
        world.allow(role).await?;
    }
    let gone = json!({ "apiVersion": "banyan.dev/v1alpha1", "kind": "RootAuthority",
        "metadata": { "name": "gone" }, "spec": {} });
    world.api.ask("POST", &kinds, Some(gone)).await?;
    let running = world.beside(&format!("{MESH}{SECTIONS}")).await?;
    world.until_confirmed("mesh").await?;
    world.until_confirmed("ingress").await?;
    let one = json!({ "apiVersion": "banyan.dev/v1alpha1", "kind": "RootRotation",
        "metadata": { "name": "one" }, "spec": {} });
    world.api.ask("POST", &format!("{KINDS}/rootrotations"), Some(one)).await?;
    let waiver = json!({ "apiVersion": "banyan.dev/v1alpha1", "kind": "Waiver", "metadata": { "name": "over" },
        "spec": { "covers": ["spiffe://example.org/*"], "until": "2026-01-01T00:00:00Z", "reason": "a test" } });
    world.api.ask("POST", &format!("{KINDS}/waivers"), Some(waiver)).await?;
    let federated = json!({ "apiVersion": "banyan.dev/v1alpha1", "kind": "FederatedTrustDomain", "metadata": { "name": "far" },
        "spec": { "trustDomain": "far.example", "endpointURL": "https://127.0.0.1:9/", "reason": "a test" } });
    world.api.ask("POST", &format!("{KINDS}/federatedtrustdomains"), Some(federated)).await?;
    // The same words twice are one event that is counted.
    for (action, generation) in [(Some("rollback"), 2), (None, 3), (Some("rollback"), 4)] {
        patch(&world, action).await?;
        until_refused(&world, generation).await?;
    }
    let passes = async {
        loop {
            world.clock.advance(Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let over = eventually("the rotation is complete", || async {
        let object = world.api.ask("GET", &format!("{KINDS}/rootrotations/one"), None).await;
        object.unwrap_or_default()["status"]["phase"] == "Completed"
    });
    tokio::select! {
        over = over => over?,
        () = passes => {}
    }
    world.clock.advance(Duration::from_secs(360));
    until_says(&running, "publish/pods", true, ", confirmed").await?;
    running.shutdown().await;
    let listed: BTreeSet<Right> = ROLES.iter().flat_map(|role| rules(role)).collect();
    let used = used(&world)?;
    // To attest is checked, and not asked.
    let unused: Vec<_> = listed.difference(&used).filter(|right| right.2 != "attest").collect();
    assert_eq!(unused, Vec::<&Right>::new(), "superfluous");
    Ok(())
}
