//! A real Envoy with whatever configuration a test writes.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Child;

use super::Tool;

/// A running Envoy, killed when dropped.
#[derive(Debug)]
pub struct BareEnvoy {
    child: Child,
    log: PathBuf,
}

impl BareEnvoy {
    /// Starts one with this configuration; file and log go into `directory`. Whether it is up shows in what it does.
    ///
    /// # Errors
    /// When Envoy is not installed, or as the operating system says.
    pub fn start(name: &str, directory: &Path, yaml: &str) -> anyhow::Result<Self> {
        Self::of(&Tool::Envoy, name, directory, yaml)
    }

    /// As [`start`](Self::start), with another release of Envoy.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn of(tool: &Tool, name: &str, directory: &Path, yaml: &str) -> anyhow::Result<Self> {
        let file = directory.join(format!("{name}.yaml"));
        let log = directory.join(format!("{name}.log"));
        std::fs::write(&file, yaml)?;
        let child = tool
            .command()?
            .arg("--config-path")
            .arg(&file)
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { child, log })
    }

    /// Kills it, as a crash does.
    ///
    /// # Errors
    /// As the operating system says.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// What it wrote to its log.
    pub fn words(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}
