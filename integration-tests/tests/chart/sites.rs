//! Two clusters, each with an API server, a Banyan of the chart and a root of its own, that are neighbors of each other.

use std::net::{IpAddr, SocketAddr};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use integration_tests::cluster::{Chart, Cluster, Pod};
use integration_tests::mesh::{Member, Proxy, Reader, Talk, Traffic, ZtunnelFiles};
use integration_tests::support::eventually;
use serde_json::{Value, json};
use tokio::process::Command;
use trust::RootId;

use super::mesh::{applications, bundle, of_deploy};
use super::servers::started;
use super::{NAMESPACE, inside, prepare, program};

/// Servers in each cluster.
pub(crate) const SERVERS: u8 = 2;
/// What has an agent in each, and what takes its trust from the published bundle.
const AGENT: (&str, &str) = ("shop", "cart");
const READER: (&str, &str) = ("pay", "till");
/// How often the fake of a kubelet makes the files of volumes anew; readers may be later by `staleness`.
const SYNC_EVERY: Duration = Duration::from_millis(500);

/// One of them, without its servers, which are started anew now and then.
pub(crate) struct Site {
    pub(crate) name: &'static str,
    pub(crate) cluster: Cluster,
    applications: Vec<Pod>,
    reader: Option<Reader>,
}

/// Both.
pub(crate) struct Sites {
    pub(crate) east: Site,
    pub(crate) west: Site,
    pub(crate) servers: Servers,
}

/// The servers of both.
pub(crate) struct Servers {
    pub(crate) east: Vec<Pod>,
    pub(crate) west: Vec<Pod>,
}

impl Sites {
    /// Inside a network of its own: both, each trusting the roots of both. Outside: goes there, and has nothing to do afterwards.
    pub(crate) async fn neighbors(name: &'static str) -> anyhow::Result<Option<Self>> {
        let each = SERVERS + 2;
        if !inside(name).await? {
            return Ok(None);
        }
        let east = Cluster::start(&program(), each * 2).await.context("the cluster east")?;
        let west = east.start_beside(&program(), each).await.context("the cluster west")?;
        let (mut east, mut west) = (Site::new("east", east), Site::new("west", west));
        let mut servers = Servers { east: east.installed().await?, west: west.installed().await? };
        east.knows(&servers.west, &west);
        west.knows(&servers.east, &east);
        west.is_told_of(&east, &servers.east).await?;
        east.is_told_of(&west, &servers.west).await?;
        for (site, other, servers) in
            [(&east, &west, &mut servers.east), (&west, &east, &mut servers.west)]
        {
            site.configure(&site.neighbor(other)).await?;
            site.roll(servers).await?;
        }
        for site in [&mut east, &mut west] {
            site.applications().await?;
        }
        for site in [&east, &west] {
            site.publishes(2).await?;
        }
        Ok(Some(Self { east, west, servers }))
    }
}

impl Site {
    fn new(name: &'static str, cluster: Cluster) -> Self {
        Self { name, cluster, applications: Vec::new(), reader: None }
    }

    /// As a cluster that knows no other.
    async fn installed(&mut self) -> anyhow::Result<Vec<Pod>> {
        prepare(&self.cluster).await?;
        self.cluster.kubectl(&["apply", "-f", &of_deploy("crds")], "").await?;
        self.configure(&[]).await?;
        started(&mut self.cluster, SERVERS).await
    }

    fn host(&self) -> String {
        format!("banyan.{}.example.org", self.name)
    }

    fn knows(&mut self, servers: &[Pod], other: &Self) {
        let addresses = servers.iter().map(Pod::address).collect();
        self.cluster.name(&other.host(), addresses);
    }

    /// The values by which this one is a neighbor of another.
    pub(crate) fn neighbor(&self, other: &Self) -> [String; 2] {
        let (host, name) = (other.host(), other.name);
        [
            format!("neighbors.{name}.address={host}:15012"),
            format!("neighbors.{name}.secret=banyan-neighbor-{name}"),
        ]
    }

    /// Gives the cluster what helm makes of the chart with these values besides the usual ones.
    pub(crate) async fn configure(&self, set: &[String]) -> anyhow::Result<()> {
        let usual = [
            format!("replicas={SERVERS}"),
            format!("dnsNames={{{}}}", self.host()),
            "controllers.publish.mesh.staleness=5s".to_owned(),
        ];
        let set = usual.into_iter().chain(set.iter().cloned()).collect();
        let chart = Chart { files: vec!["ci/short-lives.yaml".to_owned()], set };
        let rendered = chart.render(NAMESPACE).await?;
        let arguments = ["apply", "--validate=strict", "-f", "-"];
        self.cluster.kubectl(&arguments, &rendered).await.map(drop)
    }

    /// One server after the other is replaced, as the controller of their set does it.
    pub(crate) async fn roll(&self, servers: &mut Vec<Pod>) -> anyhow::Result<()> {
        for _ in 0..servers.len() {
            let mut next = self.cluster.replace_member(servers.remove(0)).await?;
            next.ready(15014, "/readyz").await?;
            servers.push(next);
        }
        Ok(())
    }

    /// A token of another one and its roots, as the page has them carried over.
    async fn is_told_of(&self, other: &Self, servers: &[Pod]) -> anyhow::Result<()> {
        let server = servers.first().context("no server")?;
        let files = tempfile::tempdir()?;
        let (token, roots) = (files.path().join("token"), files.path().join("roots.pem"));
        let added = banyan(server, &["downstream", "add", self.name, "--neighbor"]).await?;
        std::fs::write(&token, added)?;
        std::fs::write(&roots, banyan(server, &["root", "list", "--pem"]).await?)?;
        let secret = format!("banyan-neighbor-{}", other.name);
        let token = format!("--from-file=token={}", token.display());
        let roots = format!("--from-file=ca.crt={}", roots.display());
        let arguments = ["create", "secret", "generic", &secret, "-n", NAMESPACE, &token, &roots];
        self.cluster.kubectl(&arguments, "").await.map(drop)
    }

    async fn applications(&mut self) -> anyhow::Result<()> {
        self.applications = applications(&mut self.cluster, SERVERS, &[AGENT]).await?;
        let (namespace, account) = READER;
        self.cluster.add_namespace(namespace, json!({})).await?;
        self.cluster.add_account(namespace, account).await?;
        bundle(&self.cluster, namespace).await?;
        let pod = self.cluster.start_pod(namespace, reader(account)).await?;
        let files = self.files_of(&pod)?;
        self.reader = Some(Reader::of_pod(&format!("{account} of {}", self.name), files));
        self.applications.push(pod);
        Ok(())
    }

    fn files_of(&self, pod: &Pod) -> anyhow::Result<ZtunnelFiles> {
        let addresses: Vec<IpAddr> = (0..SERVERS).map(|end| self.cluster.address(end)).collect();
        Ok(ZtunnelFiles {
            ca: addresses.into_iter().map(|address| SocketAddr::new(address, 15012)).collect(),
            ca_name: format!("banyan.{NAMESPACE}.svc"),
            roots: pod.path("trust", "ca.crt")?,
            token: pod.path("token", "token")?,
        })
    }

    /// What the Pod without agent asks this CA with.
    pub(crate) fn files(&self) -> anyhow::Result<ZtunnelFiles> {
        self.files_of(self.applications.last().context("no Pod")?)
    }

    fn members(&self) -> anyhow::Result<Vec<Member>> {
        let agent = self.applications.first().context("no Pod")?;
        let socket = agent.path("agent-socket", "agent.sock")?;
        let proxy = Proxy::follow(&format!("{} of {}", agent.name(), self.name), socket);
        let reader = self.reader.as_ref().context("no Pod")?.guest();
        Ok(vec![Member::Proxy(Arc::new(proxy)), Member::Guest(reader)])
    }

    /// The roots that are published in each namespace of an application, which are the same.
    pub(crate) async fn published(&self) -> anyhow::Result<Vec<Vec<RootId>>> {
        let mut all = Vec::new();
        for (namespace, _) in [AGENT, READER] {
            let path = format!("/api/v1/namespaces/{namespace}/configmaps/banyan-trust-bundle");
            let object = self.cluster.get(&path).await?;
            let pem = object["data"]["ca.crt"].as_str().context("no bundle")?;
            let blocks = pem::parse_many(pem)?;
            let mut roots: Vec<_> =
                blocks.iter().map(|block| RootId::of(block.contents())).collect();
            roots.sort();
            all.push(roots);
        }
        Ok(all)
    }

    /// Waits until each namespace has so many roots; answers with them.
    pub(crate) async fn publishes(&self, number: usize) -> anyhow::Result<Vec<RootId>> {
        let what = format!("{number} roots are published at {}", self.name);
        let published = eventually(&what, || async {
            let all = self.published().await;
            all.is_ok_and(|all| all.iter().all(|roots| roots.len() == number))
        });
        let published = published.await;
        let mut all = self.published().await?;
        published.with_context(|| format!("{all:?}"))?;
        let roots = all.pop().context("no namespace")?;
        ensure!(all.iter().all(|other| *other == roots), "{all:?} {roots:?}");
        Ok(roots)
    }

    /// Keeps the files of Pods as a kubelet does; ends with what is in its way.
    async fn keep_files(&self) -> anyhow::Result<std::convert::Infallible> {
        loop {
            for pod in &self.applications {
                pod.sync(&self.cluster.api).await?;
            }
            tokio::time::sleep(SYNC_EVERY).await;
        }
    }
}

/// Goes on with something while the files of Pods of both are kept up.
pub(crate) async fn while_kept_up(
    east: &Site,
    west: &Site,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    tokio::select! {
        done = work => done,
        failed = east.keep_files() => match failed.context("the fake kubelet of east")? {},
        failed = west.keep_files() => match failed.context("the fake kubelet of west")? {},
    }
}

/// What a verb of the program prints at a server.
pub(crate) async fn banyan(server: &Pod, arguments: &[&str]) -> anyhow::Result<String> {
    let output = verb(server, arguments).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {}: {said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// What a server says is wrong; then the verb fails, and prints it all the same.
pub(crate) async fn conditions(server: &Pod) -> anyhow::Result<Vec<String>> {
    let output = verb(server, &["status", "--json"]).await?;
    let status: Value = serde_json::from_slice(&output.stdout)?;
    Ok(serde_json::from_value(status["conditions"].clone())?)
}

async fn verb(server: &Pod, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut verb = Command::new(program());
    verb.args(arguments).arg("--socket").arg(server.path("run", "admin.sock")?);
    Ok(verb.kill_on_drop(true).output().await?)
}

fn reader(name: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "serviceAccountName": name,
            "automountServiceAccountToken": false,
            // Nothing of it runs here: the test does what it would do, with what its volumes have.
            "containers": [{ "name": "app", "image": "app", "args": ["agent", "--help"] }],
            "volumes": [
                { "name": "trust", "configMap": { "name": "banyan-trust-bundle" } },
                { "name": "token", "projected": { "sources": [{ "serviceAccountToken":
                    { "path": "token", "expirationSeconds": 3600, "audience": "istio-ca" } }] } },
            ],
        },
    })
}

/// Handshakes between the members of one and those of the other, and no others.
pub(crate) struct EastWest(Vec<Traffic>);

impl EastWest {
    pub(crate) fn between(east: &Site, west: &Site) -> anyhow::Result<Self> {
        let mut all = Vec::new();
        let far = west.members()?;
        for near in east.members()? {
            all.extend(far.iter().map(|far| Traffic::in_lanes(&[near.clone(), far.clone()], 1)));
        }
        Ok(Self(all))
    }

    /// Waits until each pair has met so often from now on.
    pub(crate) async fn meet(&self, times: u64) -> anyhow::Result<()> {
        for traffic in &self.0 {
            let wanted = traffic.handshakes() + times;
            eventually("all have met", || async { traffic.handshakes() >= wanted }).await?;
        }
        Ok(())
    }

    pub(crate) async fn stop(self) -> anyhow::Result<Talk> {
        let mut all = Talk::default();
        for traffic in self.0 {
            let talk = traffic.stop().await?;
            all.handshakes += talk.handshakes;
            all.failed.extend(talk.failed);
        }
        Ok(all)
    }
}
