//! The example plugins as processes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use integration_tests::mesh::{SOON, Tool, run};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

/// Building the example in Go, its packages included, on a machine that is busy.
const GO_BUILD_MAX: Duration = Duration::from_secs(300);

/// A language that an example is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Python,
    Go,
}

/// A plugin that runs; killed when dropped.
#[derive(Debug)]
pub(crate) struct PluginProcess {
    home: tempfile::TempDir,
    _child: Child,
}

impl PluginProcess {
    /// Starts the example, and waits until it listens.
    pub(crate) async fn start(language: Language) -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        let (state, socket) = (home.path().join("state"), home.path().join("plugin.sock"));
        let mut command = match language {
            Language::Python => python(&examples()?.join("python/plugin.py"), &state, &socket)?,
            Language::Go => {
                let mut command = Command::new(go_plugin().await?);
                command.arg(&state).arg(&socket);
                command
            }
        };
        let child = listening(&mut command, &socket).await?;
        Ok(Self { home, _child: child })
    }

    /// Starts the example in Python with a line of it changed.
    pub(crate) async fn start_broken(line: &str, instead: &str) -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        let (state, socket) = (home.path().join("state"), home.path().join("plugin.sock"));
        let sound = std::fs::read_to_string(examples()?.join("python/plugin.py"))?;
        ensure!(sound.contains(line), "the example has no line {line:?} to break");
        let program = home.path().join("plugin.py");
        std::fs::write(&program, sound.replace(line, instead))?;
        let child = listening(&mut python(&program, &state, &socket)?, &socket).await?;
        Ok(Self { home, _child: child })
    }

    /// Where it listens.
    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.home.path().join("plugin.sock").display())
    }

    /// The section of a configuration that takes it.
    pub(crate) fn section(&self, name: &str) -> String {
        let endpoint = self.endpoint();
        format!(
            "[authority.{name}]\nplugin = \"remote\"\nendpoint = \"{endpoint}\"\ncapabilities = [\"stage\"]\n"
        )
    }
}

fn python(program: &Path, state: &Path, socket: &Path) -> anyhow::Result<Command> {
    let mut command = Tool::Python.command()?;
    command.arg("-B").arg(program).arg(state).arg(socket).arg(repository()?.join("proto/protos"));
    Ok(command)
}

async fn listening(command: &mut Command, socket: &Path) -> anyhow::Result<Child> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()?;
    let listens = async {
        while tokio::net::UnixStream::connect(socket).await.is_err() {
            if let Some(status) = child.try_wait()? {
                anyhow::bail!("the plugin ended before it listened: {status}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    tokio::time::timeout(SOON, listens).await.context("the plugin does not listen")??;
    Ok(child)
}

fn repository() -> anyhow::Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository")?.to_owned())
}

fn examples() -> anyhow::Result<PathBuf> {
    Ok(repository()?.join("plugins/remote/examples"))
}

/// Builds the example in Go, once for all tests of this process.
async fn go_plugin() -> anyhow::Result<PathBuf> {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    let build = || async {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-plugin");
        let mut go = Command::new("go");
        go.env("GOTOOLCHAIN", "local").env("GOFLAGS", "").env("CGO_ENABLED", "0");
        go.args(["build", "-o"]).arg(&program).arg(".").current_dir(examples()?.join("go"));
        let go = go.stdin(Stdio::null()).kill_on_drop(true).output();
        let built =
            tokio::time::timeout(GO_BUILD_MAX, go).await.context("go build does not end")?;
        let built = built.context("go is not on PATH: install Go 1.24 or newer")?;
        ensure!(built.status.success(), "go build: {}", String::from_utf8_lossy(&built.stderr));
        Ok(program)
    };
    BUILT.get_or_try_init(build).await.cloned()
}

/// Runs `banyan` with these words; answers with whether it succeeded, and with all that it said.
pub(crate) async fn banyan(words: &[&str], broken: bool) -> anyhow::Result<(bool, String)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_banyan_under_test"));
    if broken {
        // A report about a plugin that is broken on purpose is none about the example.
        command.env_remove("BANYAN_CONFORMANCE_REPORT_DIR");
    }
    run(command.args(words)).await
}
