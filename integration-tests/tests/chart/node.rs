//! An agent for each node: the DaemonSet of the chart, and applications that reach it at a socket of their node. Their processes
//! are real Envoys in real cgroups, which this test's fake of a kubelet names as a kubelet does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use agent::envoy_config::{self, EnvoyConfig, Inbound, Outbound};
use anyhow::{Context as _, bail, ensure};
use host::SystemClock;
use integration_tests::cluster::{Chart, Cluster, Container, Image, Pod};
use integration_tests::mesh::{Subscriber, http};
use integration_tests::support::eventually;
use serde_json::{Value, json};
use trust::{Clock as _, SpiffeId};

use super::istio::{ADMIN, INBOUND, OUTBOUND, Requests, statistics};
use super::mesh::{bundle, of_deploy, phase};
use super::servers::{rights_are_used, rights_are_used_by, started};
use super::{NAMESPACE, cluster};

const NODE: &str = "worker";
const NODE_NAMESPACE: &str = "banyan-node";
const ACCOUNT: &str = "system:serviceaccount:banyan-node:banyan-node";
const ENVOY: &str = "envoyproxy/envoy:v1.40.0";
/// An application, and where it is after the server and the agent.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) namespace: &'static str,
    pub(crate) account: &'static str,
    pub(crate) end: u8,
}

pub(crate) const CART: Place = Place { namespace: "shop", account: "cart", end: 2 };
pub(crate) const TILL: Place = Place { namespace: "pay", account: "till", end: 3 };
const WEB: Place = Place { namespace: "shop", account: "web", end: 4 };
/// Of cart too.
pub(crate) const SECOND: Place = Place { namespace: "shop", account: "cart", end: 5 };
/// The server, four applications, and the agent twice.
const PODS: u8 = 7;
const ROTATION_MAX: Duration = Duration::from_secs(180);

pub(crate) async fn pods_of_one_node_get_what_is_theirs_of_its_agent_through_a_rotation_and_nobody_else_gets_anything(
    name: &'static str,
) -> anyhow::Result<()> {
    let Some(mut cluster) = cluster(name, PODS).await? else { return Ok(()) };
    let Installed { rendered, servers, agent } = installed(&mut cluster).await?;
    let socket = agent.path("socket", "agent.sock")?;

    let mut applications = Vec::new();
    for (own, peer) in [(CART, TILL), (TILL, CART), (WEB, CART), (SECOND, TILL)] {
        applications.push(application(&mut cluster, own, peer).await?);
    }
    let [cart, till, web, second] = applications.as_mut_slice() else { bail!("four") };
    for pod in [&*cart, &*till, &*second] {
        answered(pod).await.with_context(|| logs(&[&agent, pod]))?;
    }
    // It has an identity of its own, which nobody lets pass; and whoever is outside of Pods has none.
    holders(&agent, "four Pods hold secrets", |all| {
        all.iter().filter(|one| is_held(one)).count() == 4
    })
    .await?;
    let (status, body) = http(SocketAddr::new(web.address(), OUTBOUND), "GET", "/").await?;
    ensure!(status == 503, "{status} {body}");
    outside_is_refused(&socket).await?;

    // A Pod that is deleted ends at the agent: at first its streams, and with its process what it holds.
    let path = format!("/api/v1/namespaces/{}/pods/{}", WEB.namespace, web.name());
    let at_once = json!({ "gracePeriodSeconds": 0 });
    cluster.api.ask("DELETE", &path, Some(at_once.clone())).await?;
    let uid = uid_of(web).to_owned();
    let of_web = |one: &Value| one["pod"].as_str().is_some_and(|pod| pod == uid);
    holders(&agent, "its stream has ended, and its process is reckoned with", |all| {
        all.iter()
            .find(|one| of_web(one))
            .is_some_and(|one| one["connected"] == false && is_held(one))
    })
    .await?;
    web.container("envoy")?.kill().await?;
    holders(&agent, "it is gone", |all| !all.iter().any(&of_web)).await?;

    let requests = Requests::default();
    for pod in [&*cart, &*till, &*second] {
        http(SocketAddr::new(pod.address(), ADMIN), "POST", "/reset_counters").await?;
        requests.among(SocketAddr::new(pod.address(), OUTBOUND));
    }
    requests.more(20).await?;
    cluster.kubectl(&["apply", "-f", &of_deploy("examples/root-rotation.yaml")], "").await?;
    // The DaemonSet replaces its Pod in the middle: another Pod, with what the former one left on the node.
    until(&cluster, "Distributing").await?;
    let named = |pod: &Pod| {
        std::fs::read(pod.path("state", "state/agent.key")?).map_err(anyhow::Error::from)
    };
    let (key, former) = (named(&agent)?, agent);
    let agent = replaced(&mut cluster, former, at_once).await?;
    ensure!(named(&agent)? == key, "it is another agent now");
    let began = SystemClock.uptime();
    while phase(&cluster).await != "Completed" {
        ensure!(
            SystemClock.uptime() - began < ROTATION_MAX,
            "it does not end:\n{}",
            logs(&[&agent])
        );
        agent.sync(&cluster.api).await?;
        for pod in [&mut *cart, &mut *till, &mut *second] {
            pod.container("envoy")?.must_run()?;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    holders(&agent, "three Pods hold secrets", |all| {
        let held: Vec<_> = all.iter().filter(|one| is_held(one)).collect();
        let of_cart = held
            .iter()
            .filter(|one| one["pod"].as_str().is_some_and(|pod| pod.starts_with("shop/")));
        held.len() == 3 && of_cart.count() == 2
    })
    .await?;
    requests.more(20).await?;
    let (total, failed) = requests.stop();
    ensure!(failed.is_empty(), "{} of {total} failed: {:?}", failed.len(), failed.first());
    for pod in [&*cart, &*till, &*second] {
        let statistics = statistics(pod.address()).await?;
        ensure!(statistics.is_empty(), "{}: {statistics:?}", pod.name());
    }
    let joined = agents(&servers).await?;
    ensure!(joined.len() == 1, "one agent, and no other came: {joined:?}");
    ensure!(joined.iter().all(|name| name.contains("node/Kubernetes/worker/")), "{joined:?}");
    rights_are_used_by(ACCOUNT, &cluster, &of_kind(&rendered, NODE_NAMESPACE)).await?;
    rights_are_used(&cluster, &of_kind(&rendered, "banyan-system-banyan-pods")).await?;
    println!("figures of {name}: requests {total}, failed {}", failed.len());
    Ok(())
}

/// What is there before applications come.
pub(crate) struct Installed {
    /// By helm.
    rendered: String,
    pub(crate) servers: Vec<Pod>,
    pub(crate) agent: Pod,
}

/// A server of the chart and the agent of a node.
pub(crate) async fn installed(cluster: &mut Cluster) -> anyhow::Result<Installed> {
    let envoy = host::peers::binary("envoy", "envoy")?.canonicalize()?;
    cluster.add_image(ENVOY, Image::of("envoy", &envoy));
    cluster.kubectl(&["apply", "-f", &of_deploy("crds")], "").await?;
    let privileged = json!({ "pod-security.kubernetes.io/enforce": "privileged" });
    cluster.add_namespace(NODE_NAMESPACE, privileged).await?;
    let chart = Chart {
        files: vec!["ci/short-lives.yaml".to_owned()],
        // Lives that last while the agent is replaced.
        set: [
            "replicas=1",
            "nodeAgent.enabled=true",
            "config.leaf.ttl_default=40s",
            "config.leaf.ttl_max=40s",
        ]
        .map(str::to_owned)
        .into(),
    };
    let rendered = chart.render(NAMESPACE).await?;
    cluster.kubectl(&["apply", "--validate=strict", "-f", "-"], &rendered).await?;
    let servers = started(cluster, 1).await?;
    let addresses = servers.iter().map(Pod::address).collect();
    cluster.name(&format!("banyan.{NAMESPACE}.svc"), addresses);
    bundle(cluster, NODE_NAMESPACE).await?;
    let agent = agent_pod(cluster, "banyan-node-1").await?;
    Ok(Installed { rendered, servers, agent })
}

/// The documents of what helm rendered that give rights and have these words.
fn of_kind(rendered: &str, words: &str) -> String {
    let documents = integration_tests::cluster::rendered(rendered).into_iter();
    let roles = documents.filter(|one| one.contains("kind: ClusterRole\n") && one.contains(words));
    roles.collect::<Vec<_>>().join("\n---\n")
}

/// The Pod of the DaemonSet, as its controller makes it for the node; where only the restricted standard is let pass, it is not.
async fn agent_pod(cluster: &mut Cluster, name: &str) -> anyhow::Result<Pod> {
    let path = format!("/apis/apps/v1/namespaces/{NODE_NAMESPACE}/daemonsets/banyan-node");
    let mut pod =
        cluster.get(&path).await?.pointer("/spec/template").context("no template")?.clone();
    pod["metadata"]["name"] = json!(name);
    let mut elsewhere = pod.clone();
    (elsewhere["apiVersion"], elsewhere["kind"]) = (json!("v1"), json!("Pod"));
    elsewhere["spec"]["serviceAccountName"] = json!("banyan");
    let restricted = format!("/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All");
    let refused = cluster.api.ask("POST", &restricted, Some(elsewhere)).await.err();
    let refused = format!("{:#}", refused.context("the restricted standard lets it pass")?);
    ensure!(refused.contains("hostPath") || refused.contains("host namespaces"), "{refused}");
    let pod = cluster.start_pod_on(NODE, NODE_NAMESPACE, pod).await?;
    // As its startup probe has it.
    let line = ["/banyan", "agent", "status", "--socket", "/run/banyan/agent.sock"];
    let said = std::sync::Mutex::new(String::new());
    let started = eventually("the agent of the node has started", async || {
        match pod.exec("agent", &line).await {
            Ok((true, _)) => true,
            other => {
                *said.lock().unwrap_or_else(|held| held.into_inner()) = format!("{other:?}");
                false
            }
        }
    });
    let started = started.await;
    let said = said.into_inner().unwrap_or_else(|held| held.into_inner());
    started.with_context(|| format!("{said}\n{}", logs(&[&pod])))?;
    Ok(pod)
}

async fn replaced(cluster: &mut Cluster, mut former: Pod, at_once: Value) -> anyhow::Result<Pod> {
    former.stop().await?;
    let path = format!("/api/v1/namespaces/{NODE_NAMESPACE}/pods/{}", former.name());
    cluster.api.ask("DELETE", &path, Some(at_once)).await?;
    drop(former);
    agent_pod(cluster, "banyan-node-2").await
}

/// An application: an Envoy with a socket of its node, that lets one peer pass and no other.
pub(crate) async fn application(
    cluster: &mut Cluster,
    own: Place,
    peer: Place,
) -> anyhow::Result<Pod> {
    let Place { namespace, account, end } = own;
    // Some are there already.
    let _ = cluster.add_namespace(namespace, json!({})).await;
    let _ = cluster.add_account(namespace, account).await;
    let other = cluster.address(peer.end);
    let (peer_namespace, peer_account) = (peer.namespace, peer.account);
    let peer = format!("spiffe://cluster.local/ns/{peer_namespace}/sa/{peer_account}");
    let (own, peer) = (cluster.address(end), SpiffeId::parse(&peer)?);
    let name = format!("{account}-{end}");
    let config = EnvoyConfig {
        node: name.clone(),
        socket: PathBuf::from("/run/banyan/agent.sock"),
        admin: Some(SocketAddr::new(own, ADMIN)),
        inbound: Some(Inbound {
            listen: SocketAddr::new(own, INBOUND),
            application: None,
            allowed_peers: vec![peer.clone()],
        }),
        outbound: vec![Outbound {
            name: "peer".to_owned(),
            listen: SocketAddr::new(own, OUTBOUND),
            peer: SocketAddr::new(other, INBOUND),
            peer_identities: vec![peer],
            new_connection_per_request: true,
        }],
        connection_age_max: Duration::from_secs(600),
    };
    let map = json!({
        "metadata": { "name": name },
        "data": { "envoy.yaml": envoy_config::render(&config) },
    });
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    cluster.api.ask("POST", &path, Some(map)).await?;
    // One of each class: their cgroups are at different levels.
    let resources = match account {
        "cart" => json!({ "requests": { "cpu": "10m" } }),
        _ => json!({}),
    };
    let pod = json!({
        "metadata": { "name": name },
        "spec": {
            "serviceAccountName": account,
            "automountServiceAccountToken": false,
            // All have the same: a user id tells nothing.
            "securityContext": { "runAsUser": 1000 },
            "containers": [{
                "name": "envoy",
                "image": ENVOY,
                "args": ["--config-path", "/etc/envoy/envoy.yaml", "--disable-hot-restart", "--concurrency", "1"],
                "resources": resources,
                "volumeMounts": [
                    { "name": "config", "mountPath": "/etc/envoy", "readOnly": true },
                    { "name": "agent", "mountPath": "/run/banyan", "readOnly": true },
                ],
            }],
            "volumes": [
                { "name": "config", "configMap": { "name": name } },
                { "name": "agent", "hostPath": { "path": "/run/banyan", "type": "Directory" } },
            ],
        },
    });
    cluster.start_pod_on(NODE, namespace, pod).await
}

pub(crate) async fn answered(pod: &Pod) -> anyhow::Result<()> {
    let way = SocketAddr::new(pod.address(), OUTBOUND);
    eventually(&format!("the peer of {} answers", pod.name()), async || {
        http(way, "GET", "/").await.is_ok_and(|(status, _)| status == 200)
    })
    .await
}

/// A process of this machine, of the same user as those in Pods.
async fn outside_is_refused(socket: &std::path::Path) -> anyhow::Result<()> {
    let refused = Subscriber::open(socket, "default").await;
    let refused = match refused {
        Err(error) => format!("{error:#}"),
        Ok(mut stream) => match stream.next().await? {
            Err(status) => status.to_string(),
            Ok(answer) => bail!("a process outside of Pods got {answer:?}"),
        },
    };
    ensure!(refused.contains("runs in no Pod of node worker"), "{refused}");
    Ok(())
}

pub(crate) fn is_held(holder: &Value) -> bool {
    holder["serials"].as_array().is_some_and(|serials| !serials.is_empty())
}

pub(crate) fn uid_of(pod: &Pod) -> &str {
    pod.object().pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default()
}

/// Waits until those who hold secrets of the agent are so.
pub(crate) async fn holders(
    agent: &Pod,
    what: &str,
    is_so: impl Fn(&[Value]) -> bool,
) -> anyhow::Result<()> {
    let line = ["/banyan", "agent", "status", "--json", "--socket", "/run/banyan/agent.sock"];
    let last = std::sync::Mutex::new(String::new());
    let done = eventually(what, async || {
        let Ok((_, printed)) = agent.exec("agent", &line).await else { return false };
        let status: Value = serde_json::from_str(&printed).unwrap_or_default();
        let done = status["holders"].as_array().is_some_and(|all| is_so(all));
        *last.lock().unwrap_or_else(|held| held.into_inner()) = printed;
        done
    });
    let done = done.await;
    let last = last.into_inner().unwrap_or_else(|held| held.into_inner());
    done.with_context(|| format!("{last}\n{}", logs(&[agent])))
}

async fn until(cluster: &Cluster, wanted: &str) -> anyhow::Result<()> {
    super::mesh::until_phase(cluster, wanted).await
}

/// Names of the agents that the CA has registered.
pub(crate) async fn agents(servers: &[Pod]) -> anyhow::Result<Vec<String>> {
    let server = servers.first().context("no server")?;
    let line = ["/banyan", "agent", "list", "--json", "--socket", "/run/banyan/admin.sock"];
    let (done, printed) = server.exec("ca", &line).await?;
    ensure!(done, "{printed}");
    let listed: Value = serde_json::from_str(&printed)?;
    let rows = listed["agents"].as_array().or_else(|| listed.as_array()).context("no list")?.iter();
    Ok(rows.filter_map(|row| row["id"].as_str().map(str::to_owned)).collect())
}

pub(crate) fn logs(pods: &[&Pod]) -> String {
    pods.iter().flat_map(|pod| &pod.containers).map(Container::log).collect()
}
