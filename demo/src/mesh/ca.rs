//! The demo's CA: `banyan serve` as a child process in a temporary directory, so that it can be killed for real.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use console::admin_socket;
use proto::banyan::admin::v1::{
    CreateTokenRequest, ListRootsRequest, Root, StatusRequest, StatusResponse,
};
use rustix::process::Signal;
use tokio::process::{Child, Command};

use super::gate::Gate;
use crate::options::Algorithm;
use crate::ports::free_address;
use crate::tokens::{AUDIENCE, ISSUER, TokenSource};

/// Longest wait for a server to become ready; argon2 and the first root take well under a second.
const READY_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// Length of a server's lease where there are several.
pub const LEASE_SECS: u64 = 5;

/// The keys of the first root and its issuers.
const KEYS: &str = "key_type = \"p256\"\nissuer_key_type = \"p256\"";

/// The trust domain of the demo.
pub const TRUST_DOMAIN: &str = "demo.banyan";

/// A CA server in a child process.
#[derive(Debug)]
pub struct CaProcess {
    child: Child,
    directory: PathBuf,
    address: SocketAddr,
    plain: SocketAddr,
    /// Where it reaches the store, if that is elsewhere.
    store: Vec<Gate>,
}

/// Where a server listens.
struct Listens {
    address: SocketAddr,
    plain: SocketAddr,
}

/// Which of the CA's servers one is.
#[derive(Debug, Clone)]
pub struct Seat {
    /// Its name.
    pub name: String,
    /// The file with the passphrase, the same for all of them.
    pub passphrase: PathBuf,
    /// Where the store is; none for a file of its own.
    pub store: Vec<SocketAddr>,
}

/// What the demo sets otherwise than an operator would; lifetimes are short, so that every workload renews several times while one watches.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// Life of a workload's leaf, in seconds.
    pub leaf_secs: u64,
    /// Whether the trust gate asks that proxies were seen to verify a new algorithm.
    pub probes: bool,
}

impl CaProcess {
    /// Writes a configuration into `directory` and starts the server with it, which takes a moment to be ready.
    ///
    /// # Errors
    /// If a file cannot be written or the process cannot be started.
    pub async fn spawn(
        directory: &Path,
        seat: &Seat,
        lifetimes: Lifetimes,
        tokens: &TokenSource,
    ) -> anyhow::Result<Self> {
        std::fs::write(directory.join("jwks.json"), tokens.jwks())
            .context("cannot write the key set")?;
        let address = free_address()?;
        let plain = free_address()?;
        let mut store = Vec::new();
        for member in &seat.store {
            store.push(Gate::before(*member).await?);
        }
        let config = configuration(directory, seat, Listens { address, plain }, lifetimes)
            + &section(&store);
        std::fs::write(directory.join("banyan.toml"), config)
            .context("cannot write the demo's banyan.toml")?;
        let child = spawn(directory)?;
        Ok(Self { child, directory: directory.to_owned(), address, plain, store })
    }

    /// HOST:PORT of the gRPC listener.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// HOST:PORT of health and metrics.
    pub const fn plain_address(&self) -> SocketAddr {
        self.plain
    }

    /// The admin socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.directory.join("admin.sock")
    }

    /// Kills the server with SIGKILL: no shutdown, no flush.
    ///
    /// # Errors
    /// If it cannot be killed or waited for.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("cannot kill the CA")
    }

    /// Cuts the server off from the store, or lets it through again.
    pub fn cut_from_store(&self, cut: bool) {
        self.store.iter().for_each(|gate| gate.set_open(!cut));
    }

    /// Stops the server with SIGSTOP, or lets it go on.
    ///
    /// # Errors
    /// If it is gone.
    pub fn pause(&self, paused: bool) -> anyhow::Result<()> {
        use rustix::process::{Pid, kill_process};
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let signal = if paused { Signal::STOP } else { Signal::CONT };
        kill_process(id.context("the server is gone")?, signal).context("cannot signal the server")
    }

    /// Starts the server again on the same directory and ports.
    ///
    /// # Errors
    /// As [`CaProcess::spawn`] and [`CaProcess::wait_ready`].
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.child = spawn(&self.directory)?;
        self.wait_ready().await
    }

    /// Changes the algorithm of the keys of roots and issuers to come, as an operator does: in the configuration, and with a restart.
    ///
    /// # Errors
    /// If the configuration cannot be written, or the server does not come back.
    pub async fn change_algorithm(&mut self, algorithm: Algorithm) -> anyhow::Result<()> {
        let file = self.directory.join("banyan.toml");
        let [root, issuer] = algorithm.keys();
        let keys = format!("key_type = \"{root}\"\nissuer_key_type = \"{issuer}\"");
        let text = std::fs::read_to_string(&file)?.replace(KEYS, &keys);
        std::fs::write(&file, text).context("cannot write the demo's banyan.toml")?;
        use rustix::process::{Pid, kill_process};
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        kill_process(id.context("the server is gone")?, Signal::TERM)?;
        let ended = tokio::time::timeout(READY_DEADLINE, self.child.wait()).await;
        ended.context("the server does not stop")?.context("cannot wait for the server")?;
        self.restart().await
    }

    /// Asks for the server's status.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn status(&self) -> anyhow::Result<StatusResponse> {
        let mut client = admin_socket::connect(&self.admin_socket()).await?;
        Ok(client.status(StatusRequest {}).await?.into_inner())
    }

    /// Every root that the record knows.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn roots(&self) -> anyhow::Result<Vec<Root>> {
        let mut client = admin_socket::connect(&self.admin_socket()).await?;
        Ok(client.list_roots(ListRootsRequest::default()).await?.into_inner().roots)
    }

    /// Makes a join token for one agent and writes it into a file.
    ///
    /// # Errors
    /// If the server refuses or the file cannot be written.
    pub async fn create_token(
        &self,
        agent: &str,
        identity: &str,
        file: &Path,
    ) -> anyhow::Result<()> {
        let mut client = admin_socket::connect(&self.admin_socket()).await?;
        let request = CreateTokenRequest {
            agent: agent.to_owned(),
            identities: vec![identity.to_owned()],
            ttl_seconds: 600,
            ..Default::default()
        };
        let answer = client.create_token(request).await?.into_inner();
        write_private(file, &answer.token)
    }

    /// Waits until it serves.
    ///
    /// # Errors
    /// If the server does not become ready; the end of its log is part of the error.
    pub async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let ready = async {
            loop {
                if let Some(status) = self.child.try_wait()? {
                    if status.signal() == Some(Signal::INT.as_raw()) {
                        // Ctrl-C in the moment before it had a process group of its own: the demo has got it too, and ends.
                        std::future::pending::<()>().await;
                    }
                    bail!("the CA ended with {status}");
                }
                if self.status().await.is_ok_and(|status| status.healthy) {
                    return Ok(());
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let outcome = tokio::time::timeout(READY_DEADLINE, ready).await;
        let failed = match outcome {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => anyhow::anyhow!("the CA was not ready within {READY_DEADLINE:?}"),
        };
        Err(failed.context(format!("log of the CA:\n{}", self.log_tail())))
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.directory.join("ca.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
    }
}

fn spawn(directory: &Path) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let log =
        std::fs::OpenOptions::new().create(true).append(true).open(directory.join("ca.log"))?;
    Command::new(program)
        .args(["serve", "--config"])
        .arg(directory.join("banyan.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        // Ctrl-C is for the demo, which ends the CA itself.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("cannot start `banyan serve`")
}

/// Writes the passphrase that all servers of the demo's CA have.
///
/// # Errors
/// If the file cannot be written.
pub fn write_passphrase(file: &Path) -> anyhow::Result<()> {
    write_private(file, &hex_secret())
}

fn section(store: &[Gate]) -> String {
    if store.is_empty() {
        return String::new();
    }
    let endpoints: Vec<_> =
        store.iter().map(|gate| format!("\"http://{}\"", gate.address())).collect();
    format!("\n[store]\nengine = \"etcd\"\nendpoints = [{}]\n", endpoints.join(", "))
}

fn configuration(directory: &Path, seat: &Seat, listens: Listens, lifetimes: Lifetimes) -> String {
    let Listens { address, plain } = listens;
    let Lifetimes { leaf_secs, probes } = lifetimes;
    let probe = if probes { "new-algorithms" } else { "never" };
    let Seat { name, passphrase, .. } = seat;
    let passphrase = passphrase.display();
    let directory = directory.display();
    format!(
        r#"# Written by `banyan demo`. Lifetimes are short so that renewals can be watched; never copy them.
trust_domain = "{TRUST_DOMAIN}"
data_dir = "{directory}/data"

[replica]
name = "{name}"
address = "{address}"
lease = "{LEASE_SECS}s"

[listen]
grpc = "{address}"
plain = "{plain}"
admin_socket = "{directory}/admin.sock"
ip_addresses = ["127.0.0.1"]

[root]
authority = "main"
{KEYS}

[authority.main]
plugin = "self-signed"

[keys]
backend = "file"
passphrase_file = "{passphrase}"

[leaf]
ttl_default = "{leaf_secs}s"
ttl_max = "{leaf_secs}s"
ttl_min = "5s"
backdate = "2s"
skew = "2s"

[rotation]
mode = "auto"
settle = "2s"
withdrawal_max = "30s"
reissue_per_second = 50
probe = "{probe}"
canary_observe = "5s"

[[jwt]]
issuer = "{ISSUER}"
audiences = ["{AUDIENCE}"]
jwks_file = "{directory}/jwks.json"
identity = "kubernetes"
"#
    )
}

fn hex_secret() -> String {
    let bytes: [u8; 24] = trust::randomness::random_bytes(&host::OsRandomness::new());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a file that nobody else may read.
///
/// # Errors
/// If the file cannot be written.
pub fn write_private(file: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut open = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)?;
    open.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", file.display()))
}
