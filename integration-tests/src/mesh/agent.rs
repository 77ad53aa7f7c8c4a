//! A real agent in this process, with a home of its own.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent::{Agent, AgentConfig, HostDeps, Running, StartError, Status};
use anyhow::{Context as _, anyhow};
use host::{OsRandomness, RealDisk, SystemClock};
use trust::Clock;

use crate::support::{SOON, TRUST_DOMAIN, write_private};

/// An agent that can be started again and again on the same state.
#[derive(Debug)]
pub struct TestAgent {
    home: tempfile::TempDir,
    clock: Arc<dyn Clock>,
    config: String,
    running: Option<Running>,
}

impl TestAgent {
    /// An agent of the CA at this address, not started yet.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn of(ca: SocketAddr) -> anyhow::Result<Self> {
        Self::of_several(&[ca])
    }

    /// An agent of the CA at these addresses, not started yet.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn of_several(cas: &[SocketAddr]) -> anyhow::Result<Self> {
        let cas: Vec<String> = cas.iter().map(ToString::to_string).collect();
        let home = tempfile::tempdir()?;
        // Other users reach the socket; the state below is the agent's only.
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755))?;
        let path = home.path().display();
        let config = format!(
            "trust_domain = \"{TRUST_DOMAIN}\"\nca_addresses = {cas:?}\nstate_dir = \"{path}/state\"\n\
             socket = \"{path}/sds.sock\"\n"
        );
        Ok(Self { home, clock: Arc::new(SystemClock), config, running: None })
    }

    /// Is of another trust domain.
    #[must_use]
    pub fn in_domain(mut self, domain: &str) -> Self {
        self.config = self.config.replacen(TRUST_DOMAIN, domain, 1);
        self
    }

    /// Lives by another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Joins with this token.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn with_token(mut self, token: &str) -> anyhow::Result<Self> {
        self.write_token(token)?;
        let _ = writeln!(self.config, "join_token_file = \"{}\"", self.path("token").display());
        Ok(self)
    }

    /// Joins with this JWT, and believes these roots.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn with_jwt(mut self, jwt: &str, roots: &Path) -> anyhow::Result<Self> {
        write_private(&self.path("jwt"), jwt)?;
        let (jwt, roots) = (self.path("jwt"), roots.display());
        let _ =
            write!(self.config, "jwt_file = \"{}\"\ntrust_bundle = \"{roots}\"\n", jwt.display());
        Ok(self)
    }

    /// Serves this identity to this user. Call it after what says how to join.
    #[must_use]
    pub fn with_workload(mut self, uid: u32, id: &str) -> Self {
        let _ = write!(self.config, "[[workload]]\nuid = {uid}\nspiffe_id = \"{id}\"\n");
        self
    }

    /// Asks for leaves of this life, such as `1h`. Call it after what says how to join.
    #[must_use]
    pub fn with_leaf_ttl(mut self, ttl: &str) -> Self {
        let _ = writeln!(self.config, "[leaf]\nttl = \"{ttl}\"");
        self
    }

    /// Knows a listener of who holds the last identity. Call it after that.
    #[must_use]
    pub fn with_listener(mut self, at: SocketAddr) -> Self {
        let _ = writeln!(self.config, "listeners = [\"{at}\"]");
        self
    }

    /// Reads the counters of an Envoy of who holds the last identity, at `host:port` or `unix:/path`. Call it after that; it counts
    /// from the next start.
    pub fn reads_counters_at(&mut self, admin: &str) {
        let _ = writeln!(self.config, "envoy_admin = [\"{admin}\"]");
    }

    /// Waits so long for a listener that tells nothing. Call it first.
    #[must_use]
    pub fn with_patience(mut self, patience: &str) -> Self {
        let _ = writeln!(self.config, "probe_patience = \"{patience}\"");
        self
    }

    /// Serves this identity to this user.
    #[must_use]
    pub fn with_own_workload(self, id: &str) -> Self {
        self.with_workload(rustix::process::geteuid().as_raw(), id)
    }

    /// Puts a token into the file of tokens.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn write_token(&self, token: &str) -> anyhow::Result<()> {
        Ok(write_private(&self.path("token"), token)?)
    }

    /// A path below the agent's home, such as `state/agent.key`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Tries to start it.
    ///
    /// # Errors
    /// As the agent says.
    pub async fn try_start(&self) -> Result<Running, StartError> {
        let deps = HostDeps {
            clock: Arc::clone(&self.clock),
            randomness: Arc::new(OsRandomness::new()),
            disk: Arc::new(RealDisk),
        };
        let config = AgentConfig::parse(&self.config).map_err(|error| StartError::StateDir {
            path: self.path(""),
            source: std::io::Error::other(error),
        })?;
        Agent::start(config, deps).await
    }

    /// Starts it.
    ///
    /// # Errors
    /// As the agent says.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.running = Some(self.try_start().await?);
        Ok(())
    }

    /// Starts it and waits until it is a member of the mesh, with the stream to the CA up.
    ///
    /// # Errors
    /// When it does not become one in time.
    pub async fn joined(mut self) -> anyhow::Result<Self> {
        self.start().await?;
        self.until("a member", |status| status.member.is_some() && status.connected).await?;
        Ok(self)
    }

    /// Has a leaf of this identity at hand before anybody asks for it. Call it after what says how to join.
    #[must_use]
    pub fn with_prewarmed(mut self, uid: u32, id: &str) -> Self {
        let _ = write!(
            self.config,
            "[[workload]]\nuid = {uid}\nspiffe_id = \"{id}\"\nprewarm = true\n"
        );
        self
    }

    /// Ends it without a word, as a crash does: what it had in memory is gone.
    pub fn crash(&mut self) {
        self.running = None;
    }

    /// Ends it in order.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown().await;
        }
    }

    /// The socket that it serves secrets at.
    pub fn socket(&self) -> PathBuf {
        self.path("sds.sock")
    }

    /// Its state.
    ///
    /// # Errors
    /// When it was not started.
    pub fn status(&self) -> anyhow::Result<Arc<Status>> {
        Ok(self.running.as_ref().context("the agent was not started")?.status())
    }

    /// Its state as it changes.
    ///
    /// # Errors
    /// When it was not started.
    pub fn changes(&self) -> anyhow::Result<tokio::sync::watch::Receiver<Arc<Status>>> {
        Ok(self.running.as_ref().context("the agent was not started")?.changes())
    }

    /// The address of the CA that it uses now.
    ///
    /// # Errors
    /// When it was not started.
    pub fn in_use(&self) -> anyhow::Result<Option<String>> {
        let status = self.status()?;
        Ok(status.ca_addresses.iter().find(|row| row.in_use).map(|row| row.address.clone()))
    }

    /// Waits until its stream is up at another address of the CA than this one.
    ///
    /// # Errors
    /// When it is not in time.
    pub async fn until_away_from(&self, address: SocketAddr) -> anyhow::Result<Arc<Status>> {
        let address = address.to_string();
        let away = |status: &Status| {
            let mut in_use = status.ca_addresses.iter().filter(|row| row.in_use);
            status.connected && in_use.any(|row| row.address != address)
        };
        self.until(&format!("away from {address}"), away).await
    }

    /// Waits until its state is as wanted.
    ///
    /// # Errors
    /// When it is not in time; the error shows the state.
    pub async fn until(
        &self,
        what: &str,
        holds: impl Fn(&Status) -> bool + Send,
    ) -> anyhow::Result<Arc<Status>> {
        let mut changes = self.running.as_ref().context("the agent was not started")?.changes();
        let found = tokio::time::timeout(SOON, changes.wait_for(|status| holds(status))).await;
        match found {
            Ok(Ok(status)) => Ok(Arc::clone(&status)),
            _ => Err(anyhow!("not in time: {what}: {:#?}", self.status()?)),
        }
    }

    /// Waits until one of its conditions has these words.
    ///
    /// # Errors
    /// When none has in time.
    pub async fn until_it_says(&self, words: &str) -> anyhow::Result<Arc<Status>> {
        let says = |status: &Status| status.conditions.iter().any(|text| text.contains(words));
        self.until(&format!("it says `{words}`"), says).await
    }
}
