//! Readers through the Gateway API: the word of a channel waits for those that may take one certificate of the bundle only.
//! The kinds are stand-ins of their group, names and version, without a schema; no controller acts on them.

use std::time::Duration;

use integration_tests::support::{SOON, eventually};
use serde_json::{Value, json};

use super::rights::used;
use super::support::{MESH, World, never, rules, until_says};

const GROUP: &str = "gateway.networking.k8s.io";
const ROLES: [&str; 2] = ["banyan-publish-config-maps", "banyan-publish-gateways"];
const READERS: &str = "gateway_api = true\ngateway_controllers = [\"example.org/all\"]\n";

/// Kind, plural, scope.
const KINDS: [[&str; 3]; 3] = [
    ["BackendTLSPolicy", "backendtlspolicies", "Namespaced"],
    ["Gateway", "gateways", "Namespaced"],
    ["GatewayClass", "gatewayclasses", "Cluster"],
];

async fn define_stand_ins(world: &World) -> anyhow::Result<()> {
    for [kind, plural, scope] in KINDS {
        let singular = kind.to_ascii_lowercase();
        let body = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": format!("{plural}.{GROUP}"),
                "annotations": { "api-approved.kubernetes.io": "unapproved, a stand-in for tests" },
            },
            "spec": {
                "group": GROUP,
                "names": { "kind": kind, "plural": plural, "singular": singular },
                "scope": scope,
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": { "openAPIV3Schema": {
                        "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    } },
                }],
            },
        });
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        world.api.ask("POST", path, Some(body)).await?;
        let path = format!("/apis/{GROUP}/v1/{plural}");
        eventually("the kind is served", || async {
            world.api.ask("GET", &path, None).await.is_ok()
        })
        .await?;
    }
    Ok(())
}

async fn create(world: &World, kind: usize, name: &str, content: Value) -> anyhow::Result<()> {
    let [kind, plural, scope] = KINDS[kind];
    let mut body =
        json!({ "apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": { "name": name } });
    for (key, value) in content.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    let namespace = if scope == "Cluster" { "" } else { "/namespaces/default" };
    let path = format!("/apis/{GROUP}/v1{namespace}/{plural}");
    world.api.ask("POST", &path, Some(body)).await.map(drop)
}

fn reads(name: &str) -> Value {
    json!([{ "group": "", "kind": "ConfigMap", "name": name }])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_word_waits_for_readers_that_may_take_one_certificate_only() -> anyhow::Result<()> {
    let world = World::start(&ROLES).await?;
    define_stand_ins(&world).await?;
    let policy =
        json!({ "spec": { "validation": { "caCertificateRefs": reads("banyan-trust-bundle") } } });
    create(&world, 0, "web", policy).await?;
    let other = json!({ "spec": { "validation": { "caCertificateRefs": reads("another") } } });
    create(&world, 0, "of-others", other).await?;
    let frontend = json!({ "default": { "validation": { "caCertificateRefs": reads("banyan-trust-bundle") } } });
    let gateway = json!({ "spec": { "gatewayClassName": "all", "tls": { "frontend": frontend } } });
    create(&world, 1, "edge", gateway).await?;
    create(&world, 2, "all", json!({ "spec": { "controllerName": "example.org/all" } })).await?;

    let running = world.beside(&format!("{MESH}{READERS}")).await?;
    // One certificate is what everybody takes.
    world.until_confirmed("mesh").await?;
    world.ca.rotate_in_mode("one", "auto").await?;
    let words = "1 reader through the Gateway API";
    until_says(&running, "publish/mesh", false, words).await?;
    let line = running.board().lines()["publish/mesh"].text.clone();
    assert!(line.contains("BackendTLSPolicy default/web") && !line.contains("edge"), "{line}");
    let sequence = world.ca.running().bundle().sequence().0;
    never("it is confirmed", Duration::from_secs(2), || async {
        world.clock.advance(Duration::from_secs(5));
        world.party("mesh").await.is_some_and(|party| party.confirmed >= sequence)
    })
    .await?;
    assert_eq!(world.ca.rotation().await?.phase, "distributing");

    // The controller that acts on it is one that takes all of them.
    let status = json!({ "status": { "ancestors": [{ "controllerName": "example.org/all" }] } });
    let path = format!("/apis/{GROUP}/v1/namespaces/default/backendtlspolicies/web");
    world.api.ask("PATCH", &path, Some(status)).await?;
    let passes = async {
        loop {
            world.clock.advance(Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let over = world.ca.until_rotation("it is over", SOON, |rotation| {
        rotation.done.iter().any(|done| done == "one")
    });
    tokio::select! {
        over = over => drop(over?),
        () = passes => {}
    }
    running.shutdown().await;
    let used = used(&world)?;
    let unused: Vec<_> =
        rules(ROLES[1]).into_iter().filter(|right| !used.contains(right)).collect();
    assert!(unused.is_empty(), "superfluous: {unused:?}");
    Ok(())
}
