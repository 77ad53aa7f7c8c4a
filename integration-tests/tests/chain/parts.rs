//! What the links of the chain stand on: an OpenBao, a SoftHSM token, and somebody at an offline machine with openssl.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use integration_tests::mesh::{SOON, Tool, run, write_private};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// Where distributions put SoftHSM's module.
const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
];
const PIN: &str = "4711-banyan";

/// A real OpenBao in memory, on a port that it chose itself, with a root in its PKI engine.
pub(crate) struct OpenBao {
    _child: Child,
    home: tempfile::TempDir,
    address: String,
}

impl OpenBao {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let program = host::peers::binary("openbao", "bao")?;
        let home = tempfile::tempdir()?;
        let config = "storage \"inmem\" {}\nlistener \"tcp\" {\n  address = \"127.0.0.1:0\"\n  tls_disable = true\n}\n";
        std::fs::write(home.path().join("bao.hcl"), config)?;
        let mut child = Command::new(&program)
            .args(["server", "-config", "bao.hcl"])
            .current_dir(home.path())
            .env_clear()
            .env("HOME", home.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        let cluster = async {
            while let Some(line) = lines.next_line().await? {
                if let Some((_, rest)) = line.split_once("cluster address: \"127.0.0.1:") {
                    return Ok(rest.split('"').next().unwrap_or_default().parse::<u16>()?);
                }
            }
            anyhow::bail!("OpenBao told no address")
        };
        let cluster: u16 =
            tokio::time::timeout(SOON, cluster).await.context("OpenBao does not listen")??;
        // It would wait for a reader otherwise; the task ends with the process.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        // The cluster's port is the one after that of the API.
        let address = format!("http://127.0.0.1:{}", cluster - 1);
        let this = Self { _child: child, home, address };
        let told = this
            .bao(&program, "", "operator init -key-shares=1 -key-threshold=1 -format=json")
            .await?;
        let told: serde_json::Value = serde_json::from_str(&told)?;
        let text = |pointer: &str| {
            told.pointer(pointer).and_then(serde_json::Value::as_str).map(str::to_owned)
        };
        let key = text("/unseal_keys_b64/0").context("no unseal key")?;
        let token = text("/root_token").context("no token")?;
        this.bao(&program, "", &format!("operator unseal {key}")).await?;
        for line in [
            "secrets enable pki",
            "secrets tune -max-lease-ttl=87600h pki",
            "write pki/root/generate/internal common_name=bao-root key_type=ec key_bits=256 ttl=87600h",
        ] {
            this.bao(&program, &token, line).await?;
        }
        write_private(&this.home.path().join("token"), &token)?;
        Ok(this)
    }

    async fn bao(&self, program: &Path, token: &str, line: &str) -> anyhow::Result<String> {
        let mut command = Command::new(program);
        command.args(line.split_whitespace()).env_clear().env("HOME", self.home.path());
        command.env("BAO_ADDR", &self.address).env("BAO_TOKEN", token);
        // Just unsealed it is not active for a moment.
        for _ in 0..100 {
            let (done, said) = run(&mut command).await?;
            if done {
                return Ok(said);
            }
            ensure!(
                said.contains("sealed") || said.contains("refused") || said.contains("active"),
                "{line}: {said}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("bao {line} does not come to an end")
    }

    pub(crate) fn section(&self, name: &str) -> String {
        format!(
            "[authority.{name}]\nplugin = \"vault\"\naddress = \"{}\"\nexclusive = true\n\
             [authority.{name}.auth]\nmethod = \"token\"\ntoken_file = \"{}\"\n",
            self.address,
            self.home.path().join("token").display()
        )
    }
}

/// A SoftHSM token in a folder of its own. The module finds it by `SOFTHSM2_CONF` in the environment of its process.
pub(crate) struct SoftHsm {
    folder: PathBuf,
}

impl SoftHsm {
    /// Makes a token in a folder.
    pub(crate) fn make(folder: &Path) -> anyhow::Result<Self> {
        let this = Self { folder: folder.to_owned() };
        let tokens = folder.join("tokens");
        std::fs::create_dir(&tokens)?;
        std::fs::write(this.conf(), format!("directories.tokendir = {}\n", tokens.display()))?;
        write_private(&folder.join("pin"), PIN)?;
        let made = std::process::Command::new("softhsm2-util")
            .args([
                "--init-token",
                "--free",
                "--label",
                "roots",
                "--so-pin",
                "so-secret",
                "--pin",
                PIN,
            ])
            .env("SOFTHSM2_CONF", this.conf())
            .output()
            .context(
                "softhsm2-util is missing: install the operating system's package `softhsm2`",
            )?;
        ensure!(made.status.success(), "softhsm2-util: {}", String::from_utf8_lossy(&made.stderr));
        Ok(this)
    }

    /// One that was made in a folder before.
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(crate) fn conf(&self) -> PathBuf {
        self.folder.join("softhsm2.conf")
    }

    /// A self-signed authority whose roots' keys are on the token.
    pub(crate) fn section(&self, name: &str) -> anyhow::Result<String> {
        let module = MODULES.iter().find(|path| Path::new(path).exists());
        let module =
            module.context("SoftHSM's module is missing: install the package `softhsm2`")?;
        Ok(format!(
            "[authority.{name}]\nplugin = \"self-signed\"\n[authority.{name}.keys]\nbackend = \"pkcs11\"\n\
             module = \"{module}\"\ntoken = \"roots\"\npin_file = \"{}\"\n",
            self.folder.join("pin").display()
        ))
    }
}

/// Somebody who carries ceremonies to an offline machine and follows them there with openssl. Ends when dropped.
pub(crate) struct Human {
    home: tempfile::TempDir,
    work: JoinHandle<anyhow::Result<()>>,
}

impl Human {
    pub(crate) fn begin() -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        let (folder, offline) = (home.path().join("ceremonies"), home.path().join("offline"));
        std::fs::create_dir(&offline)?;
        Ok(Self { home, work: tokio::spawn(follow_on(folder, offline)) })
    }

    pub(crate) fn section(&self, name: &str) -> String {
        format!(
            "[authority.{name}]\nplugin = \"manual\"\ndirectory = \"{}\"\nexclusive = true\nlook_every_secs = 1\n",
            self.home.path().join("ceremonies").display()
        )
    }

    /// What went wrong, if they stopped.
    pub(crate) async fn stopped(self) -> anyhow::Result<()> {
        if self.work.is_finished() {
            return self.work.await?;
        }
        self.work.abort();
        Ok(())
    }
}

async fn follow_on(folder: PathBuf, offline: PathBuf) -> anyhow::Result<()> {
    let mut done = BTreeSet::new();
    loop {
        for entry in std::fs::read_dir(folder.join("outbox")).into_iter().flatten() {
            let path = entry?.path();
            let is_text = path.extension().is_some_and(|extension| extension == "txt");
            let Some(name) = path.file_stem().and_then(|stem| stem.to_str()).filter(|_| is_text)
            else {
                continue;
            };
            if !done.insert(name.to_owned()) {
                continue;
            }
            let text = std::fs::read_to_string(&path)?;
            std::fs::write(offline.join(format!("{name}.txt")), &text)?;
            let (_, after) =
                text.split_once("\nCommands:\n\n").context("a ceremony without commands")?;
            let lines = after.lines().take_while(|line| line.starts_with("    "));
            let commands = lines.map(str::trim_start).collect::<Vec<_>>().join("\n");
            Tool::Openssl.path()?;
            let mut shell = Command::new("sh");
            shell.args(["-euc", &commands]).current_dir(&offline).env("ROOT_PASS", "correct horse");
            let (followed, said) = run(&mut shell).await?;
            ensure!(followed, "{commands}\n{said}");
            let inbox = folder.join("inbox");
            std::fs::copy(offline.join(format!("{name}.pem")), inbox.join("arriving"))?;
            std::fs::rename(inbox.join("arriving"), inbox.join(format!("{name}.pem")))?;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
