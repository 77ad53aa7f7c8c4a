//! A measured server: `banyan serve` in a child process, and what its process has used.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use console::{admin_socket, tls_channel};
use rustls::ClientConfig;
use tonic::transport::Channel;

use crate::ports::free_address;
use crate::tokens::{AUDIENCE, ISSUER, TokenSource};

const READY_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// All connections of the benchmark come from one address.
const CONNECTIONS: u32 = 100_000;
/// The trust domain of the measured CA.
pub const TRUST_DOMAIN: &str = "bench.banyan";

/// A server that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct BenchServer {
    directory: PathBuf,
    child: tokio::process::Child,
    process: u32,
    connector: Connector,
    roots: String,
}

/// Which server of a CA one is.
#[derive(Debug, Clone)]
pub struct Seat {
    /// Its name.
    pub name: String,
    /// Where the store is that the servers share; none for a file of its own.
    pub store: Option<SocketAddr>,
    /// What all servers of one CA have in common to open its keys.
    pub passphrase: String,
}

impl Seat {
    /// That of a server which is alone.
    pub fn alone() -> Self {
        Self {
            name: "ca-1".to_owned(),
            store: None,
            passphrase: "a passphrase of the benchmark alone".to_owned(),
        }
    }
}

/// Opens connections to the measured server.
#[derive(Debug, Clone)]
pub struct Connector {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Connector {
    /// Opens a new connection with a full handshake.
    ///
    /// # Errors
    /// If the server does not accept.
    pub async fn connect(&self) -> anyhow::Result<Channel> {
        tls_channel::connect(&self.address.to_string(), Arc::clone(&self.tls)).await
    }
}

impl BenchServer {
    /// Starts the server with an encrypted key file, a durable ledger and one JWT issuer.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn start(
        directory: &Path,
        tokens: &TokenSource,
        seat: &Seat,
    ) -> anyhow::Result<Self> {
        let address = free_address()?;
        write_files(directory, Listens { address, plain: free_address()? }, tokens, seat)?;
        Self::run(directory, address).await
    }

    async fn run(directory: &Path, address: SocketAddr) -> anyhow::Result<Self> {
        let log = std::fs::File::create(directory.join("server.log"))?;
        let mut child = tokio::process::Command::new(std::env::current_exe()?)
            .args(["serve", "--config"])
            .arg(directory.join("banyan.toml"))
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let socket = directory.join("admin.sock");
        let roots = tokio::time::timeout(READY_DEADLINE, wait_for_roots(&mut child, &socket))
            .await
            .context("the server was not ready in time")
            .flatten()
            .with_context(|| {
                std::fs::read_to_string(directory.join("server.log")).unwrap_or_default()
            })?;
        let tls = tls_channel::client_config(tls_channel::roots_from_pem(roots.as_bytes())?, None)?;
        let process = child.id().context("the server ended")?;
        let connector = Connector { address, tls };
        Ok(Self { directory: directory.to_owned(), child, process, connector, roots })
    }

    /// Starts it again on its directory and port, after it was killed.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        *self = Self::run(&self.directory, self.connector.address).await?;
        Ok(())
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// HOST:PORT of its gRPC listener.
    pub const fn address(&self) -> SocketAddr {
        self.connector.address
    }

    /// Its admin socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.directory.join("admin.sock")
    }

    /// The roots that its certificate chains to, as PEM text.
    pub fn roots(&self) -> &str {
        &self.roots
    }

    /// Opens connections to this server.
    pub fn connector(&self) -> Connector {
        self.connector.clone()
    }

    /// CPU time that the server's process has used so far, user and system.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process))?;
        // proc(5): the name in parentheses may hold anything; after it, utime and stime are fields 12 and 13.
        let (_, fields) = stat.rsplit_once(')').context("unexpected form of /proc/PID/stat")?;
        let ticks: Vec<u64> = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse().ok())
            .collect();
        let [user, system] = ticks.as_slice() else { bail!("unexpected form of /proc/PID/stat") };
        let per_second = rustix::param::clock_ticks_per_second();
        Ok(Duration::from_secs_f64((user + system) as f64 / per_second as f64))
    }

    /// Largest resident set of the server's process so far, in KiB.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn peak_rss_kib(&self) -> anyhow::Result<u64> {
        self.memory_kib("VmHWM:")
    }

    /// The resident set of the server's process now, in KiB.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn rss_kib(&self) -> anyhow::Result<u64> {
        self.memory_kib("VmRSS:")
    }

    fn memory_kib(&self, field: &'static str) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let line = line.with_context(|| format!("no {field} in /proc"))?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Stops the server.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

async fn wait_for_roots(
    child: &mut tokio::process::Child,
    socket: &Path,
) -> anyhow::Result<String> {
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("the server ended with {status}");
        }
        if let Ok(mut client) = admin_socket::connect(socket).await
            && let Ok(answer) =
                client.list_roots(proto::banyan::admin::v1::ListRootsRequest::default()).await
        {
            let roots = answer.into_inner().roots;
            if roots.iter().any(|root| root.state == "active") {
                return Ok(roots
                    .iter()
                    .map(|root| trust::certificate::pem_block(&root.der))
                    .collect());
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

struct Listens {
    address: SocketAddr,
    plain: SocketAddr,
}

fn write_files(
    directory: &Path,
    listens: Listens,
    tokens: &TokenSource,
    seat: &Seat,
) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::create_dir_all(directory)?;
    let passphrase = directory.join("passphrase");
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&passphrase)?;
    std::fs::write(&passphrase, &seat.passphrase)?;
    std::fs::write(directory.join("jwks.json"), tokens.jwks())?;
    let directory_text = directory.display();
    let Listens { address, plain } = listens;
    let name = &seat.name;
    let store = seat.store.map_or_else(String::new, |store| {
        format!("[store]\nengine = \"etcd\"\nendpoints = [\"http://{store}\"]\n")
    });
    let config = format!(
        r#"# Written by `banyan bench`.
trust_domain = "{TRUST_DOMAIN}"
data_dir = "{directory_text}/data"

[replica]
name = "{name}"
address = "{address}"

{store}

[listen]
grpc = "{address}"
plain = "{plain}"
admin_socket = "{directory_text}/admin.sock"
ip_addresses = ["127.0.0.1"]

[root]
authority = "main"

[authority.main]
plugin = "self-signed"

[keys]
backend = "file"
passphrase_file = "{directory_text}/passphrase"

[agents]
per_caller = 100000

[limits]
connections = {CONNECTIONS}
connections_per_address = {CONNECTIONS}
rows_per_identity = 10000000
leaves_per_second = 1000000

[[jwt]]
issuer = "{ISSUER}"
audiences = ["{AUDIENCE}"]
jwks_file = "{directory_text}/jwks.json"
identity = "kubernetes"
"#
    );
    Ok(std::fs::write(directory.join("banyan.toml"), config)?)
}
