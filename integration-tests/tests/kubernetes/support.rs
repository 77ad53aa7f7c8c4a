//! A cluster, a CA, and what runs between them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use integration_tests::mesh::MeshCa;
use integration_tests::support::{SOON, TestClock, eventually};
use kubernetes::{Config, HostDeps, Running};
use proto::banyan::admin::v1::{ListRelyingPartiesRequest, RelyingParty, Rotation};
use serde_json::{Value, json};
use stores_peers::{ApiServer, Token};

/// Rights of the page that operators read.
pub(crate) const PAGE: &str = include_str!("../../../docs/kubernetes.md");
/// A channel in every namespace whose readers are late by a second.
pub(crate) const MESH: &str = "[publish.mesh]\nkind = \"config-map\"\nstaleness = \"1s\"\n";

/// A cluster beside a CA.
pub(crate) struct World {
    pub(crate) api: ApiServer,
    pub(crate) ca: MeshCa,
    pub(crate) clock: Arc<TestClock>,
    folder: tempfile::TempDir,
}

impl World {
    /// Starts both. The account has these rights of the page.
    pub(crate) async fn start(rights: &[&str]) -> anyhow::Result<Self> {
        Self::start_with_options(&[], rights).await
    }

    /// The same, with options of the API server.
    pub(crate) async fn start_with_options(
        options: &[&str],
        rights: &[&str],
    ) -> anyhow::Result<Self> {
        cli::install_crypto_provider();
        let extra =
            "[leaf]\nskew = \"2s\"\n[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"30s\"\n";
        let (api, ca) =
            tokio::join!(ApiServer::start_with_options(options), MeshCa::start("", extra));
        let (api, ca) = (api?, ca?);
        let world = Self { api, ca, clock: Arc::default(), folder: tempfile::tempdir()? };
        world.api.add_namespace("banyan").await?;
        for name in rights {
            world.allow(name).await?;
        }
        Ok(world)
    }

    /// Gives the account what the page lists under this name.
    pub(crate) async fn allow(&self, name: &str) -> anyhow::Result<()> {
        let role =
            role(name).with_context(|| format!("docs/kubernetes.md lists no role {name}"))?;
        let of_cluster = role.contains("kind: ClusterRole\n");
        let namespace = if of_cluster { "" } else { namespace_of(role)? };
        if !namespace.is_empty() && namespace != "banyan" {
            self.api.add_namespace(namespace).await?;
        }
        self.api.apply(namespace, role).await?;
        let (kind, base) = match of_cluster {
            true => {
                ("ClusterRole", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings".to_owned())
            }
            false => (
                "Role",
                format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings"),
            ),
        };
        let group = "rbac.authorization.k8s.io";
        let binding = json!({
            "metadata": { "name": name },
            "roleRef": { "apiGroup": group, "kind": kind, "name": name },
            "subjects": [{ "apiGroup": group, "kind": "User", "name": "ca" }],
        });
        self.api.ask("POST", &base, Some(binding)).await?;
        // Until the first rule is in force, its account is told that it may not.
        self.until_allowed(namespace, role).await
    }

    async fn until_allowed(&self, namespace: &str, role: &str) -> anyhow::Result<()> {
        let within = |from: &str, what: &str| {
            let start = from.find(what).map(|at| at + what.len())?;
            let list = from.get(start..)?.trim_start().strip_prefix('[')?;
            list.split([',', ']']).next().map(|one| one.trim().trim_matches('"').to_owned())
        };
        let rules = role.split("rules:").nth(1).context("no rules")?;
        let (group, resource, verb) = (
            within(rules, "apiGroups:").context("no group")?,
            within(rules, "resources:").context("no resource")?,
            within(rules, "verbs:").context("no verb")?,
        );
        let first = rules.split("- apiGroups").nth(1).unwrap_or_default();
        let name = within(first, "resourceNames:").unwrap_or_default();
        let (resource, subresource) =
            resource.split_once('/').map_or((resource.as_str(), ""), |both| both);
        let asked = json!({ "spec": { "resourceAttributes": {
            "namespace": namespace, "group": group, "resource": resource,
            "subresource": subresource, "verb": verb, "name": name,
        } } });
        eventually("the rights are in force", || async {
            let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
            let answer =
                self.api.ask_as(Token::Ca.as_str(), "POST", path, Some(asked.clone())).await;
            answer.is_ok_and(|answer| answer["status"]["allowed"] == true)
        })
        .await
    }

    /// Starts what runs beside the server, with these sections.
    pub(crate) async fn beside(&self, sections: &str) -> anyhow::Result<Running> {
        self.beside_at(&self.ca.running().admin_socket, self.api.address(), sections).await
    }

    /// The same for another socket, by another way to the cluster.
    pub(crate) async fn beside_at(
        &self,
        socket: &Path,
        cluster: std::net::SocketAddr,
        sections: &str,
    ) -> anyhow::Result<Running> {
        let config = self.config(socket, cluster, sections)?;
        let deps =
            HostDeps { clock: Arc::<TestClock>::clone(&self.clock), ..HostDeps::of_this_machine() };
        Ok(kubernetes::run::start(Config::read(&config)?, deps).await?)
    }

    /// Writes its configuration.
    pub(crate) fn config(
        &self,
        socket: &Path,
        cluster: std::net::SocketAddr,
        sections: &str,
    ) -> anyhow::Result<PathBuf> {
        let kubeconfig = self.api.kubeconfig(cluster, Token::Ca)?;
        let path = self.folder.path().join("kubernetes.toml");
        let text = format!(
            "admin_socket = {socket:?}\nlisten = \"127.0.0.1:0\"\n{sections}\n[cluster]\nkubeconfig = {kubeconfig:?}\n"
        );
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// The ConfigMap of a namespace.
    pub(crate) async fn config_map(&self, namespace: &str, name: &str) -> anyhow::Result<Value> {
        self.api.ask("GET", &map(namespace, name), None).await
    }

    /// What the channel has in a namespace.
    pub(crate) async fn published(&self, namespace: &str) -> Option<String> {
        let map = self.config_map(namespace, "banyan-trust-bundle").await.ok()?;
        map["data"]["ca.crt"].as_str().map(str::to_owned)
    }

    /// Waits until a namespace has the CA's bundle.
    pub(crate) async fn until_published(&self, namespace: &str) -> anyhow::Result<()> {
        eventually(&format!("{namespace} has the bundle"), || async {
            let bundle = self.ca.running().bundle();
            self.published(namespace).await.as_deref() == Some(&**bundle.pem())
        })
        .await
    }

    /// A channel as the CA knows it.
    pub(crate) async fn party(&self, channel: &str) -> Option<RelyingParty> {
        let mut rotations = self.ca.rotations();
        let listed = rotations.list_relying_parties(ListRelyingPartiesRequest::default());
        let all = listed.await.ok()?.into_inner().relying_parties;
        all.into_iter().find(|party| party.name == format!("kubernetes/{channel}"))
    }

    /// Waits until the CA was told that a channel has the present bundle.
    pub(crate) async fn until_confirmed(&self, channel: &str) -> anyhow::Result<()> {
        eventually(&format!("{channel} is confirmed"), || async {
            let sequence = self.ca.running().bundle().sequence().0;
            self.party(channel).await.is_some_and(|party| party.confirmed >= sequence)
        })
        .await
    }

    /// Waits until a rotation is over.
    pub(crate) async fn until_over(&self, request_id: &str) -> anyhow::Result<Rotation> {
        let over = |rotation: &Rotation| rotation.done.iter().any(|done| done == request_id);
        self.ca.until_rotation("it is over", SOON, over).await
    }
}

/// Waits until a part says something.
pub(crate) async fn until_says(
    running: &Running,
    part: &str,
    ready: bool,
    words: &str,
) -> anyhow::Result<()> {
    let said = || running.board().lines().get(part).cloned();
    let waited = eventually(&format!("{part} says {words}"), || async {
        said().is_some_and(|line| line.ready == ready && line.text.contains(words))
    })
    .await;
    waited.with_context(|| format!("{part} says {:?}", said()))
}

/// Fails if something becomes true within a time.
pub(crate) async fn never<F: Future<Output = bool>>(
    what: &str,
    within: Duration,
    mut holds: impl FnMut() -> F,
) -> anyhow::Result<()> {
    let poll = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(within, poll).await {
        Ok(()) => bail!("it happened: {what}"),
        Err(_) => Ok(()),
    }
}

/// A role as the page has it.
fn role(name: &str) -> Option<&'static str> {
    let line = format!("  name: {name}\n");
    let blocks = PAGE.split("```").filter_map(|block| block.strip_prefix("yaml\n"));
    let mut objects = blocks.flat_map(|block| block.split("---\n"));
    objects.find(|object| object.contains(&line) && object.contains("\nrules:\n"))
}

/// What a role of the page allows: group, resource and verb.
pub(crate) fn rules(name: &str) -> Vec<(String, String, String)> {
    let listed = |rule: &str, key: &str| {
        let line =
            rule.lines().find_map(|line| line.trim_start_matches("- ").trim().strip_prefix(key));
        let list = line.unwrap_or_default().trim().trim_matches(['[', ']']);
        list.split(',').map(|one| one.trim().trim_matches('"').to_owned()).collect::<Vec<_>>()
    };
    let role = role(name).unwrap_or_default();
    let mut all = Vec::new();
    for rule in role.split("\n- ").skip(1) {
        let (groups, verbs) = (listed(rule, "apiGroups:"), listed(rule, "verbs:"));
        for resource in listed(rule, "resources:") {
            let group = groups.first().cloned().unwrap_or_default();
            all.extend(verbs.iter().map(|verb| (group.clone(), resource.clone(), verb.clone())));
        }
    }
    all
}

/// Where a ConfigMap is.
pub(crate) fn map(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps/{name}")
}

fn namespace_of(role: &str) -> anyhow::Result<&str> {
    let line = role.lines().find_map(|line| line.strip_prefix("  namespace: "));
    line.context("a Role has a namespace")
}
