//! A real Envoy in a process of its own, with the configuration that the agent's crate writes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent::envoy_config::{self, EnvoyConfig, Inbound, Outbound};
use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Child;
use trust::SpiffeId;

use super::Tool;
use crate::support::SOON;

/// Longest wait for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
/// Name of the file with roots of an Envoy's own.
const ROOTS: &str = "own_roots.yaml";
/// Counters of the way to the agent's socket begin so.
const AGENT: &str = "cluster.banyan_agent.";
/// Counters of connections that failed end so.
const FAILURES: [&str; 5] = [
    ".ssl.connection_error",
    ".ssl.fail_verify_error",
    ".ssl.fail_verify_no_cert",
    ".ssl.fail_verify_san",
    ".upstream_cx_connect_fail",
];
/// Longer than any test: connections that end are the tests' own doing.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);

/// A way out of an Envoy: to a peer that must have one of these identities.
#[derive(Debug, Clone)]
pub struct Route {
    /// The peer's inbound listener.
    pub peer: SocketAddr,
    /// Identities that are let pass; empty lets pass whoever is under the roots.
    pub identities: Vec<SpiffeId>,
}

/// A running Envoy, killed when dropped.
#[derive(Debug)]
pub struct Envoy {
    child: Child,
    admin: SocketAddr,
    inbound: SocketAddr,
    outbound: Vec<SocketAddr>,
    log: PathBuf,
}

impl Envoy {
    /// Starts one below an agent's socket, and waits until its admin page answers. Each request has a connection of its
    /// own. Files go into `directory`.
    ///
    /// # Errors
    /// When Envoy is not installed, or does not start; its log is part of the error.
    pub async fn start(
        name: &str,
        directory: &Path,
        socket: PathBuf,
        routes: &[Route],
    ) -> anyhow::Result<Self> {
        let (admin, inbound) = (free_address()?, free_address()?);
        let mut outbound = Vec::new();
        for (at, route) in routes.iter().enumerate() {
            outbound.push(Outbound {
                name: format!("peer_{at}"),
                listen: free_address()?,
                peer: route.peer,
                peer_identities: route.identities.clone(),
                new_connection_per_request: true,
            });
        }
        let config = config(name, socket, admin, inbound, outbound.clone());
        let outbound = outbound.into_iter().map(|outbound| outbound.listen).collect();
        let ports = Ports { admin, inbound, outbound };
        Self::launch(name, directory, &envoy_config::render(&config), ports).await
    }

    /// As [`start`](Self::start), with another validation secret of the agent in the place of `ROOTCA`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn believing(
        name: &str,
        directory: &Path,
        socket: PathBuf,
        secret: &str,
        peers: &[SocketAddr],
    ) -> anyhow::Result<Self> {
        let (admin, inbound) = (free_address()?, free_address()?);
        let mut outbound = Vec::new();
        for (at, peer) in peers.iter().enumerate() {
            outbound.push(Outbound {
                name: format!("peer_{at}"),
                listen: free_address()?,
                peer: *peer,
                peer_identities: Vec::new(),
                new_connection_per_request: true,
            });
        }
        let rendered =
            envoy_config::render(&config(name, socket, admin, inbound, outbound.clone()));
        let yaml = rendered.replace("\"ROOTCA\"", &format!("{secret:?}"));
        let outbound = outbound.into_iter().map(|outbound| outbound.listen).collect();
        Self::launch(name, directory, &yaml, Ports { admin, inbound, outbound }).await
    }

    /// Starts one that takes its certificate from the agent and its roots from a file of this PEM, without ways out.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn with_own_roots(
        name: &str,
        directory: &Path,
        socket: PathBuf,
        roots: &str,
    ) -> anyhow::Result<Self> {
        let (admin, inbound) = (free_address()?, free_address()?);
        write_roots(directory, roots)?;
        let rendered = envoy_config::render(&config(name, socket, admin, inbound, Vec::new()));
        let yaml = with_roots_from(&rendered, &directory.join(ROOTS))?;
        Self::launch(name, directory, &yaml, Ports { admin, inbound, outbound: Vec::new() }).await
    }

    /// Puts other roots into the file of an Envoy with roots of its own, and waits until it has loaded them.
    ///
    /// # Errors
    /// When the file cannot be written, or is not loaded in time.
    pub async fn change_own_roots(&self, directory: &Path, roots: &str) -> anyhow::Result<()> {
        let loaded = async || self.count(".ssl_context_update_by_sds").await;
        let before = loaded().await?;
        write_roots(directory, roots)?;
        super::eventually("the file is loaded", async || {
            loaded().await.is_ok_and(|now| now > before)
        })
        .await
    }

    async fn launch(
        name: &str,
        directory: &Path,
        yaml: &str,
        Ports { admin, inbound, outbound }: Ports,
    ) -> anyhow::Result<Self> {
        let (file, log) =
            (directory.join(format!("{name}.yaml")), directory.join(format!("{name}.log")));
        std::fs::write(&file, yaml)?;
        let child = Tool::Envoy
            .command()?
            .arg("--config-path")
            .arg(&file)
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .kill_on_drop(true)
            .spawn()?;
        let mut envoy = Self { child, admin, inbound, outbound, log };
        envoy.wait_until_up().await?;
        Ok(envoy)
    }

    /// Where peers knock.
    pub const fn inbound(&self) -> SocketAddr {
        self.inbound
    }

    /// Its admin endpoint.
    pub const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its process id, as the agent sees it.
    pub fn pid(&self) -> Option<i32> {
        self.child.id().and_then(|pid| i32::try_from(pid).ok())
    }

    /// Sends one request over the route with this number; answers with the HTTP status and the body.
    ///
    /// # Errors
    /// When there is no such route, or no answer.
    pub async fn get(&self, route: usize) -> anyhow::Result<(u16, String)> {
        http(*self.outbound.get(route).context("no such route")?, "GET", "/").await
    }

    /// Sends requests on its first route until told to stop, and counts them. Each must be answered with 200.
    ///
    /// # Errors
    /// When one is not.
    pub async fn get_until(&self, stop: &AtomicBool) -> anyhow::Result<u64> {
        let mut answered = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            let (status, body) = self.get(0).await?;
            anyhow::ensure!(status == 200, "after {answered} requests: {status} {body}");
            answered += 1;
        }
        Ok(answered)
    }

    /// Sends requests until one is answered with 200. After that, every one must be.
    ///
    /// # Errors
    /// When none is in time; Envoy's log is part of the error.
    pub async fn until_answered(&self, route: usize) -> anyhow::Result<()> {
        let answered = async {
            while !self.get(route).await.is_ok_and(|(status, _)| status == 200) {
                tokio::time::sleep(POLL).await;
            }
        };
        let outcome = tokio::time::timeout(SOON, answered).await;
        outcome.with_context(|| format!("no answer over route {route}: {}", self.words()))?;
        self.reset_counters().await
    }

    /// Sets its counters to zero: what failed before both sides had their first certificates does not count.
    ///
    /// # Errors
    /// When the admin page does not answer.
    pub async fn reset_counters(&self) -> anyhow::Result<()> {
        http(self.admin, "POST", "/reset_counters").await.map(drop)
    }

    /// Envoy's counters that are not zero.
    ///
    /// # Errors
    /// When the admin page does not answer.
    pub async fn counters(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let (_, page) = http(self.admin, "GET", "/stats?usedonly").await?;
        let parse = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        };
        Ok(page.lines().filter_map(parse).collect())
    }

    /// The sum of counters whose names end so.
    ///
    /// # Errors
    /// When the admin page does not answer.
    pub async fn count(&self, ending: &str) -> anyhow::Result<u64> {
        let counters = self.counters().await?;
        Ok(counters.iter().filter(|(name, _)| name.ends_with(ending)).map(|(_, value)| value).sum())
    }

    /// Connections with peers that failed, at either side, for whatever reason. The way to the agent's socket is not among
    /// them: nobody is there while an agent restarts.
    ///
    /// # Errors
    /// When the admin page does not answer.
    pub async fn tls_failures(&self) -> anyhow::Result<u64> {
        let counters = self.counters().await?;
        let failed = counters.iter().filter(|(name, _)| {
            !name.starts_with(AGENT) && FAILURES.iter().any(|ending| name.ends_with(ending))
        });
        Ok(failed.map(|(_, value)| value).sum())
    }

    /// Waits until it has loaded the leaf that its agent gave it. Counters that were reset since have forgotten it.
    ///
    /// # Errors
    /// When it has not in time.
    pub async fn until_it_has_its_leaf(&self) -> anyhow::Result<()> {
        let loaded =
            async || self.count("sds.default.update_success").await.is_ok_and(|times| times > 0);
        super::eventually("Envoy has its leaf", loaded).await
    }

    /// Stops it where it is (SIGSTOP), or lets it run on.
    ///
    /// # Errors
    /// When it has ended, and as the operating system says.
    pub fn freeze(&self, frozen: bool) -> anyhow::Result<()> {
        let pid = self.pid().and_then(rustix::process::Pid::from_raw).context("Envoy has ended")?;
        let signal =
            if frozen { rustix::process::Signal::STOP } else { rustix::process::Signal::CONT };
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// Kills it, as a crash does.
    ///
    /// # Errors
    /// As the operating system says.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    async fn wait_until_up(&mut self) -> anyhow::Result<()> {
        let up = async {
            loop {
                if let Some(status) = self.child.try_wait()? {
                    bail!("Envoy ended with {status}");
                }
                if http(self.admin, "GET", "/server_info").await.is_ok() {
                    return Ok(());
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let outcome =
            tokio::time::timeout(SOON, up).await.context("Envoy does not start").flatten();
        outcome.with_context(|| self.words())
    }

    fn words(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Where an Envoy listens.
struct Ports {
    admin: SocketAddr,
    inbound: SocketAddr,
    outbound: Vec<SocketAddr>,
}

fn config(
    name: &str,
    socket: PathBuf,
    admin: SocketAddr,
    inbound: SocketAddr,
    outbound: Vec<Outbound>,
) -> EnvoyConfig {
    EnvoyConfig {
        node: name.to_owned(),
        socket,
        admin: Some(admin),
        inbound: Some(Inbound { listen: inbound, application: None, allowed_peers: Vec::new() }),
        outbound,
        connection_age_max: CONNECTION_AGE_MAX,
    }
}

/// The file of roots, which Envoy watches: it is replaced by a rename.
fn write_roots(directory: &Path, roots: &str) -> anyhow::Result<()> {
    let pem = roots.replace('\n', "\\n");
    let secret = format!(
        "resources:\n- \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret\n  name: own_roots\n  \
         validation_context:\n    trusted_ca: {{ inline_string: \"{pem}\" }}\n"
    );
    let fresh = directory.join("roots.fresh");
    std::fs::write(&fresh, secret)?;
    Ok(std::fs::rename(fresh, directory.join(ROOTS))?)
}

/// The configuration with the agent's validation secret taken out, and a file in its place.
fn with_roots_from(yaml: &str, file: &Path) -> anyhow::Result<String> {
    const TAKEN_OUT: &str = "validation_context_sds_secret_config:";
    let depth = |line: &str| line.len() - line.trim_start().len();
    let (mut out, mut below) = (Vec::new(), None);
    for line in yaml.lines() {
        if below.is_some_and(|above| depth(line) > above) {
            continue;
        }
        below = (line.trim() == TAKEN_OUT).then(|| depth(line));
        out.push(line.to_owned());
        if let Some(above) = below {
            let pad = " ".repeat(above + 2);
            out.push(format!("{pad}name: own_roots"));
            let path = file.display();
            out.push(format!(
                "{pad}sds_config: {{ resource_api_version: V3, path_config_source: {{ path: \"{path}\" }} }}"
            ));
        }
    }
    anyhow::ensure!(out.len() < yaml.lines().count(), "nothing was taken out of the configuration");
    Ok(out.join("\n"))
}

/// An address that was free a moment ago: Envoys must know each other's before they start.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// One request without a body; answers with status and body.
///
/// # Errors
/// When there is no answer.
pub async fn http(address: SocketAddr, method: &str, path: &str) -> anyhow::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: mesh\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        anyhow::Ok((status, body.to_owned()))
    };
    tokio::time::timeout(ANSWER_WITHIN, exchange).await.context("no answer in time")?
}
