//! Sidecars of Istio: real pilot-agents and real Envoys, with servers of the chart as their CA.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use agent::envoy_config::{self, EnvoyConfig, Inbound, Outbound};
use anyhow::{Context as _, bail, ensure};
use host::SystemClock;
use integration_tests::cluster::{Chart, Cluster, Container, Image, Pod};
use integration_tests::mesh::http;
use integration_tests::support::eventually;
use serde_json::{Value, json};
use trust::{Clock as _, RootId, SpiffeId};

use super::mesh::of_deploy;
use super::servers::{SERVERS, nothing_was_forbidden, started};
use super::{NAMESPACE, cluster};

pub(crate) const ISTIO_SYSTEM: &str = "istio-system";
/// Names of images, as Istio's charts have them.
const PROXY: &str = "docker.io/istio/proxyv2";
pub(crate) const INBOUND: u16 = 8443;
pub(crate) const OUTBOUND: u16 = 8080;
pub(crate) const ADMIN: u16 = 15000;
const SOCKET: &str = "/var/run/secrets/workload-spiffe-uds/socket";
/// What a sidecar's workload is.
const SIDECARS: [(&str, &str); 2] = [("shop", "cart"), ("pay", "till")];
/// Two gates, each of which waits for a life of what was issued before it, and for a busy machine.
const ROTATION_MAX: Duration = Duration::from_secs(240);
const ROTATION: &str = "/apis/banyan.dev/v1alpha1/namespaces/banyan-system/rootrotations/first";

/// Short lives for a test, over a file of values of the chart.
pub(crate) struct Values(tempfile::TempDir);

impl Values {
    pub(crate) fn write() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let values = json!({
            "config": {
                "leaf": { "ttl_default": "20s", "ttl_max": "20s", "ttl_min": "8s", "backdate": "2s", "skew": "2s" },
                "rotation": { "settle": "1s", "withdrawal_max": "60s" },
            },
            "controllers": { "publish": { "istio": { "staleness": "2s" } } },
        });
        std::fs::write(folder.path().join("values.yaml"), values.to_string())?;
        Ok(Self(folder))
    }

    /// Below these of the chart.
    pub(crate) fn files(&self, of_chart: &str) -> Vec<String> {
        vec![of_chart.to_owned(), self.0.path().join("values.yaml").display().to_string()]
    }
}

pub(crate) async fn real_pilot_agents_and_envoys_stay_connected_through_a_rotation_by_kubectl(
    name: &'static str,
) -> anyhow::Result<()> {
    let pods = SERVERS + u8::try_from(SIDECARS.len())?;
    let Some(mut cluster) = cluster(name, pods).await? else { return Ok(()) };
    let pilot_agent = host::peers::binary("pilot-agent", "pilot-agent")?;
    let envoy = host::peers::binary("envoy", "envoy")?.canonicalize()?;
    cluster.add_image(PROXY, Image::of("pilot-agent", &pilot_agent).with("envoy", &envoy));
    cluster.kubectl(&["apply", "-f", &of_deploy("crds")], "").await?;
    let values = Values::write()?;
    let chart = Chart { files: values.files("ci/istio.yaml"), set: Vec::new() };
    let rendered = chart.render(NAMESPACE).await?;
    cluster.kubectl(&["apply", "--validate=strict", "-f", "-"], &rendered).await?;
    let servers = started(&mut cluster, SERVERS).await?;
    let addresses = servers.iter().map(Pod::address).collect();
    cluster.name(&format!("banyan.{NAMESPACE}.svc"), addresses);
    let mut sidecars = Vec::new();
    for (index, (namespace, account)) in (0_u8..).zip(SIDECARS) {
        let other = SERVERS + u8::from(index == 0);
        sidecars.push(sidecar(&mut cluster, [namespace, account], SERVERS + index, other).await?);
    }
    let requests = Requests::default();
    for pod in &sidecars {
        let ways = SocketAddr::new(pod.address(), OUTBOUND);
        let logs = || pod.containers.iter().map(Container::log).collect::<String>();
        let answered = eventually("its peer answers", || async {
            http(ways, "GET", "/").await.is_ok_and(|(status, _)| status == 200)
        });
        answered.await.with_context(logs)?;
    }
    for pod in &sidecars {
        // Who knocked before both had their certificates is nobody's fault.
        http(SocketAddr::new(pod.address(), ADMIN), "POST", "/reset_counters").await?;
        requests.among(SocketAddr::new(pod.address(), OUTBOUND));
    }
    let before = certificates(&sidecars)?;
    cluster.kubectl(&["apply", "-f", &of_deploy("examples/root-rotation.yaml")], "").await?;
    let began = SystemClock.uptime();
    let mut phases: Vec<(String, Duration)> = Vec::new();
    loop {
        let object = cluster.get(ROTATION).await?;
        let phase = object["status"]["phase"].as_str().unwrap_or_default().to_owned();
        if phases.last().is_none_or(|(last, _)| *last != phase) {
            phases.push((phase.clone(), SystemClock.uptime()));
        }
        for pod in &mut sidecars {
            pod.sync(&cluster.api).await?;
            pod.container("istio-proxy")?.must_run()?;
        }
        match phase.as_str() {
            "Completed" => break,
            "Aborted" | "RolledBack" | "Refused" => bail!("{object}"),
            _ if SystemClock.uptime() - began > ROTATION_MAX => {
                bail!("the rotation does not end: {object}")
            }
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    let lasted = SystemClock.uptime() - began;
    let now = trusted_roots(&cluster, "shop").await?;
    ensure!(now.len() == 1, "{} roots are published in the end", now.len());
    eventually("each sidecar trusts the new root alone", || {
        let trusted = sidecars.iter().map(roots_of);
        let is_so = trusted.collect::<anyhow::Result<Vec<_>>>();
        let is_so = is_so.is_ok_and(|trusted| trusted.iter().all(|roots| *roots == now));
        async move { is_so }
    })
    .await?;
    let after = certificates(&sidecars)?;
    ensure!(
        before.iter().zip(&after).all(|(before, after)| before != after),
        "nothing was renewed"
    );
    requests.more(20).await?;
    let (answered, failed) = requests.stop();
    ensure!(failed.is_empty(), "{} of {answered} failed: {:?}", failed.len(), failed.first());
    for pod in &sidecars {
        let statistics = statistics(pod.address()).await?;
        ensure!(statistics.is_empty(), "{}: {statistics:?}", pod.name());
    }
    nothing_was_forbidden(&cluster)?;
    let told = phases
        .iter()
        .zip(phases.iter().skip(1))
        .map(|((phase, from), (_, to))| format!("{phase} {} s", (*to - *from).as_secs()));
    println!(
        "figures of {name}: requests {answered}, failed {}, rotation {} s ({})",
        failed.len(),
        lasted.as_secs(),
        told.collect::<Vec<_>>().join(", "),
    );
    Ok(())
}

/// A Pod as Istio's injector makes it, but for what catches the application's connections, and with an Envoy that is configured by
/// hand, since no istiod is here.
async fn sidecar(
    cluster: &mut Cluster,
    [namespace, account]: [&str; 2],
    place: u8,
    other: u8,
) -> anyhow::Result<Pod> {
    cluster.add_namespace(namespace, json!({})).await?;
    cluster.add_account(namespace, account).await?;
    bundle(cluster, namespace).await?;
    let peers = SIDECARS.map(|(namespace, account)| {
        SpiffeId::parse(&format!("spiffe://cluster.local/ns/{namespace}/sa/{account}"))
    });
    let peers = peers.into_iter().collect::<Result<Vec<_>, _>>()?;
    let (own, peer) = (cluster.address(place), cluster.address(other));
    let config = EnvoyConfig {
        node: account.to_owned(),
        socket: PathBuf::from(SOCKET),
        admin: Some(SocketAddr::new(own, ADMIN)),
        inbound: Some(Inbound {
            listen: SocketAddr::new(own, INBOUND),
            application: None,
            allowed_peers: peers.clone(),
        }),
        outbound: vec![Outbound {
            name: "peer".to_owned(),
            listen: SocketAddr::new(own, OUTBOUND),
            peer: SocketAddr::new(peer, INBOUND),
            peer_identities: peers,
            new_connection_per_request: true,
        }],
        connection_age_max: Duration::from_secs(600),
    };
    let map = json!({
        "metadata": { "name": "envoy" },
        "data": { "envoy.yaml": envoy_config::render(&config) },
    });
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    cluster.api.ask("POST", &path, Some(map)).await?;
    cluster.start_pod(namespace, pod(namespace, account)).await
}

fn pod(namespace: &str, account: &str) -> Value {
    let proxy_config = json!({
        "discoveryAddress": "istiod.istio-system.svc:15012",
        "statusPort": 15020,
        "proxyAdminPort": ADMIN,
        "configPath": "/etc/istio/proxy",
        "binaryPath": "/envoy",
        "customConfigFile": "/etc/envoy/envoy.yaml",
    });
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let value = |name: &str, value: &str| json!({ "name": name, "value": value });
    let mounts = [
        ("workload-socket", "/var/run/secrets/workload-spiffe-uds"),
        ("credential-socket", "/var/run/secrets/credential-uds"),
        ("workload-certs", "/var/run/secrets/workload-spiffe-credentials"),
        ("istiod-ca-cert", "/var/run/secrets/istio"),
        ("istio-data", "/var/lib/istio/data"),
        ("istio-envoy", "/etc/istio/proxy"),
        ("istio-token", "/var/run/secrets/tokens"),
        ("output", "/etc/output"),
        ("envoy", "/etc/envoy"),
        ("tmp", "/tmp"),
    ];
    let mounts = mounts.map(|(name, path)| json!({ "name": name, "mountPath": path }));
    let empty = |name: &str| json!({ "name": name, "emptyDir": {} });
    json!({
        "metadata": { "name": account },
        "spec": {
            "serviceAccountName": account,
            "containers": [{
                "name": "istio-proxy",
                "image": PROXY,
                "args": ["proxy", "sidecar", "--domain", format!("{namespace}.svc.cluster.local")],
                "env": [
                    value("PILOT_CERT_PROVIDER", "istiod"),
                    value("CA_ADDR", &format!("banyan.{NAMESPACE}.svc:15012")),
                    field("POD_NAME", "metadata.name"),
                    field("POD_NAMESPACE", "metadata.namespace"),
                    field("INSTANCE_IP", "status.podIP"),
                    field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
                    value("PROXY_CONFIG", &proxy_config.to_string()),
                    value("ISTIO_META_CLUSTER_ID", "Kubernetes"),
                    value("TRUST_DOMAIN", "cluster.local"),
                    // There is no cloud to ask here.
                    value("CLOUD_PLATFORM", "none"),
                    value("GRPC_XDS_BOOTSTRAP", ""),
                    value("OUTPUT_CERTS", "/etc/output"),
                ],
                "volumeMounts": mounts,
            }],
            "volumes": [
                empty("workload-socket"), empty("credential-socket"), empty("workload-certs"),
                empty("istio-data"), empty("istio-envoy"), empty("output"), empty("tmp"),
                { "name": "istiod-ca-cert", "configMap": { "name": "istio-ca-root-cert" } },
                { "name": "envoy", "configMap": { "name": "envoy" } },
                { "name": "istio-token", "projected": { "sources": [{ "serviceAccountToken":
                    { "path": "istio-token", "expirationSeconds": 43200, "audience": "istio-ca" } }] } },
            ],
        },
    })
}

/// Waits until Istio's ConfigMap is in a namespace.
pub(crate) async fn bundle(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    eventually(&format!("{namespace} has the bundle"), || async {
        trusted_roots(cluster, namespace).await.is_ok_and(|roots| !roots.is_empty())
    })
    .await
}

/// The roots in Istio's ConfigMap.
pub(crate) async fn trusted_roots(
    cluster: &Cluster,
    namespace: &str,
) -> anyhow::Result<Vec<RootId>> {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/istio-ca-root-cert");
    let object = cluster.get(&path).await?;
    roots(object["data"]["root-cert.pem"].as_str().context("no bundle")?)
}

fn roots(pem: &str) -> anyhow::Result<Vec<RootId>> {
    Ok(pem::parse_many(pem)?.iter().map(|block| RootId::of(block.contents())).collect())
}

/// What pilot-agent has given its Envoy as trust, which it also writes into a file.
fn roots_of(pod: &Pod) -> anyhow::Result<Vec<RootId>> {
    roots(&std::fs::read_to_string(pod.path("output", "root-cert.pem")?)?)
}

fn certificates(pods: &[Pod]) -> anyhow::Result<Vec<String>> {
    let chain = |pod: &Pod| Ok(std::fs::read_to_string(pod.path("output", "cert-chain.pem")?)?);
    pods.iter().map(chain).collect()
}

/// What an Envoy counts of connections that failed.
pub(crate) async fn statistics(address: IpAddr) -> anyhow::Result<Vec<String>> {
    let (_, page) = http(SocketAddr::new(address, ADMIN), "GET", "/stats?usedonly").await?;
    let failed = |line: &&str| {
        let (name, count) = line.split_once(": ").unwrap_or_default();
        name.contains(".ssl.fail_verify") && count != "0"
    };
    Ok(page.lines().filter(failed).map(str::to_owned).collect())
}

/// Requests without pause, each over a connection of its own.
#[derive(Default)]
pub(crate) struct Requests(Arc<Counts>);

#[derive(Default)]
pub(crate) struct Counts {
    stop: AtomicBool,
    answered: AtomicU64,
    failed: std::sync::Mutex<Vec<String>>,
}

impl Requests {
    pub(crate) fn among(&self, way: SocketAddr) {
        let counts = Arc::clone(&self.0);
        tokio::spawn(async move {
            while !counts.stop.load(Ordering::Relaxed) {
                match http(way, "GET", "/").await {
                    Ok((200, _)) => {}
                    other => {
                        let mut failed =
                            counts.failed.lock().unwrap_or_else(|held| held.into_inner());
                        failed.push(format!("{way}: {other:?}"));
                    }
                }
                counts.answered.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    }

    pub(crate) async fn more(&self, number: u64) -> anyhow::Result<()> {
        let wanted = self.0.answered.load(Ordering::Relaxed) + number;
        eventually("more requests are answered", async || {
            self.0.answered.load(Ordering::Relaxed) >= wanted
        })
        .await
    }

    pub(crate) fn stop(&self) -> (u64, Vec<String>) {
        self.0.stop.store(true, Ordering::Relaxed);
        let failed = self.0.failed.lock().unwrap_or_else(|held| held.into_inner()).clone();
        (self.0.answered.load(Ordering::Relaxed), failed)
    }
}
