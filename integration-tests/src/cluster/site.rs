//! The cluster itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};
use stores_peers::{ApiServer, ControllerManager, Token};

use super::image::{Image, Images};
use super::pod::{Node, Pod};
use super::tools::{self, Chart};
use crate::replicas::Net;

/// Audiences of tokens of Pods, beside the API server itself.
const AUDIENCES: &[&str] = &["istio-ca", "banyan"];

/// The cluster, in the network that this process is in.
#[derive(Debug)]
pub struct Cluster {
    /// Its API.
    pub api: ApiServer,
    net: Net,
    home: tempfile::TempDir,
    images: Images,
    kubeconfig: PathBuf,
    /// The first end of the network that is its own, and how many Pods have one.
    first: u8,
    taken: u8,
    /// What names of the cluster lead to.
    names: BTreeMap<String, Vec<IpAddr>>,
}

impl Cluster {
    /// Lays a network with room for so many Pods, and starts the API server in the middle of it. Every container runs `program`,
    /// unless [`add_image`](Self::add_image) says something else of its image.
    ///
    /// # Errors
    /// If they cannot be started.
    pub async fn start(program: &Path, pods: u8) -> anyhow::Result<Self> {
        Self::start_in(Net::lay(pods)?, program, 0).await
    }

    /// Another cluster in the same network, with an API server of its own; its Pods have the ends behind the first so many.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn start_beside(&self, program: &Path, after: u8) -> anyhow::Result<Self> {
        Self::start_in(self.net, program, after).await
    }

    async fn start_in(net: Net, program: &Path, first: u8) -> anyhow::Result<Self> {
        let api = ApiServer::start_at(net.test(), AUDIENCES).await?;
        let kubeconfig = api.kubeconfig(api.address(), Token::Admin)?;
        let home = tempfile::tempdir()?;
        let images = Images::of(program);
        Ok(Self { api, net, home, images, kubeconfig, first, taken: 0, names: BTreeMap::new() })
    }

    /// What runs in containers of an image, in Pods that start from now on.
    pub fn add_image(&mut self, name: &str, image: Image) {
        self.images.add(name, image);
    }

    /// Makes a namespace with what a controller-manager puts into each: the CA of the API server.
    ///
    /// # Errors
    /// If the API server refuses.
    pub async fn add_namespace(&self, name: &str, labels: Value) -> anyhow::Result<()> {
        let body = json!({ "metadata": { "name": name, "labels": labels } });
        self.api.ask("POST", "/api/v1/namespaces", Some(body)).await?;
        self.add_own_ca(name).await
    }

    /// What a controller-manager puts into a namespace that somebody made.
    ///
    /// # Errors
    /// If the API server refuses.
    pub async fn add_own_ca(&self, name: &str) -> anyhow::Result<()> {
        let ca = std::fs::read_to_string(self.api.pki().path("ca.pem"))?;
        let body = json!({ "metadata": { "name": "kube-root-ca.crt" }, "data": { "ca.crt": ca } });
        let path = format!("/api/v1/namespaces/{name}/configmaps");
        self.api.ask("POST", &path, Some(body)).await.map(drop)
    }

    /// Starts the controllers of a cluster, which put that CA into each namespace themselves.
    ///
    /// # Errors
    /// If they cannot be started.
    pub fn start_controllers(&self) -> anyhow::Result<ControllerManager> {
        ControllerManager::start(&self.api)
    }

    /// Makes the service account of a namespace.
    ///
    /// # Errors
    /// If the API server refuses.
    pub async fn add_account(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        let body = json!({ "metadata": { "name": name } });
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        self.api.ask("POST", &path, Some(body)).await.map(drop)
    }

    /// `kubectl` as one who may do everything; answers what it printed.
    ///
    /// # Errors
    /// If it fails, with what it said.
    pub async fn kubectl(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        tools::kubectl(&self.kubeconfig, arguments, input).await
    }

    /// `kubectl` as above, with arguments to follow.
    ///
    /// # Errors
    /// Says what installs it.
    pub fn kubectl_command(&self) -> anyhow::Result<tokio::process::Command> {
        tools::kubectl_command(&self.kubeconfig)
    }

    /// For programs that read `KUBECONFIG`, as one who may do everything.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Installs a chart with helm, or upgrades what is there, and does not wait for its Pods.
    ///
    /// # Errors
    /// If helm or the cluster refuses it.
    pub async fn install(&self, chart: &Chart, namespace: &str) -> anyhow::Result<()> {
        chart.install(&self.kubeconfig, namespace).await
    }

    /// One object.
    ///
    /// # Errors
    /// If it is not there.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.api.ask("GET", path, None).await
    }

    /// Where the Pod is that will be started after so many others.
    #[must_use]
    pub fn address(&self, after: u8) -> IpAddr {
        self.net.server(self.first.saturating_add(after))
    }

    /// A name that Pods which start from now on resolve to these addresses.
    pub fn name(&mut self, name: &str, addresses: Vec<IpAddr>) {
        self.names.insert(name.to_owned(), addresses);
    }

    /// The Pod with this number of a StatefulSet that the API server has, as its controller would make it, and starts it.
    ///
    /// # Errors
    /// If the API server refuses it, or a container does not run.
    pub async fn start_member(
        &mut self,
        namespace: &str,
        set: &str,
        number: u8,
    ) -> anyhow::Result<Pod> {
        let pod = self.member(namespace, set, number).await?;
        self.start_pod(namespace, pod).await
    }

    /// Ends a Pod of a StatefulSet in order, and starts what its controller would put in its place by what the set says now, on
    /// the same node and with the same volumes.
    ///
    /// # Errors
    /// If it does not end, or as of [`start_member`](Self::start_member).
    pub async fn replace_member(&self, mut pod: Pod) -> anyhow::Result<Pod> {
        let (name, namespace) = (pod.name().to_owned(), pod.namespace().to_owned());
        let (set, number) = name.rsplit_once('-').context("it is of no set")?;
        let end = (0..self.taken).find(|end| self.address(*end) == pod.address());
        let end = end.with_context(|| format!("{name} is of another cluster"))?;
        pod.stop().await?;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        self.api.ask("DELETE", &path, None).await?;
        let next = self.member(&namespace, set, number.parse()?).await?;
        self.start_at(end, &namespace, next).await
    }

    async fn member(&self, namespace: &str, set: &str, number: u8) -> anyhow::Result<Value> {
        let path = format!("/apis/apps/v1/namespaces/{namespace}/statefulsets/{set}");
        let set_object = self.get(&path).await?;
        let name = format!("{set}-{number}");
        let mut pod = set_object.pointer("/spec/template").context("no template")?.clone();
        pod["metadata"]["name"] = json!(name);
        pod["spec"]["hostname"] = json!(name);
        pod["spec"]["subdomain"] = set_object["spec"]["serviceName"].clone();
        let claims = set_object.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array);
        for claim in claims.into_iter().flatten() {
            let volume = claim.pointer("/metadata/name").and_then(Value::as_str);
            let volume = volume.context("a claim has a name")?;
            let claim = json!({ "claimName": format!("{volume}-{name}") });
            let volume = json!({ "name": volume, "persistentVolumeClaim": claim });
            pod["spec"]["volumes"].as_array_mut().context("no volumes")?.push(volume);
        }
        Ok(pod)
    }

    /// Makes a Pod, bound to a node of its own, and starts it.
    ///
    /// # Errors
    /// If the API server refuses it, or a container does not run.
    pub async fn start_pod(&mut self, namespace: &str, pod: Value) -> anyhow::Result<Pod> {
        let end = self.next_end()?;
        self.start_at(end, namespace, pod).await
    }

    /// Makes a Pod, bound to a node that it may share with others, and starts it there in cgroups of its own.
    ///
    /// # Errors
    /// If the API server refuses it, or a container does not run.
    pub async fn start_pod_on(
        &mut self,
        node: &str,
        namespace: &str,
        pod: Value,
    ) -> anyhow::Result<Pod> {
        let end = self.next_end()?;
        let place = Node { has_cgroups: true, ..self.node(end) };
        self.start_placed(place, node, namespace, pod).await
    }

    fn next_end(&mut self) -> anyhow::Result<u8> {
        let end = self.taken;
        self.taken = self.taken.checked_add(1).context("no end of the network is left")?;
        Ok(end)
    }

    async fn start_at(&self, end: u8, namespace: &str, pod: Value) -> anyhow::Result<Pod> {
        self.start_placed(self.node(end), &format!("node-{end}"), namespace, pod).await
    }

    async fn start_placed(
        &self,
        place: Node<'_>,
        node: &str,
        namespace: &str,
        mut pod: Value,
    ) -> anyhow::Result<Pod> {
        let body = json!({ "metadata": { "name": node } });
        // One that is there is as good.
        let _ = self.api.ask("POST", "/api/v1/nodes", Some(body)).await;
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["spec"]["nodeName"] = json!(node);
        pod["spec"]["terminationGracePeriodSeconds"] = json!(0);
        let path = format!("/api/v1/namespaces/{namespace}/pods?fieldValidation=Strict");
        let pod = self.api.ask("POST", &path, Some(pod)).await?;
        Pod::start(place, pod).await
    }

    /// What the end of the network with this number has for a Pod.
    pub(super) fn node(&self, end: u8) -> Node<'_> {
        Node {
            api: &self.api,
            home: self.home.path(),
            address: self.address(end),
            before: self.net.before_server(self.first.saturating_add(end)),
            images: &self.images,
            hosts: self.hosts(),
            has_cgroups: false,
        }
    }

    fn hosts(&self) -> String {
        let names = self.names.iter();
        let lines = names.flat_map(|(name, addresses)| {
            addresses.iter().map(move |address| format!("{address} {name}\n"))
        });
        lines.collect()
    }
}
