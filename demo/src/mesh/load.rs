//! The mesh's workloads and the traffic between them, whichever kind they are.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::ca::TRUST_DOMAIN;
use super::counts::Counts;
use super::csr::Account;
use super::envoy::{self, EnvoyMesh};
use super::members::Member;
use super::received::Received;
use super::sidecar::Sidecar;
use super::tls::Verifies;
use super::traffic::{Tally, Traffic};
use crate::options::DemoOptions;

/// Longest wait until every workload has its first certificate.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// The mesh's workloads, under traffic.
pub enum Load {
    /// Built-in proxies and clients of the CSR API.
    Sidecars {
        /// The workloads, those with an agent first.
        members: Arc<Vec<Sidecar>>,
        /// Counters.
        tally: Arc<Tally>,
        /// What lets them talk.
        traffic: Traffic,
        /// How many have an agent.
        with_agent: usize,
    },
    /// Real Envoys.
    Envoys(Box<EnvoyMesh>),
}

impl Load {
    /// Starts the workloads and their traffic.
    ///
    /// # Errors
    /// If one gets no certificate in time.
    pub async fn start(
        options: &DemoOptions,
        members: &[Member],
        accounts: Vec<Account>,
        directory: &Path,
        received: &Received,
    ) -> anyhow::Result<Self> {
        if let Some(path) = &options.envoy {
            let binary = envoy::find_binary(path.as_deref())?;
            return Ok(Self::Envoys(Box::new(
                EnvoyMesh::start(&binary, members, directory).await?,
            )));
        }
        let mut sidecars = Vec::new();
        for member in members {
            sidecars.push(
                Sidecar::start(
                    member.id.clone(),
                    member.socket.clone(),
                    received.clone(),
                    member.listener,
                )
                .await?,
            );
        }
        let with_agent = sidecars.len();
        for account in accounts {
            let domain = trust::TrustDomain::parse(TRUST_DOMAIN)?;
            let id = trust::SpiffeId::kubernetes(&domain, account.name.0, &account.name.1)?;
            sidecars.push(Sidecar::start_csr_only(id, account, received.clone()).await?);
        }
        for sidecar in &sidecars {
            tokio::time::timeout(READY_DEADLINE, sidecar.ready()).await.with_context(|| {
                format!("{} has no certificate after {READY_DEADLINE:?}", sidecar.id())
            })??;
        }
        let members = Arc::new(sidecars);
        let tally = Arc::new(Tally::default());
        let traffic = Traffic::start(&members, &tally);
        Ok(Self::Sidecars { members, tally, traffic, with_agent })
    }

    /// Counters at this moment.
    ///
    /// # Errors
    /// If an Envoy that is not frozen does not answer.
    pub async fn counts(&mut self) -> anyhow::Result<Counts> {
        match self {
            Self::Sidecars { members, tally, .. } => Ok(sidecar_counts(members, tally)),
            Self::Envoys(mesh) => mesh.counts().await,
        }
    }

    /// Freezes the proxy of the agent at this place, or lets it go on.
    ///
    /// # Errors
    /// If its process is gone.
    pub fn freeze(&mut self, place: usize, frozen: bool) -> anyhow::Result<()> {
        match self {
            Self::Sidecars { members, .. } => {
                members.get(place).context("there is no such workload")?.freeze(frozen);
                Ok(())
            }
            Self::Envoys(mesh) => mesh.freeze(place, frozen),
        }
    }

    /// Restarts the proxy of the agent at this place: it has nothing until it has asked anew.
    ///
    /// # Errors
    /// If it is an Envoy.
    pub fn restart(&self, place: usize) -> anyhow::Result<()> {
        match self {
            Self::Sidecars { members, .. } => {
                members.get(place).context("there is no such workload")?.restart();
                Ok(())
            }
            Self::Envoys(_) => anyhow::bail!("the demo does not restart Envoys"),
        }
    }

    /// The last workload that has an agent becomes another version, which can verify this; says which one it is.
    ///
    /// # Errors
    /// If it is a real Envoy, or its leaf cannot be used.
    pub fn last_becomes(&self, verifies: Verifies) -> anyhow::Result<String> {
        let Self::Sidecars { members, with_agent, .. } = self else {
            anyhow::bail!("a real Envoy is what it is: leave --envoy out")
        };
        let last = with_agent.checked_sub(1).and_then(|place| members.get(place));
        let last = last.context("there is no workload with an agent")?;
        last.become_one_that(verifies)?;
        Ok(last.id().to_string())
    }

    /// Lets what is under way come to its end, and counts for the last time.
    ///
    /// # Errors
    /// If an Envoy does not answer, or resumed a session.
    pub async fn stop(&mut self) -> anyhow::Result<Counts> {
        match self {
            Self::Sidecars { members, tally, traffic, .. } => {
                traffic.stop().await;
                Ok(sidecar_counts(members, tally))
            }
            Self::Envoys(mesh) => mesh.stop().await,
        }
    }

    /// Ends it as it is.
    pub async fn end(self) {
        match self {
            Self::Sidecars { traffic, .. } => traffic.end().await,
            Self::Envoys(mesh) => mesh.end().await,
        }
    }
}

fn sidecar_counts(members: &[Sidecar], tally: &Tally) -> Counts {
    Counts {
        handshakes: tally.handshakes(),
        failed: tally.failed(),
        expired: tally.expired(),
        renewals: members.iter().map(|member| member.leaves_seen().saturating_sub(1)).collect(),
        pairs: tally.pairs().0,
        samples: tally.samples(),
    }
}
