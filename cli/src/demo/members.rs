//! The demo's agents: each a real agent with its own state directory, socket and join token.

use std::path::{Path, PathBuf};

use agent::{Agent, AgentConfig, Running};
use anyhow::Context;
use trust::{SpiffeId, TrustDomain};

use crate::verbs::agent::host_deps;

use super::ca::{CaProcess, TRUST_DOMAIN};

/// One agent of the mesh.
#[derive(Debug)]
pub struct Member {
    /// Identity of its one workload.
    pub id: SpiffeId,
    /// Where it serves secrets.
    pub socket: PathBuf,
    running: Running,
}

impl Member {
    /// Makes a join token at the CA, writes the agent's configuration, and starts it.
    ///
    /// # Errors
    /// If the CA refuses the token or the agent cannot start.
    pub async fn start(ca: &CaProcess, directory: &Path, number: u16) -> anyhow::Result<Self> {
        let name = format!("agent-{number:02}");
        let home = directory.join(&name);
        std::fs::create_dir_all(&home)?;
        let id = workload_id(number)?;
        let token = home.join("token");
        ca.create_token(&name, id.as_str(), &token).await.context("cannot make a join token")?;
        let socket = home.join("sds.sock");
        let file = home.join("agent.toml");
        std::fs::write(&file, configuration(ca, &home, &id))?;
        let config = AgentConfig::read(&file)?;
        let running = Agent::start(config, host_deps()).await.with_context(|| format!("agent {name}"))?;
        Ok(Self { id, socket, running })
    }

    /// Stops the agent.
    pub async fn stop(self) {
        self.running.shutdown().await;
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

fn configuration(ca: &CaProcess, home: &Path, id: &SpiffeId) -> String {
    let (address, home) = (ca.address(), home.display());
    let uid = rustix::process::getuid().as_raw();
    format!(
        r#"# Written by `banyan demo`.
trust_domain = "{TRUST_DOMAIN}"
ca_address = "{address}"
state_dir = "{home}/state"
socket = "{home}/sds.sock"
join_token_file = "{home}/token"

[[workload]]
uid = {uid}
spiffe_id = "{id}"
"#
    )
}
