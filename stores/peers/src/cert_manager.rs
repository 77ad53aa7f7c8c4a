//! The controllers of cert-manager, in a process of their own. Its webhook is not here: who makes a request is not written down, and
//! nobody refuses what it would.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::json;

use crate::kube::{ApiServer, Token};
use crate::process::{LOOKS, PAUSE};

const NAME: &str = "cert-manager";
/// Kinds that are served once the cluster has taken them.
const KINDS: [&str; 3] = ["certificates", "certificaterequests", "clusterissuers"];

/// Runs until it is dropped.
#[derive(Debug)]
pub struct CertManager {
    child: Child,
    home: tempfile::TempDir,
}

impl CertManager {
    /// Makes its kinds known to a cluster, and no more.
    ///
    /// # Errors
    /// If it is not installed, or the API server refuses.
    pub async fn kinds(api: &ApiServer) -> anyhow::Result<()> {
        let program = host::peers::binary(NAME, NAME)?;
        let part =
            program.parent().and_then(|bin| bin.parent()).context("no folder of the part")?;
        let folder = part.join("crds");
        let files = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
        for file in files {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                api.apply("", &fs::read_to_string(path)?).await?;
            }
        }
        for kind in KINDS {
            let path = format!("/apis/cert-manager.io/v1/{kind}");
            let mut looks = 0;
            while let Err(error) = api.ask("GET", &path, None).await {
                looks += 1;
                if looks == LOOKS {
                    bail!("{kind} are not served: {error:#}");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    /// The same, and starts its controllers as one who may do everything.
    ///
    /// # Errors
    /// If it is not installed, or does not start.
    pub async fn start(api: &ApiServer) -> anyhow::Result<Self> {
        Self::kinds(api).await?;
        let body = json!({ "metadata": { "name": NAME } });
        api.ask("POST", "/api/v1/namespaces", Some(body)).await?;
        let home = tempfile::tempdir()?;
        let log = File::create(home.path().join("log"))?;
        let mut command = Command::new(host::peers::binary(NAME, NAME)?);
        command.arg("--kubeconfig").arg(api.kubeconfig(api.address(), Token::Admin)?);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().context("cert-manager does not start")?;
        Ok(Self { child, home })
    }

    /// What it printed.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }
}

impl Drop for CertManager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
