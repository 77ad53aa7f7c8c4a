//! A mesh in Kubernetes: servers and controllers of the chart, applications with an agent as a sidecar, and a rotation by
//! `kubectl`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use integration_tests::cluster::{Chart, Cluster, Container, Pod};
use integration_tests::mesh::{Member, Proxy, Traffic};
use integration_tests::support::eventually;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tonic::transport::Channel;

use super::servers::{SERVERS, clients, rights_are_exact, rotation, started};
use super::{NAMESPACE, cluster};

const APPLICATIONS: [(&str, &str); 2] = [("shop", "cart"), ("pay", "till")];
const ROTATIONS: &str = "/apis/banyan.dev/v1alpha1/namespaces/banyan-system/rootrotations";
/// Two gates, each of which may wait for the last leaf of the server that died, for its Lease, and for a machine that is busy.
const ROTATION_MAX: Duration = Duration::from_secs(150);
/// Everybody meets everybody several times in so many handshakes.
const MEETINGS: u64 = 24;

pub(crate) async fn a_root_is_rotated_by_kubectl_under_traffic_and_every_namespace_has_both_roots_first(
    name: &'static str,
) -> anyhow::Result<()> {
    let pods = SERVERS + 2;
    let Some(mut cluster) = cluster(name, pods).await? else { return Ok(()) };
    cluster.kubectl(&["apply", "-f", &of_deploy("crds")], "").await?;
    let chart = Chart { files: vec!["ci/short-lives.yaml".to_owned()], set: Vec::new() };
    let rendered = chart.render(NAMESPACE).await?;
    cluster.kubectl(&["apply", "--validate=strict", "-f", "-"], &rendered).await?;
    let mut servers = started(&mut cluster, SERVERS).await?;
    let applications = applications(&mut cluster, SERVERS, &APPLICATIONS).await?;
    let members = applications.iter().map(|pod| {
        let socket = pod.path("agent-socket", "agent.sock")?;
        Ok(Member::Proxy(Arc::new(Proxy::follow(pod.name(), socket))))
    });
    let members: Vec<Member> = members.collect::<anyhow::Result<_>>()?;
    let traffic = Traffic::among(&members);
    met(&traffic).await?;

    cluster.kubectl(&["apply", "-f", &of_deploy("examples/root-rotation.yaml")], "").await?;
    let watched = watched(&cluster)?;
    // The server that leads dies in the middle, with what works beside it, and is started again.
    let witness = clients(&servers)?.pop().context("no server")?;
    let disturbed = async {
        until_phase(&cluster, "Distributing").await?;
        what_comes_seldom(&cluster).await?;
        let lead = servers.first_mut().context("no server")?;
        for container in &mut lead.containers {
            container.kill().await?;
        }
        lead.run()
    };
    let both = async { tokio::try_join!(rotated(&cluster, &applications, witness), disturbed) };
    let seen = match tokio::time::timeout(ROTATION_MAX, both).await {
        Ok(both) => both?.0,
        Err(_) => {
            let logs = servers.iter().flat_map(|pod| &pod.containers).map(Container::log);
            bail!("the rotation does not end:\n{}", logs.collect::<String>())
        }
    };
    met(&traffic).await?;
    let talk = traffic.stop().await?;
    ensure!(talk.failed.is_empty(), "failed: {:?}", talk.failed);
    let transcript = watched.await??;
    for line in &transcript {
        println!("{line}");
    }
    rights_are_exact(&cluster, &rendered, &servers).await?;
    println!(
        "figures of {name}: handshakes {}, failed {}, namespaces {}, requests {}",
        talk.handshakes,
        talk.failed.len(),
        seen.len(),
        cluster.api.requests()?.len(),
    );
    Ok(())
}

/// What the controllers do besides: an authority that is not there is shown no more, and what is said again is one event that is
/// counted.
async fn what_comes_seldom(cluster: &Cluster) -> anyhow::Result<()> {
    // Nothing can be rolled back before the new root signs, which it does not while the rotation is held.
    asks(cluster, Some("hold")).await?;
    let gone = json!({ "apiVersion": "banyan.dev/v1alpha1", "kind": "RootAuthority",
        "metadata": { "name": "gone" }, "spec": {} });
    let path = "/apis/banyan.dev/v1alpha1/namespaces/banyan-system/rootauthorities";
    cluster.api.ask("POST", path, Some(gone)).await?;
    // It covers nobody who is here.
    let waiver = json!({ "apiVersion": "banyan.dev/v1alpha1", "kind": "Waiver",
        "metadata": { "name": "nobody" }, "spec": { "covers": ["spiffe://cluster.local/ns/nobody/*"],
            "until": in_an_hour(), "reason": "a test" } });
    let path = "/apis/banyan.dev/v1alpha1/namespaces/banyan-system/waivers";
    cluster.api.ask("POST", path, Some(waiver)).await?;
    let path = format!("{path}/nobody");
    eventually("the waiver stands", || async {
        cluster.get(&path).await.unwrap_or_default()["status"]["stands"] == true
    })
    .await?;
    let federated = json!({ "apiVersion": "banyan.dev/v1alpha1", "kind": "FederatedTrustDomain",
        "metadata": { "name": "far" }, "spec": { "trustDomain": "far.example",
            "endpointURL": "https://127.0.0.1:9/", "reason": "a test" } });
    let path = "/apis/banyan.dev/v1alpha1/namespaces/banyan-system/federatedtrustdomains";
    cluster.api.ask("POST", path, Some(federated)).await?;
    let path = format!("{path}/far");
    eventually("the federation is taken", || async {
        cluster.get(&path).await.unwrap_or_default()["status"]["message"]
            .as_str()
            .is_some_and(|message| message.contains("cannot be read"))
    })
    .await?;
    cluster.api.ask("DELETE", &path, None).await?;
    for action in [Some("rollback"), None, Some("rollback"), Some("resume")] {
        asks(cluster, action).await?;
    }
    Ok(())
}

/// Asks for something in the object of the rotation, and waits until that is answered.
async fn asks(cluster: &Cluster, action: Option<&str>) -> anyhow::Result<()> {
    let rotation = format!("{ROTATIONS}/first");
    let patched = json!({ "spec": { "action": action } });
    let patched = cluster.api.ask("PATCH", &rotation, Some(patched)).await?;
    let generation = patched["metadata"]["generation"].as_i64();
    eventually("the action is answered", || async {
        let object = cluster.get(&rotation).await.unwrap_or_default();
        object["status"]["observedGeneration"].as_i64() >= generation
    })
    .await
}

fn in_an_hour() -> String {
    trust::Clock::now(&host::SystemClock).plus(Duration::from_secs(3_600)).to_string()
}

pub(crate) fn of_deploy(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    folder.join(file).display().to_string()
}

/// The example of an application with a sidecar, under these names; of its own containers only the sidecar runs here.
pub(crate) async fn applications(
    cluster: &mut Cluster,
    servers: u8,
    names: &[(&str, &str)],
) -> anyhow::Result<Vec<Pod>> {
    let example = std::fs::read_to_string(of_deploy("agent/sidecar.yaml"))?;
    let addresses = (0..servers).map(|end| cluster.address(end)).collect();
    cluster.name(&format!("banyan.{NAMESPACE}.svc"), addresses);
    let mut pods = Vec::new();
    for &(namespace, account) in names {
        let restricted = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
        cluster.add_namespace(namespace, restricted).await?;
        cluster.add_account(namespace, account).await?;
        let text = example.replace("shop", namespace).replace("cart", account);
        let (config, pod) = text.split_once("\n---\n").context("two documents")?;
        cluster.kubectl(&["apply", "--validate=strict", "-f", "-"], config).await?;
        let arguments = ["create", "--dry-run=client", "-f", "-", "-o", "json"];
        let mut pod: Value = serde_json::from_str(&cluster.kubectl(&arguments, pod).await?)?;
        // What the API server takes is the whole Pod; what runs is its first container.
        let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All&fieldValidation=Strict");
        cluster.api.ask("POST", &path, Some(pod.clone())).await?;
        let sidecar = pod["spec"]["initContainers"][0].clone();
        pod["spec"]["containers"] = json!([
            { "name": "idle", "image": "banyan", "args": ["agent", "--help"],
              "securityContext": sidecar["securityContext"] }
        ]);
        bundle(cluster, namespace).await?;
        pods.push(cluster.start_pod(namespace, pod).await?);
    }
    for pod in &pods {
        pod.started().await?;
    }
    Ok(pods)
}

/// Waits until the bundle is published to a namespace.
pub(crate) async fn bundle(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    eventually(&format!("{namespace} has the bundle"), || async {
        roots(cluster, namespace).await.is_ok_and(|roots| roots > 0)
    })
    .await
}

async fn roots(cluster: &Cluster, namespace: &str) -> anyhow::Result<usize> {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/banyan-trust-bundle");
    let object = cluster.get(&path).await?;
    let pem = object["data"]["ca.crt"].as_str().context("no bundle")?;
    Ok(pem.matches("BEGIN CERTIFICATE").count())
}

pub(crate) async fn met(traffic: &Traffic) -> anyhow::Result<()> {
    let wanted = traffic.handshakes() + MEETINGS;
    eventually("all have met", || async { traffic.handshakes() >= wanted }).await
}

pub(crate) async fn phase(cluster: &Cluster) -> String {
    let object = cluster.get(&format!("{ROTATIONS}/first")).await.unwrap_or_default();
    object["status"]["phase"].as_str().unwrap_or_default().to_owned()
}

pub(crate) async fn until_phase(cluster: &Cluster, wanted: &str) -> anyhow::Result<()> {
    eventually(wanted, || async { phase(cluster).await == wanted }).await
}

/// Follows the rotation to its end: how many roots each namespace had when the new one was seen to sign, which are two, and one in
/// the end. Files in Pods are kept up meanwhile. That it signs a server says that is never killed: while nobody leads in the cluster,
/// no status is written.
async fn rotated(
    cluster: &Cluster,
    pods: &[Pod],
    mut witness: RotationServiceClient<Channel>,
) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut at_the_switch = BTreeMap::new();
    loop {
        let phase = phase(cluster).await;
        let is_over = phase == "Completed";
        ensure!(!["Aborted", "RolledBack", "Refused"].contains(&phase.as_str()), "{phase}");
        let at_ca = rotation(&mut witness).await.unwrap_or_default().phase;
        if at_ca == "draining" && at_the_switch.is_empty() {
            for (namespace, _) in APPLICATIONS {
                at_the_switch.insert(namespace.to_owned(), roots(cluster, namespace).await?);
            }
        }
        for pod in pods {
            pod.sync(&cluster.api).await?;
        }
        if is_over {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(at_the_switch.values().all(|roots| *roots == 2), "{at_the_switch:?}");
    ensure!(at_the_switch.len() == APPLICATIONS.len(), "the new root was not seen to sign");
    for (namespace, _) in APPLICATIONS {
        let roots = roots(cluster, namespace).await?;
        ensure!(roots == 1, "{namespace} has {roots} roots in the end");
    }
    Ok(at_the_switch)
}

/// What `kubectl get rootrotation -w` prints until the rotation is complete.
fn watched(
    cluster: &Cluster,
) -> anyhow::Result<tokio::task::JoinHandle<anyhow::Result<Vec<String>>>> {
    let mut kubectl = cluster.kubectl_command()?;
    kubectl.args(["get", "rootrotation", "-n", NAMESPACE, "-w"]);
    kubectl.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut running = kubectl.spawn()?;
    let printed = running.stdout.take().context("no output")?;
    Ok(tokio::spawn(async move {
        let (mut lines, mut all) = (BufReader::new(printed).lines(), Vec::new());
        while let Some(line) = lines.next_line().await? {
            let is_over = line.contains("Completed");
            all.push(line);
            if is_over {
                break;
            }
        }
        running.kill().await?;
        Ok(all)
    }))
}
