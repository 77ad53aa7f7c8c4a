//! `docs/istio.md`: what it has typed is typed, with the charts of Istio, and what came of it is looked at.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use integration_tests::cluster::{Chart, Cluster};
use integration_tests::support::{SOON, eventually};
use serde_json::Value;
use tokio::process::Command;

use super::istio::{ISTIO_SYSTEM, trusted_roots};
use super::servers::{SERVERS, started};
use super::{NAMESPACE, empty_cluster};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/istio.md");
const CA: &str = "banyan.banyan-system.svc:15012";
/// The charts of a repository are those of the module that pilot-agent was built from: a fake of `helm repo add`.
const HELM: &str = r#"#!/bin/bash
set -euo pipefail
[ "$1" != repo ] || exit 0
arguments=()
for one in "$@"; do
  case $one in
    istio/base) one=CHARTS/base ;;
    istio/istiod) one=CHARTS/istio-control/istio-discovery ;;
    istio/cni) one=CHARTS/istio-cni ;;
    istio/ztunnel) one=CHARTS/ztunnel ;;
    istio/*) echo "the page's test has no chart $one" >&2; exit 1 ;;
  esac
  arguments+=("$one")
done
exec PROGRAM "${arguments[@]}"
"#;
/// Nothing rolls out where there are no nodes.
const KUBECTL: &str = r#"#!/bin/bash
case "$*" in *" rollout status "*) exit 0 ;; esac
exec PROGRAM "$@"
"#;

pub(crate) async fn the_page_of_istio_installs_istio_and_the_ca_as_it_says(
    name: &'static str,
) -> anyhow::Result<()> {
    let Some(mut cluster) = empty_cluster(name, SERVERS).await? else { return Ok(()) };
    let place = Place::make()?;
    let blocks = blocks(&fs::read_to_string(PAGE)?);
    ensure!(blocks.len() >= 6, "only {} blocks are on the page", blocks.len());
    for block in &blocks {
        match block.kind.as_str() {
            "yaml" => place.write(&block.text)?,
            _ => place.run(&cluster, &block.text).await?,
        }
    }
    istio_is_as_the_page_says(&cluster).await?;
    cluster.add_own_ca(NAMESPACE).await?;
    let _servers = started(&mut cluster, SERVERS).await?;
    let of_istiod = fs::read_to_string(place.folder.path().join("istiod-ca.pem"))?;
    eventually("Istio's ConfigMap has the bundle, and the CA of istiod itself", || async {
        let path = format!("/api/v1/namespaces/{ISTIO_SYSTEM}/configmaps/istio-ca-root-cert");
        let object = cluster.get(&path).await.unwrap_or_default();
        let held = object["data"]["root-cert.pem"].as_str().unwrap_or_default().to_owned();
        let body = of_istiod.lines().nth(1).unwrap_or("none");
        object["metadata"]["labels"]["istio.io/config"] == "true" && held.contains(body)
    })
    .await?;
    let roots = trusted_roots(&cluster, NAMESPACE).await?;
    ensure!(roots.len() == 2, "{} certificates are published", roots.len());
    Ok(())
}

/// What the charts of Istio made of the page's values.
async fn istio_is_as_the_page_says(cluster: &Cluster) -> anyhow::Result<()> {
    let apps = format!("/apis/apps/v1/namespaces/{ISTIO_SYSTEM}");
    let istiod = cluster.get(&format!("{apps}/deployments/istiod")).await?;
    ensure!(variable(&istiod, "ENABLE_CA_SERVER") == Some("false"), "{istiod}");
    let volumes = istiod.pointer("/spec/template/spec/volumes").and_then(Value::as_array);
    let volumes = volumes.context("no volumes")?;
    ensure!(volumes.iter().any(|volume| volume["secret"]["secretName"] == "istiod-tls"));
    ensure!(volumes.iter().any(|volume| volume["configMap"]["name"] == "istio-ca-root-cert"));
    let ztunnel = cluster.get(&format!("{apps}/daemonsets/ztunnel")).await?;
    ensure!(variable(&ztunnel, "CA_ADDRESS") == Some(CA), "{ztunnel}");
    let account = ztunnel.pointer("/spec/template/spec/serviceAccountName");
    let account = account.and_then(Value::as_str).context("no account")?;
    let node_account = format!("system:serviceaccount:{ISTIO_SYSTEM}:{account}");
    let maps = format!("/api/v1/namespaces/{ISTIO_SYSTEM}/configmaps");
    let injector = cluster.get(&format!("{maps}/istio-sidecar-injector")).await?;
    let injected: Value =
        serde_json::from_str(injector["data"]["values"].as_str().context("no values")?)?;
    let global = &injected["global"];
    ensure!(global["caAddress"] == CA && global["pilotCertProvider"] == "istiod", "{global}");
    let ours = cluster.get("/api/v1/namespaces/banyan-system/configmaps/banyan-config").await?;
    let config: toml::Table =
        toml::from_str(ours["data"]["banyan.toml"].as_str().context("no configuration")?)?;
    // What one side sends is what the other one expects.
    let name = global["multiCluster"]["clusterName"].as_str().filter(|name| !name.is_empty());
    let section = &config["cluster"][name.unwrap_or("Kubernetes")];
    ensure!(section["node_accounts"].as_array().is_some_and(|accounts| {
        accounts.iter().any(|one| one.as_str() == Some(&node_account))
    }));
    let audience = global["sds"]["token"]["aud"].as_str().context("no audience")?;
    let audiences = section["audiences"].as_array().context("no audiences")?;
    ensure!(audiences.iter().any(|one| one.as_str() == Some(audience)), "{section}");
    let mesh = cluster.get(&format!("{maps}/istio")).await?;
    let domain = config["trust_domain"].as_str().context("no trust domain")?;
    let mesh = mesh["data"]["mesh"].as_str().context("no mesh configuration")?;
    ensure!(mesh.contains(&format!("trustDomain: {domain}")), "{mesh}");
    let host = CA.split(':').next().unwrap_or_default();
    let names = config["listen"]["dns_names"].as_array().context("no names")?;
    ensure!(names.iter().any(|name| name.as_str() == Some(host)), "{names:?}");
    let service = cluster.get("/api/v1/namespaces/banyan-system/services/banyan").await?;
    ensure!(service["spec"]["ports"][0]["port"] == 15012, "{service}");
    Ok(())
}

/// A variable of the first container.
fn variable<'o>(object: &'o Value, name: &str) -> Option<&'o str> {
    let variables = object.pointer("/spec/template/spec/containers/0/env")?.as_array()?;
    variables.iter().find(|one| one["name"] == name)?["value"].as_str()
}

/// A block of the section that installs.
struct Block {
    kind: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let section = page.split("\n## ").find(|section| section.starts_with("Install\n"));
    let parts = section.unwrap_or_default().split("\n```").skip(1).step_by(2);
    parts
        .filter_map(|part| {
            let (kind, text) = part.split_once('\n')?;
            Some(Block { kind: kind.to_owned(), text: text.to_owned() })
        })
        .collect()
}

/// Where the commands are typed: a folder with what the page takes of a checkout.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn make() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let programs = folder.path().join("programs");
        fs::create_dir(&programs)?;
        symlink(Chart::folder().join("../..").canonicalize()?, folder.path().join("deploy"))?;
        let charts = host::peers::binary("pilot-agent", "pilot-agent")?;
        let charts = charts.parent().and_then(Path::parent).context("no folder")?.join("charts");
        for (name, script) in [("helm", HELM), ("kubectl", KUBECTL)] {
            let program = host::peers::binary(name, name)?;
            let script = script.replace("CHARTS", &charts.display().to_string());
            let file = programs.join(name);
            fs::write(&file, script.replace("PROGRAM", &program.display().to_string()))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { folder })
    }

    /// Writes a file whose name is in its first line.
    fn write(&self, text: &str) -> anyhow::Result<()> {
        let name = text.lines().next().and_then(|line| line.strip_prefix("# "));
        let name = name.with_context(|| format!("which file is this?\n{text}"))?;
        Ok(fs::write(self.folder.path().join(name), text)?)
    }

    async fn run(&self, cluster: &Cluster, commands: &str) -> anyhow::Result<()> {
        let path = std::env::var("PATH")?;
        let programs: PathBuf = self.folder.path().join("programs");
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", commands]).current_dir(self.folder.path());
        shell.env("PATH", format!("{}:{path}", programs.display()));
        shell.env("HOME", self.folder.path()).env("KUBECONFIG", cluster.kubeconfig());
        let output = shell.stdin(Stdio::null()).kill_on_drop(true).output();
        let output = tokio::time::timeout(SOON, output).await;
        let output = output.with_context(|| format!("it does not end: {commands}"))??;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{commands}\n{}: {said}", output.status);
        Ok(())
    }
}
