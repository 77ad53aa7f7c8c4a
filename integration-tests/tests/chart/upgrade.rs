//! An upgrade of the CA while a root is being rotated, as operators do it: helm changes the StatefulSet, its real controller
//! replaces one server after the other, and applications are Deployments whose Pods the webhook gives an agent.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use integration_tests::cluster::{Chart, Cluster, Kubelet};
use integration_tests::mesh::{Member, Proxy, Traffic};
use integration_tests::support::eventually;
use serde_json::{Value, json};

use super::mesh::{bundle, met, of_deploy, phase, until_phase};
use super::servers::SERVERS;
use super::{NAMESPACE, cluster};

const APPLICATIONS: [(&str, &str); 2] = [("shop", "cart"), ("pay", "till")];
const ROTATION: &str = "/apis/banyan.dev/v1alpha1/namespaces/banyan-system/rootrotations/first";
/// The whole of it, on a machine that is busy.
const ALL_MAX: Duration = Duration::from_secs(420);

pub(crate) async fn helm_replaces_every_server_twice_in_the_middle_of_a_rotation_and_no_handshake_fails(
    name: &'static str,
) -> anyhow::Result<()> {
    let Some(mut cluster) = cluster(name, SERVERS + 4).await? else { return Ok(()) };
    let servers: Vec<_> = (0..SERVERS).map(|number| format!("banyan-{number}")).collect();
    let addresses: Vec<_> = (0..SERVERS).map(|end| cluster.address(end)).collect();
    for (server, address) in servers.iter().zip(&addresses) {
        cluster.name(&format!("{server}.banyan-replicas.{NAMESPACE}.svc"), vec![*address]);
    }
    cluster.name(&format!("banyan.{NAMESPACE}.svc"), addresses);
    let controllers = cluster.start_controllers()?;
    let first: Vec<_> = servers.iter().map(|server| format!("{NAMESPACE}/{server}")).collect();
    let kubelet = Kubelet::new(&cluster, &[NAMESPACE, "shop", "pay"], &first);
    let done = tokio::select! {
        done = tokio::time::timeout(ALL_MAX, upgraded(name, &cluster, &kubelet)) => done,
        failed = kubelet.run() => match failed {
            Ok(never) => match never {},
            Err(error) => bail!("the fake kubelet: {error:#}\n{}", kubelet.log().await),
        },
    };
    match done {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => bail!("{error:#}\n{}\n{}", kubelet.log().await, controllers.log()),
        Err(_) => bail!("it does not end\n{}\n{}", kubelet.log().await, controllers.log()),
    }
}

async fn upgraded(name: &str, cluster: &Cluster, kubelet: &Kubelet<'_>) -> anyhow::Result<()> {
    cluster.kubectl(&["apply", "-f", &of_deploy("crds")], "").await?;
    install(cluster, "none").await?;
    rolled_out(cluster, NAMESPACE, "statefulset", "banyan").await?;
    for (namespace, account) in APPLICATIONS {
        application(cluster, namespace, account).await?;
    }
    let mut members = Vec::new();
    for (namespace, account) in APPLICATIONS {
        rolled_out(cluster, namespace, "deployment", account).await?;
        let pods = cluster.get(&format!("/api/v1/namespaces/{namespace}/pods")).await?;
        let pod = pods["items"][0]["metadata"]["name"].as_str().context("no Pod")?;
        let key = format!("{namespace}/{pod}");
        let socket = kubelet.path(&key, "banyan-agent-socket", "agent.sock").await?;
        members.push(Member::Proxy(Arc::new(Proxy::follow(pod, socket))));
    }
    let traffic = Traffic::among(&members);
    met(&traffic).await?;

    let rotation = json!({ "apiVersion": "banyan.dev/v1alpha1", "kind": "RootRotation",
        "metadata": { "name": "first", "namespace": NAMESPACE }, "spec": { "mode": "manual" } });
    cluster.kubectl(&["apply", "-f", "-"], &rotation.to_string()).await?;
    until_phase(cluster, "Distributing").await?;
    replaced(cluster, kubelet, "one", 1).await?;
    ensure!(phase(cluster).await == "Distributing", "{}", phase(cluster).await);
    // The budget is kept by the API server, with what its controller counts.
    the_second_eviction_is_refused(cluster).await?;
    eventually("what was evicted is there again", || async {
        kubelet.ended().await == u64::from(SERVERS) + 1
    })
    .await?;
    rolled_out(cluster, NAMESPACE, "statefulset", "banyan").await?;

    eventually("the trust gate is open", || async {
        let object = cluster.get(ROTATION).await.unwrap_or_default();
        object["status"]["gate"]["open"] == true
    })
    .await?;
    act(cluster, "activate").await?;
    until_phase(cluster, "Draining").await?;
    act(cluster, "hold").await?;
    replaced(cluster, kubelet, "two", 2).await?;
    ensure!(phase(cluster).await == "Draining", "{}", phase(cluster).await);
    act(cluster, "resume").await?;
    until_phase(cluster, "Completed").await?;
    met(&traffic).await?;
    let talk = traffic.stop().await?;
    ensure!(talk.failed.is_empty(), "failed: {:?}", talk.failed);

    // And the API server believes the webhook by the new root: another Pod has its agent.
    cluster.kubectl(&["scale", "deployment", "-n", "shop", "cart", "--replicas=2"], "").await?;
    rolled_out(cluster, "shop", "deployment", "cart").await?;
    println!(
        "figures of {name}: handshakes {}, failed {}, servers replaced {}, requests {}",
        talk.handshakes,
        talk.failed.len(),
        kubelet.ended().await,
        cluster.api.requests()?.len(),
    );
    Ok(())
}

async fn install(cluster: &Cluster, turn: &str) -> anyhow::Result<()> {
    let chart = Chart {
        files: vec!["ci/short-lives.yaml".to_owned()],
        set: vec![
            "controllers.inject.enabled=true".to_owned(),
            "controllers.inject.staleness=1s".to_owned(),
            format!("podAnnotations.turn={turn}"),
        ],
    };
    cluster.install(&chart, NAMESPACE).await
}

/// Has helm change the values, and waits as an operator does until each server was replaced.
async fn replaced(
    cluster: &Cluster,
    kubelet: &Kubelet<'_>,
    turn: &str,
    times: u64,
) -> anyhow::Result<()> {
    let before = kubelet.ended().await;
    install(cluster, turn).await?;
    rolled_out(cluster, NAMESPACE, "statefulset", "banyan").await?;
    let ended = kubelet.ended().await - before;
    ensure!(ended == u64::from(SERVERS), "{ended} were replaced in upgrade {times}");
    Ok(())
}

async fn rolled_out(
    cluster: &Cluster,
    namespace: &str,
    kind: &str,
    name: &str,
) -> anyhow::Result<()> {
    let mut kubectl = cluster.kubectl_command()?;
    kubectl.args(["rollout", "status", "-n", namespace, kind, name, "--timeout=180s"]);
    let output = kubectl.kill_on_drop(true).output().await?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{kind} {name}: {}", String::from_utf8_lossy(&said));
    Ok(())
}

/// A namespace that asks for agents, and a Deployment in it that says nothing of them.
async fn application(cluster: &Cluster, namespace: &str, account: &str) -> anyhow::Result<()> {
    let labels = json!({ "banyan.dev/inject": "enabled", "pod-security.kubernetes.io/enforce": "restricted" });
    let body = json!({ "metadata": { "name": namespace, "labels": labels } });
    cluster.api.ask("POST", "/api/v1/namespaces", Some(body)).await?;
    cluster.add_account(namespace, account).await?;
    bundle(cluster, namespace).await?;
    let labels = json!({ "app": account });
    let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": account, "namespace": namespace },
        "spec": { "replicas": 1, "selector": { "matchLabels": labels }, "template": {
            "metadata": { "labels": labels },
            "spec": {
                "serviceAccountName": account,
                "automountServiceAccountToken": false,
                "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
                "containers": [{ "name": "app", "image": "app", "args": ["agent", "--help"], "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } } }],
            },
        } } });
    cluster.kubectl(&["apply", "--validate=strict", "-f", "-"], &deployment.to_string()).await?;
    Ok(())
}

/// Says it until it is taken: what is refused is not repeated by itself, and a gate closes again when a server comes.
async fn act(cluster: &Cluster, action: &str) -> anyhow::Result<()> {
    eventually(&format!("{action} is taken"), || async {
        match said(cluster, Some(action)).await {
            Ok(true) => true,
            _ => {
                let _ = said(cluster, None).await;
                false
            }
        }
    })
    .await
}

/// Whether the CA took it.
async fn said(cluster: &Cluster, action: Option<&str>) -> anyhow::Result<bool> {
    let patched = json!({ "spec": { "action": action } });
    let patched = cluster.api.ask("PATCH", ROTATION, Some(patched)).await?;
    let generation = patched["metadata"]["generation"].as_i64();
    let status = std::cell::RefCell::new(Value::Null);
    eventually("the word is answered", || async {
        let object = cluster.get(ROTATION).await.unwrap_or_default();
        let is_answered = object["status"]["observedGeneration"].as_i64() >= generation;
        *status.borrow_mut() = object["status"].clone();
        is_answered
    })
    .await?;
    let status = status.into_inner();
    let conditions = status["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|one| one["type"] == "ActionTaken");
    Ok(found.is_some_and(|one| one["status"] == "True"))
}

async fn the_second_eviction_is_refused(cluster: &Cluster) -> anyhow::Result<()> {
    let evict = |number: u8| async move {
        let name = format!("banyan-{number}");
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction");
        let eviction =
            json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": name } });
        cluster.api.ask("POST", &path, Some(eviction)).await
    };
    let path = format!("/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets/banyan");
    eventually("the budget is counted", || async {
        let budget = cluster.get(&path).await.unwrap_or_default();
        budget["status"]["disruptionsAllowed"] == 1
            && budget["status"]["observedGeneration"] == budget["metadata"]["generation"]
    })
    .await?;
    evict(0).await.context("the first eviction")?;
    let refused = evict(1).await;
    let said = format!("{:#}", refused.err().context("a second server is evicted too")?);
    ensure!(said.contains("disruption budget"), "{said}");
    Ok(())
}
