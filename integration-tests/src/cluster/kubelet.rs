//! A fake of a scheduler and of the kubelets of all nodes: it runs whatever Pods controllers make, and says how they are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::pod::Pod;
use super::site::Cluster;
use super::volumes::text;

/// How often it looks at all Pods, and how often it makes the files of their volumes anew.
const EVERY: Duration = Duration::from_millis(200);
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Runs the Pods of some namespaces.
#[derive(Debug)]
pub struct Kubelet<'c> {
    cluster: &'c Cluster,
    namespaces: Vec<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Pods that run, by namespace and name.
    pods: BTreeMap<String, Running>,
    /// Ends of the network, by the same: one that comes again is where it was.
    ends: BTreeMap<String, u8>,
    /// How many Pods were ended because they were deleted.
    ended: u64,
    /// Why a Pod does not start.
    trouble: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Running {
    pod: Pod,
    uid: String,
    ready: Option<bool>,
    synced: Instant,
}

impl<'c> Kubelet<'c> {
    /// Of these namespaces; Pods of these names are at the first ends of the network, in this order.
    #[must_use]
    pub fn new(cluster: &'c Cluster, namespaces: &[&str], first: &[String]) -> Self {
        let ends = first.iter().cloned().zip(0..).collect();
        let namespaces = namespaces.iter().map(ToString::to_string).collect();
        let state = Mutex::new(State { ends, ..State::default() });
        Self { cluster, namespaces, state }
    }

    /// Works for ever.
    ///
    /// # Errors
    /// If the API server refuses something, or a Pod does not end.
    pub async fn run(&self) -> anyhow::Result<std::convert::Infallible> {
        loop {
            for namespace in &self.namespaces {
                let list =
                    self.cluster.get(&format!("/api/v1/namespaces/{namespace}/pods")).await?;
                for object in list["items"].as_array().into_iter().flatten() {
                    self.tend(object).await?;
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// A file of a volume of a Pod that runs.
    ///
    /// # Errors
    /// If it does not run, or has no such volume.
    pub async fn path(&self, pod: &str, volume: &str, file: &str) -> anyhow::Result<PathBuf> {
        let state = self.state.lock().await;
        let running = state.pods.get(pod).with_context(|| format!("{pod} does not run"))?;
        running.pod.path(volume, file)
    }

    /// How many Pods were ended because they were deleted.
    pub async fn ended(&self) -> u64 {
        self.state.lock().await.ended
    }

    /// What containers printed, and why Pods do not start.
    pub async fn log(&self) -> String {
        let state = self.state.lock().await;
        let logs = state.pods.iter().flat_map(|(name, running)| {
            let containers = running.pod.containers.iter();
            containers.map(move |one| format!("--- {name} {}\n{}\n", one.name(), one.log()))
        });
        logs.chain(state.trouble.iter().map(|(name, why)| format!("--- {name}: {why}\n"))).collect()
    }

    /// Does what is to be done for one Pod.
    async fn tend(&self, object: &Value) -> anyhow::Result<()> {
        let (namespace, name) =
            (text(object, "/metadata/namespace")?, text(object, "/metadata/name")?);
        let (key, uid) = (format!("{namespace}/{name}"), text(object, "/metadata/uid")?);
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let mut state = self.state.lock().await;
        if object.pointer("/metadata/deletionTimestamp").is_some() {
            return state.end(self.cluster, &key, &path, uid).await;
        }
        let free = state.ends.values().max().map_or(0, |last| last.saturating_add(1));
        let end = *state.ends.entry(key.clone()).or_insert(free);
        if object.pointer("/spec/nodeName").is_none() {
            return self.bind(&path, name, end).await;
        }
        if state.pods.get(&key).is_none_or(|running| running.uid != uid) {
            // What it mounts may not be there yet.
            match Pod::start(self.cluster.node(end), object.clone()).await {
                Ok(pod) => {
                    state.trouble.remove(&key);
                    let running =
                        Running { pod, uid: uid.to_owned(), ready: None, synced: Instant::now() };
                    state.pods.insert(key, running);
                }
                Err(error) => drop(state.trouble.insert(key, format!("{error:#}"))),
            }
            return Ok(());
        }
        let Some(running) = state.pods.get_mut(&key) else { return Ok(()) };
        if running.synced.elapsed() > SYNC_EVERY {
            running.pod.sync(&self.cluster.api).await?;
            running.synced = Instant::now();
        }
        let ready = running.pod.is_ready().await?;
        if running.ready != Some(ready) {
            self.say(&path, running, ready).await?;
            running.ready = Some(ready);
        }
        Ok(())
    }

    async fn bind(&self, path: &str, name: &str, end: u8) -> anyhow::Result<()> {
        let node = format!("node-{end}");
        let body = json!({ "metadata": { "name": node } });
        // One that is there is as good.
        let _ = self.cluster.api.ask("POST", "/api/v1/nodes", Some(body)).await;
        let binding =
            json!({ "metadata": { "name": name }, "target": { "kind": "Node", "name": node } });
        self.cluster.api.ask("POST", &format!("{path}/binding"), Some(binding)).await.map(drop)
    }

    async fn say(&self, path: &str, running: &Running, ready: bool) -> anyhow::Result<()> {
        let address = running.pod.address().to_string();
        let condition = |kind: &str, is: bool| json!({ "type": kind, "status": if is { "True" } else { "False" } });
        let status = json!({
            "phase": "Running",
            "podIP": address,
            "podIPs": [{ "ip": address }],
            "conditions": [
                condition("PodScheduled", true), condition("Initialized", true),
                condition("ContainersReady", ready), condition("Ready", ready),
            ],
        });
        let body = Some(json!({ "status": status }));
        self.cluster.api.ask("PATCH", &format!("{path}/status"), body).await.map(drop)
    }
}

impl State {
    /// Ends a Pod in order, and then lets its object go.
    async fn end(
        &mut self,
        cluster: &Cluster,
        key: &str,
        path: &str,
        uid: &str,
    ) -> anyhow::Result<()> {
        if self.pods.get(key).is_some_and(|running| running.uid == uid)
            && let Some(mut running) = self.pods.remove(key)
        {
            running.pod.stop().await?;
            self.ended += 1;
        }
        let now = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": uid } });
        // One that is gone is as good.
        let _ = cluster.api.ask("DELETE", path, Some(now)).await;
        Ok(())
    }
}
