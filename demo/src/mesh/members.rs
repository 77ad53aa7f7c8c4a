//! The demo's agents: each a real agent with its own state directory, socket, join token, and way to the CA.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use agent::{Agent, AgentConfig, HostDeps, Running};
use anyhow::Context;
use trust::{RootId, SpiffeId, TrustDomain};

use super::ca::{CaProcess, TRUST_DOMAIN};
use super::gate::Gate;

/// One agent of the mesh.
#[derive(Debug)]
pub struct Member {
    /// Identity of its one workload.
    pub id: SpiffeId,
    /// Where it serves secrets.
    pub socket: PathBuf,
    /// Where its workload listens, if the agent is to know that.
    pub listener: Option<SocketAddr>,
    /// Its own name.
    pub name: String,
    home: PathBuf,
    config: PathBuf,
    gates: Vec<Gate>,
    running: Option<Running>,
}

impl Member {
    /// Makes a join token at the CA, writes the agent's configuration, and starts it.
    ///
    /// # Errors
    /// If the CA refuses the token or the agent cannot start.
    pub async fn start(
        cas: &[CaProcess],
        directory: &Path,
        number: u16,
        listener: Option<SocketAddr>,
    ) -> anyhow::Result<Self> {
        let name = format!("agent-{number:02}");
        let home = directory.join(&name);
        std::fs::create_dir_all(&home)?;
        let id = workload_id(number)?;
        let token = home.join("token");
        let ca = cas.first().context("no CA")?;
        ca.create_token(&name, id.as_str(), &token).await.context("cannot make a join token")?;
        let (socket, config) = (home.join("sds.sock"), home.join("agent.toml"));
        let mut gates = Vec::new();
        for ca in cas {
            gates.push(Gate::before(ca.address()).await?);
        }
        std::fs::write(&config, configuration(&gates, &home, &id, listener))?;
        let mut member = Self { id, socket, listener, name, home, config, gates, running: None };
        member.run().await.with_context(|| format!("agent {}", member.name))?;
        Ok(member)
    }

    /// Cuts the agent off from the CA, or lets it through again.
    pub fn partition(&self, cut: bool) {
        self.gates.iter().for_each(|gate| gate.set_open(!cut));
    }

    /// Gives it a new join token, with which it joins anew if its certificate counts for nothing any more.
    ///
    /// # Errors
    /// If the CA refuses the token.
    pub async fn give_token(&self, ca: &CaProcess) -> anyhow::Result<()> {
        let file = self.home.join("token");
        ca.create_token(&self.name, self.id.as_str(), &file).await.context("no join token")
    }

    /// What it says is wrong.
    pub fn conditions(&self) -> Vec<String> {
        self.running.as_ref().map(|run| run.status().conditions.clone()).unwrap_or_default()
    }

    /// Stops the agent and starts it again on the same state; its proxy goes on with what it has.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.end().await;
        self.run().await
    }

    /// The roots of the bundle that the agent has in force.
    pub fn trusted(&self) -> Vec<RootId> {
        self.running.as_ref().map(|running| running.status().roots.clone()).unwrap_or_default()
    }

    /// The root of its workload's leaf, once there is one.
    pub fn leaf_root(&self) -> Option<RootId> {
        let status = self.running.as_ref()?.status();
        status.workloads.first()?.root
    }

    /// Stops the agent.
    pub async fn stop(mut self) {
        self.end().await;
    }

    async fn run(&mut self) -> anyhow::Result<()> {
        let config = AgentConfig::read(&self.config)?;
        self.running = Some(Agent::start(config, HostDeps::of_this_machine()).await?);
        Ok(())
    }

    async fn end(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown().await;
        }
    }
}

/// Identity of the workload with this number.
///
/// # Errors
/// Never for the names used here.
pub fn workload_id(number: u16) -> anyhow::Result<SpiffeId> {
    let domain = TrustDomain::parse(TRUST_DOMAIN)?;
    Ok(SpiffeId::kubernetes(&domain, "demo", &format!("w{number:02}"))?)
}

fn configuration(
    gates: &[Gate],
    home: &Path,
    id: &SpiffeId,
    listener: Option<SocketAddr>,
) -> String {
    let home = home.display();
    let addresses: Vec<_> = gates.iter().map(|gate| format!("\"{}\"", gate.address())).collect();
    let addresses = addresses.join(", ");
    let uid = rustix::process::getuid().as_raw();
    let listeners = listener.map(|at| format!("listeners = [\"{at}\"]\n")).unwrap_or_default();
    format!(
        r#"# Written by `banyan demo`.
trust_domain = "{TRUST_DOMAIN}"
ca_addresses = [{addresses}]
state_dir = "{home}/state"
socket = "{home}/sds.sock"
join_token_file = "{home}/token"

[[workload]]
uid = {uid}
spiffe_id = "{id}"
{listeners}"#
    )
}
