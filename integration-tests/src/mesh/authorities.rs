//! Root authorities of others: a directory as Istio's `cacerts`, and a plugin in Python.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::{Tool, run};
use crate::support::SOON;

const ROOT: &str = "[req]\ndistinguished_name = dn\nprompt = no\n[dn]\nO = Istio\nCN = Root CA\n[ca]\n\
    basicConstraints = critical, CA:true\nkeyUsage = critical, digitalSignature, keyCertSign, cRLSign\n\
    subjectKeyIdentifier = hash\n";
const INTERMEDIATE: &str = "[req]\ndistinguished_name = dn\nprompt = no\n[dn]\nO = Istio\nCN = Intermediate CA\n[ca]\n\
    basicConstraints = critical, CA:true, pathlen:1\nkeyUsage = critical, digitalSignature, keyCertSign, cRLSign\n\
    subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n";

/// A directory with a root and an intermediate, made with openssl: `ca-cert.pem`, `ca-key.pem`, `cert-chain.pem` and
/// `root-cert.pem`.
#[derive(Debug)]
pub struct Cacerts {
    home: tempfile::TempDir,
}

impl Cacerts {
    /// Makes one, with RSA keys as Istio's own Makefile has them, and room below the intermediate for an issuer.
    ///
    /// # Errors
    /// When openssl is missing or refuses.
    pub async fn make() -> anyhow::Result<Self> {
        let this = Self { home: tempfile::tempdir()? };
        let (home, directory) = (this.home.path(), this.directory());
        std::fs::create_dir(&directory)?;
        std::fs::write(home.join("root.conf"), ROOT)?;
        std::fs::write(home.join("ca.conf"), INTERMEDIATE)?;
        for line in [
            "req -x509 -newkey rsa:3072 -nodes -sha256 -days 3650 -config root.conf -extensions ca -keyout root-key.pem \
             -out cacerts/root-cert.pem",
            "req -new -newkey rsa:3072 -nodes -sha256 -config ca.conf -keyout cacerts/ca-key.pem -out ca.csr",
            "x509 -req -in ca.csr -CA cacerts/root-cert.pem -CAkey root-key.pem -CAcreateserial -sha256 -days 3650 \
             -extfile ca.conf -extensions ca -out cacerts/ca-cert.pem",
        ] {
            let mut openssl = Tool::Openssl.command()?;
            let (done, said) = run(openssl.args(line.split_whitespace()).current_dir(home)).await?;
            ensure!(done, "openssl {line}: {said}");
        }
        let chain = ["ca-cert.pem", "root-cert.pem"]
            .map(|name| std::fs::read_to_string(directory.join(name)));
        let [ca, root] = chain;
        std::fs::write(directory.join("cert-chain.pem"), format!("{}{}", ca?, root?))?;
        Ok(this)
    }

    /// Has the root signed anew with its key and its name, as when its life is extended, and puts it in the place of the former.
    /// Answers its DER.
    ///
    /// # Errors
    /// When openssl refuses.
    pub async fn renew_root(&self) -> anyhow::Result<Vec<u8>> {
        let (home, directory) = (self.home.path(), self.directory());
        let line = "req -x509 -new -key root-key.pem -sha256 -days 7300 -config root.conf -extensions ca -out renewed.pem";
        let mut openssl = Tool::Openssl.command()?;
        let (done, said) = run(openssl.args(line.split_whitespace()).current_dir(home)).await?;
        ensure!(done, "openssl {line}: {said}");
        let renewed = std::fs::read_to_string(home.join("renewed.pem"))?;
        std::fs::write(
            directory.join("cert-chain.pem"),
            format!("{}{renewed}", self.read("ca-cert.pem")?),
        )?;
        std::fs::rename(home.join("renewed.pem"), directory.join("root-cert.pem"))?;
        Ok(pem::parse(renewed)?.into_contents())
    }

    /// The directory.
    pub fn directory(&self) -> PathBuf {
        self.home.path().join("cacerts")
    }

    /// Takes the directory away, or puts it back.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn set_there(&self, there: bool) -> std::io::Result<()> {
        let (present, away) = (self.directory(), self.home.path().join("away"));
        if there { std::fs::rename(away, present) } else { std::fs::rename(present, away) }
    }

    /// A file of it, as text.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn read(&self, name: &str) -> std::io::Result<String> {
        std::fs::read_to_string(self.directory().join(name))
    }

    /// The section of a configuration that takes it, with further lines.
    pub fn section(&self, name: &str, more: &str) -> String {
        let directory = self.directory();
        format!(
            "[authority.{name}]\nplugin = \"file\"\ndirectory = \"{}\"\n{more}\n",
            directory.display()
        )
    }
}

/// The example plugin in Python, in a process of its own.
#[derive(Debug)]
pub struct PythonAuthority {
    home: tempfile::TempDir,
    child: Option<Child>,
}

impl PythonAuthority {
    /// Prepares one that does not run yet.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn prepared() -> anyhow::Result<Self> {
        Ok(Self { home: tempfile::tempdir()?, child: None })
    }

    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    /// When Python is missing, or it does not listen in time.
    pub async fn started() -> anyhow::Result<Self> {
        let mut this = Self::prepared()?;
        this.start().await?;
        Ok(this)
    }

    /// Starts it over what it made before.
    ///
    /// # Errors
    /// As [`started`](Self::started).
    pub async fn start(&mut self) -> anyhow::Result<()> {
        // A process that was killed leaves its socket behind.
        let socket = self.socket();
        let _ = std::fs::remove_file(&socket);
        let mut command = Command::new(Tool::Python.path()?);
        command.args(Self::arguments(&self.home.path().join("state"), &socket)?);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let listens = async {
            while tokio::net::UnixStream::connect(&socket).await.is_err() {
                if let Some(status) = child.try_wait()? {
                    anyhow::bail!("the plugin ended: {status}");
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        };
        tokio::time::timeout(SOON, listens).await.context("the plugin does not listen")??;
        self.child = Some(child);
        Ok(())
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// As the operating system says.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// Stops it in the middle of whatever it does, or lets it go on: it hangs, with its socket open.
    ///
    /// # Errors
    /// When it does not run.
    pub fn set_frozen(&self, frozen: bool) -> anyhow::Result<()> {
        let pid = self.child.as_ref().and_then(Child::id).context("the plugin does not run")?;
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("an odd process id")?;
        Ok(kill_process(pid, if frozen { Signal::STOP } else { Signal::CONT })?)
    }

    /// The section of a configuration that takes it.
    pub fn section(&self, name: &str) -> String {
        format!(
            "[authority.{name}]\nplugin = \"remote\"\nendpoint = \"unix://{}\"\ncapabilities = [\"stage\"]\n",
            self.socket().display()
        )
    }

    fn socket(&self) -> PathBuf {
        self.home.path().join("plugin.sock")
    }

    fn arguments(state: &Path, socket: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
        let program = root.join("plugins/remote/examples/python/plugin.py");
        Ok(vec![program, state.to_owned(), socket.to_owned(), root.join("proto/protos")])
    }
}
