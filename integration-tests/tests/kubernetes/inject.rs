//! The webhook, as a real API server calls it. It reaches it by a Service that stands for this machine; nothing else is changed of
//! what docs/kubernetes.md has.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use integration_tests::support::{TRUST_DOMAIN, eventually};
use kubernetes::Running;
use serde_json::{Value, json};
use stores_peers::{ApiServer, Token};

use super::rights::used;
use super::support::{MESH, PAGE, World, rules, until_says};

const RIGHTS: [&str; 2] = ["banyan-publish-config-maps", "banyan-inject"];
const WEBHOOK: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/banyan-inject";
const PODS: &str = "/api/v1/namespaces/shop/pods";

fn sections() -> String {
    format!(
        "{MESH}[inject]\nnamespace = \"banyan\"\nimage = \"banyan:1\"\nlisten = \"127.0.0.1:0\"\nstaleness = \"1s\"\n"
    )
}

/// The namespaces of the tests: `shop` asks for all, `plain` for none.
async fn namespaces(world: &World) -> anyhow::Result<()> {
    for (name, labels) in [
        (
            "shop",
            json!({ "banyan.dev/inject": "enabled", "pod-security.kubernetes.io/enforce": "restricted" }),
        ),
        ("plain", json!({})),
    ] {
        let body = json!({ "metadata": { "name": name, "labels": labels } });
        world.api.ask("POST", "/api/v1/namespaces", Some(body)).await?;
        let account = json!({ "metadata": { "name": "cart" } });
        let path = format!("/api/v1/namespaces/{name}/serviceaccounts");
        world.api.ask("POST", &path, Some(account)).await?;
    }
    Ok(())
}

/// What the page has beside the rights, for a webhook at a port of this machine.
async fn configure(world: &World, port: u16) -> anyhow::Result<()> {
    let service = json!({ "metadata": { "name": "banyan-inject" },
        "spec": { "type": "ExternalName", "externalName": "localhost" } });
    world.api.ask("POST", "/api/v1/namespaces/banyan/services", Some(service)).await?;
    let blocks = PAGE.split("```").filter_map(|block| block.strip_prefix("yaml\n"));
    let mut objects = blocks.flat_map(|block| block.split("---\n"));
    let found = objects.find(|object| object.contains("kind: MutatingWebhookConfiguration"));
    let found = found.context("docs/kubernetes.md has no MutatingWebhookConfiguration")?;
    let here = found.replace("path: /inject", &format!("path: /inject, port: {port}"));
    world.api.apply("", &here).await
}

async fn beside(world: &World) -> anyhow::Result<Running> {
    let running = world.beside(&sections()).await?;
    let port = running.webhook().context("no webhook is served")?.port();
    configure(world, port).await?;
    world.until_confirmed("inject").await?;
    until_says(&running, "inject", true, "serves banyan-inject.banyan.svc").await?;
    Ok(running)
}

fn pod(name: &str, labels: Value) -> Value {
    json!({
        "metadata": { "name": name, "labels": labels },
        "spec": {
            "serviceAccountName": "cart",
            "automountServiceAccountToken": false,
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{ "name": "app", "image": "app:1", "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
            } }],
        },
    })
}

fn agents(pod: &Value) -> usize {
    let containers = pod["spec"]["initContainers"].as_array().into_iter().flatten();
    containers.filter(|container| container["name"] == "banyan-agent").count()
}

async fn roots_believed(world: &World) -> Option<usize> {
    use base64::Engine as _;
    let object = world.api.ask("GET", WEBHOOK, None).await.ok()?;
    let count = |number: usize| {
        let text = object["webhooks"][number]["clientConfig"]["caBundle"].as_str()?;
        let pem = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        Some(String::from_utf8(pem).ok()?.matches("BEGIN CERTIFICATE").count())
    };
    (count(0) == count(1)).then(|| count(0)).flatten()
}

/// Asks for Pods without a pause, which are tried and not made; answers how many had no agent, or were not taken.
async fn pods_all_the_while(api: &ApiServer, made: Arc<AtomicUsize>) -> Vec<String> {
    let mut wrong = Vec::new();
    loop {
        let number = made.load(Ordering::SeqCst);
        let path = format!("{PODS}?dryRun=All&fieldValidation=Strict");
        let asked = Some(pod(&format!("cart-{number}"), json!({})));
        match api.ask_as(Token::Admin.as_str(), "POST", &path, asked).await {
            Ok(pod) if agents(&pod) == 1 => {}
            Ok(pod) => wrong.push(format!("no agent: {pod}")),
            Err(error) => wrong.push(format!("{error:#}")),
        }
        made.fetch_add(1, Ordering::SeqCst);
        if !wrong.is_empty() {
            return wrong;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_ask_get_their_agent_all_through_a_rotation_which_waits_for_the_api_server()
-> anyhow::Result<()> {
    let world = World::start(&RIGHTS).await?;
    namespaces(&world).await?;
    let running = beside(&world).await?;
    let made = world.api.ask("POST", PODS, Some(pod("cart", json!({})))).await?;
    assert_eq!(agents(&made), 1, "{made}");
    let settings = made["metadata"]["annotations"]["banyan.dev/agent.toml"].as_str();
    let identity = format!("spiffe://{}/ns/shop/sa/cart", TRUST_DOMAIN);
    assert!(settings.is_some_and(|settings| settings.contains(&identity)), "{settings:?}");

    let tried = Arc::new(AtomicUsize::new(0));
    let mut most = 0;
    let rotated = async {
        world.ca.rotate("one").await?;
        loop {
            most = most.max(roots_believed(&world).await.unwrap_or_default());
            let rotation = world.ca.rotation().await?;
            if rotation.done.iter().any(|done| done == "one") {
                return anyhow::Ok(rotation.last_ending);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ending = tokio::select! {
        ending = tokio::time::timeout(Duration::from_secs(120), rotated) => match ending {
            Ok(ending) => ending?,
            Err(_) => anyhow::bail!("{:?}\n{:?}", world.ca.rotation().await?, running.board().lines()),
        },
        wrong = pods_all_the_while(&world.api, Arc::clone(&tried)) => anyhow::bail!("{wrong:?}"),
    };
    assert_eq!((ending.as_str(), most), ("completed", 2));
    eventually("the former root is gone", || async { roots_believed(&world).await == Some(1) })
        .await?;
    let before = tried.load(Ordering::SeqCst);
    tokio::select! {
        tried = eventually("they go on", || async { tried.load(Ordering::SeqCst) > before + 20 }) => tried?,
        wrong = pods_all_the_while(&world.api, Arc::clone(&tried)) => anyhow::bail!("{wrong:?}"),
    }
    println!("pods tried during the rotation: {before}, all with an agent");
    let used = used(&world)?;
    for right in RIGHTS.iter().flat_map(|role| rules(role)) {
        assert!(used.contains(&right), "nobody used {right:?}");
    }
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_decide_and_what_cannot_have_an_agent_is_refused_with_its_reason()
-> anyhow::Result<()> {
    let world = World::start(&RIGHTS).await?;
    namespaces(&world).await?;
    let running = beside(&world).await?;
    let on = |state: &str| json!({ "banyan.dev/inject": state });
    let plain = "/api/v1/namespaces/plain/pods";
    for (path, labels, wanted) in [
        (PODS, on("disabled"), 0),
        (PODS, on("enabled"), 1),
        (plain, json!({}), 0),
        (plain, on("enabled"), 1),
    ] {
        let path = format!("{path}?dryRun=All");
        let made = world.api.ask("POST", &path, Some(pod("one", labels.clone()))).await?;
        assert_eq!(agents(&made), wanted, "{path} {labels}");
    }
    let mut own = pod("own", on("enabled"));
    own["spec"]["containers"][0]["name"] = json!("banyan-agent");
    let refused = world.api.ask("POST", PODS, Some(own)).await.unwrap_err();
    assert!(format!("{refused:#}").contains("a container banyan-agent of its own"), "{refused:#}");
    let mut host = pod("host", on("enabled"));
    host["spec"]["hostNetwork"] = json!(true);
    let refused = world.api.ask("POST", plain, Some(host)).await.unwrap_err();
    assert!(format!("{refused:#}").contains("ClusterFirstWithHostNet"), "{refused:#}");
    // Its process is gone: who asks is not made, all others are.
    running.shutdown().await;
    let refused = world.api.ask("POST", PODS, Some(pod("two", json!({})))).await.unwrap_err();
    assert!(format!("{refused:#}").contains("failed calling webhook"), "{refused:#}");
    world.api.ask("POST", plain, Some(pod("two", json!({})))).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_server_believes_is_put_back_and_an_object_that_is_missing_is_named()
-> anyhow::Result<()> {
    let world = World::start(&RIGHTS).await?;
    let running = world.beside(&sections()).await?;
    let missing = "there is no MutatingWebhookConfiguration banyan-inject";
    until_says(&running, "publish/inject", false, missing).await?;
    configure(&world, running.webhook().context("no webhook")?.port()).await?;
    eventually("it is believed", || async { roots_believed(&world).await == Some(1) }).await?;
    let mut object = world.api.ask("GET", WEBHOOK, None).await?;
    object["webhooks"][0]["clientConfig"]["caBundle"] = Value::Null;
    object["metadata"]["managedFields"] = Value::Null;
    world.api.ask("PUT", WEBHOOK, Some(object)).await?;
    eventually("it is put back", || async { roots_believed(&world).await == Some(1) }).await?;
    let object = world.api.ask("GET", WEBHOOK, None).await?;
    assert_eq!(object["webhooks"][0]["failurePolicy"], "Fail", "the rest is its maker's");
    world.api.ask("DELETE", WEBHOOK, None).await?;
    until_says(&running, "publish/inject", false, missing).await?;
    running.shutdown().await;
    Ok(())
}

/// Whoever reaches the port can connect to it. These come from another address than the API server, more than there are places, say
/// nothing, and come again when they are ended.
async fn crowd(port: u16, connected: Arc<AtomicUsize>) -> anyhow::Result<std::convert::Infallible> {
    let mut held = std::collections::VecDeque::new();
    loop {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 2], 0).into())?;
        if let Ok(Ok(stream)) = tokio::time::timeout(
            Duration::from_secs(1),
            socket.connect(([127, 0, 0, 1], port).into()),
        )
        .await
        {
            connected.fetch_add(1, Ordering::SeqCst);
            held.push_back(stream);
        }
        if held.len() > 256 {
            held.pop_front();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_says_nothing_keeps_no_pod_from_its_agent() -> anyhow::Result<()> {
    let world = World::start(&RIGHTS).await?;
    namespaces(&world).await?;
    let running = beside(&world).await?;
    let port = running.webhook().context("no webhook")?.port();
    let connected = Arc::<AtomicUsize>::default();
    let crowd = tokio::spawn(crowd(port, Arc::clone(&connected)));
    eventually("there are more than places", || async { connected.load(Ordering::SeqCst) > 200 })
        .await?;
    let mut longest = Duration::ZERO;
    for number in 0..20 {
        let began = tokio::time::Instant::now();
        let path = format!("{PODS}?dryRun=All&fieldValidation=Strict");
        let made = pod(&format!("cart-{number}"), json!({}));
        let made = world.api.ask("POST", &path, Some(made)).await?;
        assert_eq!(agents(&made), 1, "{made}");
        longest = longest.max(began.elapsed());
    }
    assert!(!crowd.is_finished());
    crowd.abort();
    let connected = connected.load(Ordering::SeqCst);
    println!(
        "20 Pods, each with its agent; the longest took {longest:?}; a crowd of {connected} meanwhile"
    );
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    running.shutdown().await;
    Ok(())
}
