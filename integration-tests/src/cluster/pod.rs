//! A Pod, run by a fake of a kubelet.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use serde_json::Value;
use stores_peers::ApiServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::cgroup::Cgroup;
use super::container::{Container, Made, OWN_ADDRESS};
use super::image::Images;
use super::volumes::{Volumes, text};
use crate::support::eventually;

/// What a node has for a Pod.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) api: &'a ApiServer,
    /// Folder of all Pods and volumes.
    pub(super) home: &'a Path,
    pub(super) address: IpAddr,
    /// What stands before a program that runs in the Pod's network.
    pub(super) before: Vec<String>,
    /// What stands for images.
    pub(super) images: &'a Images,
    /// Names and addresses that Pods know.
    pub(super) hosts: String,
    /// Whether Pods have cgroups of their own.
    pub(super) has_cgroups: bool,
}

/// A Pod that runs. Dropping it kills its containers; its object stays.
#[derive(Debug)]
pub struct Pod {
    /// Its containers, in their order.
    pub containers: Vec<Container>,
    object: Value,
    namespace: String,
    name: String,
    address: IpAddr,
    home: PathBuf,
    claims: PathBuf,
    /// Folders of nodes.
    hosts: PathBuf,
    before: Vec<String>,
    images: Images,
    environment: Vec<(String, String)>,
    /// The last: when it goes, nothing of the Pod runs any more.
    cgroup: Option<Cgroup>,
}

impl Pod {
    pub(super) async fn start(node: Node<'_>, object: Value) -> anyhow::Result<Self> {
        let namespace = text(&object, "/metadata/namespace")?.to_owned();
        let name = text(&object, "/metadata/name")?.to_owned();
        // One that comes again under its name has other folders, as another Pod. A path of a socket has to be short.
        let uid: String = text(&object, "/metadata/uid")?.chars().take(8).collect();
        let home = node.home.join(format!("{namespace}-{name}-{uid}"));
        fs::create_dir_all(&home)?;
        fs::write(home.join("hosts"), node.hosts)?;
        let api = node.api.address();
        let environment = vec![
            ("KUBERNETES_SERVICE_HOST".to_owned(), api.ip().to_string()),
            ("KUBERNETES_SERVICE_PORT".to_owned(), api.port().to_string()),
            ("HOSTNAME".to_owned(), name.clone()),
            (OWN_ADDRESS.to_owned(), node.address.to_string()),
        ];
        let cgroup = node.has_cgroups.then(|| Cgroup::of(&object)).transpose()?;
        let mut pod = Self {
            containers: Vec::new(),
            object,
            namespace,
            name,
            address: node.address,
            home,
            claims: node.home.join("claims"),
            hosts: node.home.join("hosts"),
            before: node.before,
            images: node.images.clone(),
            environment,
            cgroup,
        };
        pod.sync(node.api).await?;
        pod.run()?;
        Ok(pod)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// A file of a volume, as its containers see it too.
    ///
    /// # Errors
    /// If it has no such volume.
    pub fn path(&self, volume: &str, file: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folders()?.remove(volume);
        Ok(folder.with_context(|| format!("{} has no volume {volume}", self.name))?.join(file))
    }

    /// Makes the files of its volumes what the API server has now, as a kubelet does within a minute or two.
    ///
    /// # Errors
    /// If the API server refuses.
    pub async fn sync(&self, api: &ApiServer) -> anyhow::Result<()> {
        let (pod, namespace, folders) = (&self.object, self.namespace.as_str(), self.folders()?);
        let volumes = Volumes { api, pod, namespace, folders };
        volumes.make().await.with_context(|| format!("Pod {}", self.name))
    }

    /// Starts its containers; those that run, anew.
    ///
    /// # Errors
    /// If one cannot be started.
    pub fn run(&mut self) -> anyhow::Result<()> {
        self.containers.clear();
        let volumes = self.folders()?;
        let specs = ["/spec/initContainers", "/spec/containers"];
        let specs = specs.iter().filter_map(|path| self.object.pointer(path)?.as_array()).flatten();
        let made = specs.map(|spec| Container::start(&self.made(spec, &volumes)));
        self.containers = made.collect::<anyhow::Result<_>>()?;
        Ok(())
    }

    /// Waits until the startup probe of its first container succeeds: then a kubelet would start the next one.
    ///
    /// # Errors
    /// If it does not in time, with what it said last.
    pub async fn started(&self) -> anyhow::Result<()> {
        let volumes = self.folders()?;
        let spec = self.object.pointer("/spec/initContainers/0").context("no first container")?;
        let made = self.made(spec, &volumes);
        let said = Mutex::new(String::new());
        let what = format!("{} has started", self.name);
        let probing = eventually(&what, || async {
            match made.probe().await {
                Ok((true, _)) => true,
                Ok((false, why)) => {
                    *said.lock().unwrap_or_else(PoisonError::into_inner) = why;
                    false
                }
                Err(_) => false,
            }
        });
        let done = probing.await;
        let said = said.into_inner().unwrap_or_else(PoisonError::into_inner);
        let logs = self.containers.iter().map(Container::log).collect::<String>();
        done.with_context(|| format!("{said}\n{logs}"))
    }

    fn made<'a>(&'a self, spec: &'a Value, volumes: &'a BTreeMap<String, PathBuf>) -> Made<'a> {
        Made {
            pod: &self.object,
            spec,
            images: &self.images,
            home: &self.home,
            volumes,
            before: &self.before,
            cgroup: self.cgroup.as_ref(),
            environment: &self.environment,
        }
    }

    /// Runs a command beside one of its containers, as `kubectl exec` does; answers whether that succeeded, and what it printed.
    ///
    /// # Errors
    /// If it has no such container, or the command cannot be run.
    pub async fn exec(&self, container: &str, line: &[&str]) -> anyhow::Result<(bool, String)> {
        let volumes = self.folders()?;
        let specs = self.object.pointer("/spec/containers").and_then(Value::as_array);
        let spec = specs.into_iter().flatten().find(|spec| spec["name"] == container);
        let spec = spec.with_context(|| format!("{} has no container {container}", self.name))?;
        self.made(spec, &volumes).exec(&Value::from(line)).await
    }

    /// The folder of its cgroup, if it is on a node that it shares.
    #[must_use]
    pub fn cgroup(&self) -> Option<&Path> {
        self.cgroup.as_ref().map(Cgroup::path)
    }

    /// A container by its name.
    ///
    /// # Errors
    /// If it has no such container.
    pub fn container(&mut self, name: &str) -> anyhow::Result<&mut Container> {
        let found = self.containers.iter_mut().find(|container| container.name() == name);
        found.with_context(|| format!("{} has no container {name}", self.name))
    }

    /// Waits until a path of one of its ports answers 200.
    ///
    /// # Errors
    /// If a container ends, or it does not become so in time.
    pub async fn ready(&mut self, port: u16, path: &str) -> anyhow::Result<()> {
        let address = self.address;
        let answered = eventually(&format!("{} answers {path}", self.name), async || {
            http_status(address, port, path).await == Some(200)
        })
        .await;
        for container in &mut self.containers {
            container.must_run()?;
        }
        let logs = || self.containers.iter().map(Container::log).collect::<String>();
        answered.with_context(logs)
    }

    /// Whether a kubelet would call it ready now: every readiness probe of HTTP is answered, and the startup probe of its first
    /// container has succeeded once.
    ///
    /// # Errors
    /// If its specification is not one of those that are known here.
    pub async fn is_ready(&self) -> anyhow::Result<bool> {
        let containers = self.object.pointer("/spec/containers").and_then(Value::as_array);
        for container in containers.into_iter().flatten() {
            let Some(probe) = container.pointer("/readinessProbe/httpGet") else { continue };
            let port = port_of(container, &probe["port"])?;
            if http_status(self.address, port, text(probe, "/path")?).await != Some(200) {
                return Ok(false);
            }
        }
        match self.object.pointer("/spec/initContainers/0") {
            Some(first) if first.pointer("/startupProbe/exec").is_some() => {
                let volumes = self.folders()?;
                Ok(self.made(first, &volumes).probe().await?.0)
            }
            _ => Ok(true),
        }
    }

    /// Asks all of its containers to end, and waits until they have.
    ///
    /// # Errors
    /// If one cannot be asked, or does not end in time.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        for container in &mut self.containers {
            container.stop_if_it_runs().await?;
        }
        Ok(())
    }

    /// What it is at the API server.
    #[must_use]
    pub const fn object(&self) -> &Value {
        &self.object
    }

    fn folders(&self) -> anyhow::Result<BTreeMap<String, PathBuf>> {
        let volumes = self.object.pointer("/spec/volumes").and_then(Value::as_array);
        volumes
            .into_iter()
            .flatten()
            .map(|volume| {
                let name = text(volume, "/name")?;
                let claim = volume.pointer("/persistentVolumeClaim/claimName");
                let of_host = volume.pointer("/hostPath/path").and_then(Value::as_str);
                let folder = match (claim.and_then(Value::as_str), of_host) {
                    (Some(claim), _) => self.claims.join(claim),
                    (None, Some(path)) => {
                        let node = self.hosts.join(text(&self.object, "/spec/nodeName")?);
                        node.join(path.trim_start_matches('/'))
                    }
                    (None, None) => self.home.join("volumes").join(name),
                };
                Ok((name.to_owned(), folder))
            })
            .collect()
    }
}

/// The number of a port, which may be given by its name.
fn port_of(container: &Value, port: &Value) -> anyhow::Result<u16> {
    let ports = container["ports"].as_array();
    let named = ports.into_iter().flatten().find(|one| one["name"] == *port);
    let number = named.map_or(port, |one| &one["containerPort"]).as_u64();
    Ok(number.with_context(|| format!("no port {port}"))?.try_into()?)
}

async fn http_status(address: IpAddr, port: u16, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect((address, port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let answer = String::from_utf8_lossy(&answer);
    answer.split(' ').nth(1)?.parse().ok()
}
