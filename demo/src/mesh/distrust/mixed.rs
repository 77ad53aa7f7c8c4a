//! The mixed mesh of an emergency: workloads behind agents, some of which will be out of reach, some that have their roots from
//! a file, and clients of the CSR API.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_util::task::AbortOnDropHandle;
use trust::{RootId, SpiffeId, TrustDomain};

use super::keeper::{self, RELYING_PARTY};
use super::operator::Operator;
use crate::mesh::ca::{self, CaProcess, Lifetimes, Seat, TRUST_DOMAIN};
use crate::mesh::csr::Account;
use crate::mesh::members::{Member, workload_id};
use crate::mesh::received::Received;
use crate::mesh::sidecar::Sidecar;
use crate::mesh::stage::Stage;
use crate::options::DemoOptions;
use crate::tokens::TokenSource;

/// Life of leaves, in seconds. Nobody's leaf ends while one watches: what breaks, breaks by the root.
const LEAF_SECS: u64 = 240;
/// Agents without `--agents`.
const AGENTS: u16 = 8;
/// Clients of the CSR API without `--csr-only`.
const CSR_ONLY: u16 = 3;
/// One agent of so many will be out of reach, and one has a workload with a file of roots.
const ONE_OF: u16 = 4;
/// Longest wait until every workload has its first certificate.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How many there are of each kind.
#[derive(Debug, Clone, Copy)]
pub struct Cast {
    /// Agents, each with one workload; those of the other kinds among them.
    pub agents: u16,
    /// Those that cannot be reached on the day.
    pub offline: u16,
    /// Those whose workloads have their roots from a file.
    pub readers: u16,
    /// Clients of the CSR API.
    pub csr_only: u16,
}

/// Everybody in the mesh.
#[derive(Debug)]
pub struct Mixed {
    /// The workloads: first those behind agents, file readers at the front and those out of reach at the end, then clients of
    /// the CSR API.
    pub workloads: Vec<Arc<Sidecar>>,
    cast: Cast,
    tokens: Arc<TokenSource>,
    _keeper: AbortOnDropHandle<()>,
}

impl Cast {
    /// As the options have it.
    pub fn of(options: &DemoOptions) -> Self {
        let agents = options.agents.unwrap_or(AGENTS);
        let some = (agents / ONE_OF).max(1);
        let csr_only = options.csr_only.unwrap_or(CSR_ONLY);
        Self { agents, offline: some, readers: some, csr_only }
    }

    /// How many workloads can be asked to renew on the day.
    pub const fn reachable(&self) -> usize {
        (self.agents - self.offline) as usize
    }

    /// How many workloads there are.
    pub const fn workloads(&self) -> usize {
        (self.agents + self.csr_only) as usize
    }
}

impl Mixed {
    /// Starts a CA and everybody who has an agent.
    ///
    /// # Errors
    /// If one does not come up.
    pub async fn start(cast: Cast, directory: &Path, stage: &mut Stage) -> anyhow::Result<Self> {
        let tokens = Arc::new(TokenSource::new()?);
        let passphrase = directory.join("passphrase");
        ca::write_passphrase(&passphrase)?;
        let seat = Seat { name: "ca-1".to_owned(), passphrase, store: Vec::new() };
        let lifetimes = Lifetimes { leaf_secs: LEAF_SECS, probes: false };
        stage.cas.push(CaProcess::spawn(directory, &seat, lifetimes, &tokens).await?);
        let ca = stage.cas.last_mut().context("no CA")?;
        ca.wait_ready().await?;
        let operator = Operator::new(ca.admin_socket());
        let covered: Vec<_> = (1..=cast.readers).map(workload_id).collect::<Result<_, _>>()?;
        let covered = covered.iter().map(ToString::to_string).collect();
        operator.add_relying_party(RELYING_PARTY, covered).await?;
        let roots = directory.join("roots.pem");
        keeper::write(&operator, &roots).await?;
        let mut workloads = Vec::new();
        for number in 1..=cast.agents {
            let member = Member::start(&stage.cas, directory, number, None).await?;
            let (id, socket) = (member.id.clone(), member.socket.clone());
            let received = Received::default();
            workloads.push(Arc::new(match number <= cast.readers {
                true => Sidecar::start_with_file(id, socket, roots.clone(), received).await?,
                false => Sidecar::start(id, socket, received, None).await?,
            }));
            stage.members.push(member);
        }
        ready(&workloads).await?;
        let readers = workloads.iter().take(cast.readers.into()).cloned().collect();
        let keeper = tokio::spawn(keeper::keep(operator, roots, readers));
        Ok(Self { workloads, cast, tokens, _keeper: AbortOnDropHandle::new(keeper) })
    }

    /// Starts the clients of the CSR API, with the roots of now.
    ///
    /// # Errors
    /// If one gets no certificate.
    pub async fn join_csr_only(&mut self, ca: &CaProcess) -> anyhow::Result<()> {
        let roots = Operator::new(ca.admin_socket()).bundle().await?.roots;
        let first_roots: String =
            roots.iter().map(|der| trust::certificate::pem_block(der)).collect();
        let domain = TrustDomain::parse(TRUST_DOMAIN)?;
        for number in 1..=self.cast.csr_only {
            let name = ("demo", format!("csr{number:02}"));
            let id = SpiffeId::kubernetes(&domain, name.0, &name.1)?;
            let account = Account {
                ca: vec![ca.address()],
                first_roots: first_roots.clone(),
                tokens: Arc::clone(&self.tokens),
                name,
            };
            let client = Sidecar::start_csr_only(id, account, Received::default()).await?;
            self.workloads.push(Arc::new(client));
        }
        ready(&self.workloads).await
    }

    /// Workloads that can be asked to renew on the day.
    pub fn reachable(&self) -> &[Arc<Sidecar>] {
        self.workloads.get(..self.cast.reachable()).unwrap_or_default()
    }

    /// Clients of the CSR API.
    pub fn csr_only(&self) -> &[Arc<Sidecar>] {
        self.workloads.get(self.cast.agents.into()..).unwrap_or_default()
    }

    /// Whether all that can be asked hold a leaf of this root.
    pub fn live_under(&self, root: RootId) -> bool {
        self.reachable().iter().all(|one| one.roots_seen().last() == Some(&root))
    }

    /// Whether all that can be asked trust this root alone.
    pub fn trust_only(&self, root: RootId) -> bool {
        let only = BTreeSet::from([root]);
        let trusts = |one: &Arc<Sidecar>| one.trusted().into_iter().collect::<BTreeSet<_>>();
        self.reachable().iter().all(|one| trusts(one) == only)
    }
}

async fn ready(workloads: &[Arc<Sidecar>]) -> anyhow::Result<()> {
    for workload in workloads {
        tokio::time::timeout(READY_WITHIN, workload.ready()).await.with_context(|| {
            format!("{} has no certificate after {READY_WITHIN:?}", workload.id())
        })??;
    }
    Ok(())
}
