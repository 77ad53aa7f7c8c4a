//! Programs of other projects.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context as _;
use tokio::process::Command;

use crate::support::SOON;

/// A program that tests run. One that is missing fails the test, and the error says what installs it.
#[derive(Debug, Clone, Copy)]
pub enum Tool {
    /// Envoy.
    Envoy,
    /// Python with gRPC and `cryptography`.
    Python,
    /// The gRPC command line.
    Grpcurl,
    /// OpenSSL's command line, of the operating system.
    Openssl,
}

impl Tool {
    /// Where it is.
    ///
    /// # Errors
    /// Says what installs it.
    pub fn path(self) -> anyhow::Result<PathBuf> {
        Ok(match self {
            Self::Envoy => host::peers::binary("envoy", "envoy")?,
            Self::Python => host::peers::binary("python", "python3")?,
            Self::Grpcurl => host::peers::binary("grpcurl", "grpcurl")?,
            Self::Openssl => {
                let folders = std::env::var_os("PATH").context("PATH is not set")?;
                let mut files =
                    std::env::split_paths(&folders).map(|folder| folder.join("openssl"));
                files.find(|file| file.is_file()).context(
                    "openssl is not on PATH: install the operating system's package `openssl`",
                )?
            }
        })
    }

    /// A command that runs it.
    ///
    /// # Errors
    /// As [`path`](Self::path).
    pub fn command(self) -> anyhow::Result<Command> {
        Ok(Command::new(self.path()?))
    }
}

/// Runs a command to its end; answers with whether it succeeded, and with all that it said.
///
/// # Errors
/// When it cannot be run, or does not end in time.
pub async fn run(command: &mut Command) -> anyhow::Result<(bool, String)> {
    let command = command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(SOON, command.output())
        .await
        .with_context(|| format!("{command:?} does not end"))?
        .with_context(|| format!("{command:?} cannot be run"))?;
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), said))
}
