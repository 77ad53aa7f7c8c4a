//! What operators use: helm and kubectl.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::support::SOON;

/// The chart of this repository, with values.
#[derive(Debug, Clone, Default)]
pub struct Chart {
    /// Files with values, below the chart's folder.
    pub files: Vec<String>,
    /// `KEY=VALUE`, each.
    pub set: Vec<String>,
}

impl Chart {
    /// Its folder.
    #[must_use]
    pub fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/helm/banyan")
    }

    /// What helm says of it.
    ///
    /// # Errors
    /// If helm finds something wrong.
    pub async fn lint(&self) -> anyhow::Result<String> {
        self.helm(&["lint", "--strict"]).await
    }

    /// What helm makes of it, as the release `banyan`.
    ///
    /// # Errors
    /// If helm refuses the values.
    pub async fn render(&self, namespace: &str) -> anyhow::Result<String> {
        self.helm(&["template", "--kube-version", "1.37.0", "--namespace", namespace, "banyan"])
            .await
    }

    pub(super) async fn install(&self, config: &Path, namespace: &str) -> anyhow::Result<()> {
        let config = config.display().to_string();
        let arguments = ["upgrade", "--install", "--namespace", namespace, "--kubeconfig", &config];
        self.helm(&[&arguments, ["banyan"].as_slice()].concat()).await.map(drop)
    }

    async fn helm(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut helm = Command::new(host::peers::binary("helm", "helm")?);
        helm.args(arguments).arg(Self::folder());
        for file in &self.files {
            helm.arg("--values").arg(Self::folder().join(file));
        }
        for set in &self.set {
            helm.arg("--set").arg(set);
        }
        printed(helm, "").await
    }
}

/// The documents of what helm rendered.
#[must_use]
pub fn rendered(text: &str) -> Vec<&str> {
    let documents = text.split("\n---").map(str::trim);
    documents.filter(|one| one.lines().any(|line| line.starts_with("kind:"))).collect()
}

/// Runs kubectl as a kubeconfig says; answers what it printed.
///
/// # Errors
/// If it fails, with what it said.
pub async fn kubectl(config: &Path, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let mut kubectl = kubectl_command(config)?;
    kubectl.args(arguments);
    printed(kubectl, input).await
}

/// kubectl as a kubeconfig says, with arguments to follow. It keeps what it learns of the cluster beside that file.
///
/// # Errors
/// Says what installs it.
pub(super) fn kubectl_command(config: &Path) -> anyhow::Result<Command> {
    let mut kubectl = Command::new(host::peers::binary("kubectl", "kubectl")?);
    let cache = config.with_extension("cache");
    kubectl.arg("--kubeconfig").arg(config).arg("--cache-dir").arg(cache);
    Ok(kubectl)
}

async fn printed(mut command: Command, input: &str) -> anyhow::Result<String> {
    // Neither writes a cache into the home of whoever runs the tests.
    let home = tempfile::tempdir()?;
    command.env("HOME", home.path()).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn()?;
    let mut stdin = running.stdin.take().context("no input")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    let output = tokio::time::timeout(SOON, running.wait_with_output()).await;
    let output = output.with_context(|| format!("{command:?} does not end"))??;
    let said = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{command:?}: {}: {said}{printed}", output.status);
    Ok(printed)
}
