//! Workloads that are real Envoys: each takes its certificate from its agent, answers over mTLS, and goes to every
//! other one over mTLS with a new connection for each request. Failures are what Envoy itself counted.

mod http;
mod stats;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use agent::envoy_config::{self, EnvoyConfig, Inbound, Outbound};
use anyhow::{Context, anyhow, bail};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::Instant;
use trust::{Certificate, SpiffeId};

use self::http::get;
use self::stats::Stats;
use super::counts::{Counts, FailureSample};
use super::members::Member;
use crate::ports::free_address;

/// Requests that each Envoy has under way at the same time.
const IN_FLIGHT: usize = 2;
/// Longest wait until an Envoy serves with its first certificate.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// Longest life of a connection; every request has its own anyway.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// How long after it goes on a frozen proxy may still owe answers.
const AFTER_THAW: Duration = Duration::from_secs(3);
/// Failures of which the words are kept.
const SAMPLES_MAX: usize = 20;

/// Running Envoys and the requests that go through them.
#[derive(Debug)]
pub struct EnvoyMesh {
    proxies: Vec<Proxy>,
    shared: Arc<Shared>,
    requests: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
    /// Requests from or to a frozen proxy that were not answered.
    frozen_failures: AtomicU64,
    /// The proxy that is frozen, or was within the last answers' deadline; it cannot answer, so nothing is proven.
    frozen: std::sync::Mutex<Option<(SpiffeId, Option<Instant>)>>,
    /// Whether any proxy was ever frozen.
    froze: AtomicBool,
    samples: std::sync::Mutex<Vec<FailureSample>>,
}

#[derive(Debug)]
struct Proxy {
    id: SpiffeId,
    admin: SocketAddr,
    /// Plain-text listeners, one for each other proxy.
    outbound: Vec<Outbound>,
    child: Child,
    /// Counters that were read last, for while it is frozen.
    last: Stats,
}

/// Where the binary is: the given path, the one installed by `cargo xtask peers envoy`, or one on PATH.
///
/// # Errors
/// If there is none; says how to install one.
pub fn find_binary(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        anyhow::ensure!(path.is_file(), "there is no Envoy at {}", path.display());
        return Ok(path.to_owned());
    }
    let installed = host::peers::binary("envoy", "envoy");
    let missing = match installed {
        Ok(path) => return Ok(path),
        Err(missing) => missing,
    };
    let on_path = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|folder| folder.join("envoy")).find(|file| file.is_file())
    });
    on_path.ok_or_else(|| anyhow!("{missing}, or name one with --envoy PATH"))
}

impl EnvoyMesh {
    /// Starts one Envoy for each agent, waits until each serves, and lets requests run between every ordered pair.
    ///
    /// # Errors
    /// If one does not come up; the end of its log is part of the error.
    pub async fn start(
        binary: &Path,
        members: &[Member],
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let inbound: Vec<_> = members.iter().map(|_| free_address()).collect::<Result<_, _>>()?;
        let mut proxies = Vec::new();
        for (place, member) in members.iter().enumerate() {
            let mut outbound = Vec::new();
            for (other, upstream) in inbound.iter().enumerate().filter(|(other, _)| *other != place)
            {
                outbound.push(Outbound {
                    name: format!("to_{other:02}"),
                    listen: free_address()?,
                    peer: *upstream,
                    peer_identities: members
                        .get(other)
                        .map(|member| member.id.clone())
                        .into_iter()
                        .collect(),
                    new_connection_per_request: true,
                });
            }
            let own = inbound.get(place).context("no inbound address")?;
            proxies.push(Proxy::start(binary, member, *own, outbound, directory)?);
        }
        for proxy in &mut proxies {
            proxy.wait_ready(directory).await?;
        }
        let shared = Arc::new(Shared::default());
        let mut requests = JoinSet::new();
        for proxy in &proxies {
            for lane in 0..IN_FLIGHT {
                requests.spawn(run(
                    proxy.id.clone(),
                    proxy.outbound.clone(),
                    lane,
                    Arc::clone(&shared),
                ));
            }
        }
        Ok(Self { proxies, shared, requests })
    }

    /// Counters at this moment.
    ///
    /// # Errors
    /// If an Envoy does not answer on its admin interface.
    pub async fn counts(&mut self) -> anyhow::Result<Counts> {
        let mut handshakes = 0;
        let mut tls_failures = 0;
        let mut renewals = Vec::new();
        let (frozen, froze) = (self.shared.frozen_now(), self.shared.froze.load(Ordering::Relaxed));
        for proxy in &mut self.proxies {
            if frozen.as_ref() != Some(&proxy.id) {
                proxy.last = Stats::read(proxy.admin).await?;
            }
            handshakes += proxy.last.client_handshakes();
            // Whoever waits for a frozen proxy gives up, which is no failure of trust; a verification that fails is.
            tls_failures +=
                if froze { proxy.last.verify_failures() } else { proxy.last.tls_failures() };
            renewals.push(proxy.last.certificate_updates());
        }
        let http_failures = self.shared.failed.load(Ordering::Relaxed);
        let samples =
            self.shared.samples.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        Ok(Counts {
            handshakes,
            // One bad handshake shows at both Envoys and in the answer; the larger number is the honest one.
            failed: tls_failures.max(http_failures),
            expired: self.shared.frozen_failures.load(Ordering::Relaxed),
            renewals,
            pairs: self.proxies.len() * (self.proxies.len() - 1),
            samples,
        })
    }

    /// Stops the Envoy at this place where it is (SIGSTOP), or lets it go on (SIGCONT).
    ///
    /// # Errors
    /// If its process is gone.
    pub fn freeze(&mut self, place: usize, frozen: bool) -> anyhow::Result<()> {
        let last = self.proxies.get(place).context("there is no such Envoy")?;
        let pid = last.child.id().context("the Envoy has ended")?;
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("no process id")?;
        let until = (!frozen).then(|| Instant::now() + AFTER_THAW);
        *self.shared.frozen.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some((last.id.clone(), until));
        self.shared.froze.store(true, Ordering::Relaxed);
        let signal =
            if frozen { rustix::process::Signal::STOP } else { rustix::process::Signal::CONT };
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// Envoys that trust any other root than this, as they say themselves, or that refused a secret.
    ///
    /// # Errors
    /// If an Envoy does not answer.
    pub async fn not_only(&self, root: &Certificate) -> anyhow::Result<Vec<String>> {
        let mut places = Vec::new();
        let wanted = serial_text(root.serial_bytes());
        for proxy in &self.proxies {
            let trusted = stats::trusted_serials(proxy.admin).await?;
            anyhow::ensure!(!trusted.is_empty(), "{} does not say whom it trusts", proxy.id);
            if trusted.iter().any(|serial| *serial != wanted) {
                places.push(format!("the trust of the Envoy {}", proxy.id));
            }
            let refused = Stats::read(proxy.admin).await?.secrets_refused();
            if refused > 0 {
                places.push(format!("the Envoy {}, which refused {refused} secrets", proxy.id));
            }
        }
        Ok(places)
    }

    /// Lets requests under way finish, and reads the last counters.
    ///
    /// # Errors
    /// If an Envoy resumed a session (then it did not prove trust anew each time), or does not answer.
    pub async fn stop(&mut self) -> anyhow::Result<Counts> {
        self.shared.stop.store(true, Ordering::Relaxed);
        while self.requests.join_next().await.is_some() {}
        let counts = self.counts().await?;
        for proxy in &self.proxies {
            let resumed = Stats::read(proxy.admin).await?.sessions_reused();
            anyhow::ensure!(resumed == 0, "{} resumed {resumed} TLS sessions", proxy.id);
        }
        Ok(counts)
    }

    /// Ends every Envoy, and the requests with them.
    pub async fn end(mut self) {
        self.requests.shutdown().await;
        for proxy in &mut self.proxies {
            // One that is dead already is what is wanted.
            let _ = proxy.child.kill().await;
        }
    }
}

impl Shared {
    /// The proxy that is frozen now, or was a moment ago.
    fn frozen_now(&self) -> Option<SpiffeId> {
        let frozen = self.frozen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (id, until) = frozen.as_ref()?;
        until.is_none_or(|until| Instant::now() < until).then(|| id.clone())
    }

    fn concerns_frozen(&self, client: &SpiffeId, target: &Outbound) -> bool {
        self.frozen_now()
            .is_some_and(|frozen| frozen == *client || target.peer_identities.contains(&frozen))
    }
}

/// A serial number as Envoy writes it, without leading zeros.
fn serial_text(serial: &[u8]) -> String {
    let hex: String = serial.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.trim_start_matches('0').to_owned()
}

impl Proxy {
    fn start(
        binary: &Path,
        member: &Member,
        inbound: SocketAddr,
        outbound: Vec<Outbound>,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let admin = free_address()?;
        let name = name_of(&member.id);
        let config = EnvoyConfig {
            node: name.clone(),
            socket: member.socket.clone(),
            admin: Some(admin),
            inbound: Some(Inbound {
                listen: inbound,
                application: None,
                allowed_peers: Vec::new(),
            }),
            outbound: outbound.clone(),
            connection_age_max: CONNECTION_AGE_MAX,
        };
        let file = directory.join(format!("envoy-{name}.yaml"));
        std::fs::write(&file, envoy_config::render(&config))?;
        let log = std::fs::File::create(directory.join(format!("envoy-{name}.log")))?;
        let child = Command::new(binary)
            .arg("--config-path")
            .arg(&file)
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for the demo, which ends its Envoys itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        Ok(Self { id: member.id.clone(), admin, outbound, child, last: Stats::default() })
    }

    /// Waits until each way out of this proxy carries a request.
    async fn wait_ready(&mut self, directory: &Path) -> anyhow::Result<()> {
        let ready = async {
            for outbound in &self.outbound {
                while get(outbound.listen).await.is_err() {
                    if let Some(status) = self.child.try_wait()? {
                        bail!("Envoy ended with {status}");
                    }
                    tokio::time::sleep(POLL).await;
                }
            }
            stats::reset(self.admin).await
        };
        let outcome = tokio::time::timeout(READY_DEADLINE, ready).await;
        let log = directory.join(format!("envoy-{}.log", name_of(&self.id)));
        outcome
            .map_err(|_| {
                anyhow!("Envoy of {} does not reach the others after {READY_DEADLINE:?}", self.id)
            })
            .flatten()
            .with_context(|| std::fs::read_to_string(log).unwrap_or_default())
    }
}

/// The last segment of an id, such as `w01`.
fn name_of(id: &SpiffeId) -> String {
    id.path().rsplit('/').next().unwrap_or_default().to_owned()
}

/// One request after the other, to each other proxy in turn.
async fn run(id: SpiffeId, outbound: Vec<Outbound>, lane: usize, shared: Arc<Shared>) {
    for target in outbound.iter().cycle().skip(lane) {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        shared.answered.fetch_add(1, Ordering::Relaxed);
        let began_frozen = shared.concerns_frozen(&id, target);
        let Err(error) = get(target.listen).await else { continue };
        if began_frozen || shared.concerns_frozen(&id, target) {
            shared.frozen_failures.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        shared.failed.fetch_add(1, Ordering::Relaxed);
        let mut samples = shared.samples.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if samples.len() < SAMPLES_MAX {
            let server =
                target.peer_identities.first().map(ToString::to_string).unwrap_or_default();
            samples.push(FailureSample {
                client: id.to_string(),
                server,
                error: format!("{error:#}"),
            });
        }
    }
}
