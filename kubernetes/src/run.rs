//! The process: a task for each part, started and ended in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube_access::Connections;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trust::{Clock, Randomness, randomness};

use crate::api::asked;
use crate::board::Board;
use crate::ca::{self, Ca};
use crate::config::Config;
use crate::health;
use crate::inject::{Injector, Reserved};
use crate::lead::{Elector, Leading};
use crate::metrics::Metrics;
use crate::publish::Channel;
use crate::resources::{
    BanyanClusterIssuer, BanyanIssuer, FederatedTrustDomains, Issuers, Rotations, Views, Waivers,
};
use crate::rights;
use crate::sign::{Kind, Scope, Signer};
use crate::world::World;

/// Time for parts to end when the process is asked to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// What is taken from the machine.
#[derive(Clone, Debug)]
pub struct HostDeps {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Tells processes of one name apart.
    pub randomness: Arc<dyn Randomness>,
}

/// A process that runs. Dropped, it ends at once; [`Running::shutdown`] ends it in order.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    webhook: Option<SocketAddr>,
    board: Board,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The cluster cannot be reached as the configuration says.
    #[error("[cluster]: {0}")]
    Cluster(String),
    /// The plain port cannot be had.
    #[error(
        "cannot listen on {address}: {source}; stop what listens there, or set listen (or inject.listen) to another address"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl HostDeps {
    /// Of the machine that runs it.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self { clock: Arc::new(host::SystemClock), randomness: Arc::new(host::OsRandomness::new()) }
    }
}

/// Starts every part that the configuration has a section for. None needs the CA or the cluster to be there yet: what a part
/// waits for is on its line of `/readyz`.
///
/// # Errors
/// [`StartError`] if a file of the cluster cannot be used, or the port cannot be had.
pub async fn start(config: Config, deps: HostDeps) -> Result<Running, StartError> {
    let client = client(&config).await.map_err(StartError::Cluster)?;
    let (board, metrics) = (Board::default(), Arc::<Metrics>::default());
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let (ca, watch) = Ca::at(&config.admin_socket, board.part("ca"), Arc::clone(&metrics));
    tasks.spawn(watch.run(stop.clone()));
    let leading = match config.lead.clone() {
        None => Leading::alone(),
        Some(lead) => {
            let identity = identity(lead.identity.clone(), &*deps.randomness);
            let part = board.part("lead");
            let clock = Arc::clone(&deps.clock);
            let (elector, leading) = Elector::new(client.clone(), lead, identity, clock, part);
            tasks.spawn(elector.run(stop.clone()));
            leading
        }
    };
    let address = config.listen;
    let served =
        health::serve(address, board.clone(), Arc::clone(&metrics), &tasks, stop.clone()).await;
    let address = served.map_err(|source| StartError::Listen { address, source })?;
    let (clock, stopped) = (deps.clock, stop.clone());
    let world = World { ca, client, board: board.clone(), metrics, leading, clock, stop: stopped };
    spawn(&config, &world, &tasks);
    let mut webhook = None;
    if let Some(inject) = config.inject {
        let place = Reserved::at(inject.listen)
            .map_err(|source| StartError::Listen { address: inject.listen, source })?;
        webhook = Some(place.address);
        tasks.spawn(Injector::new(world, inject, tasks.clone()).run(place));
    }
    tracing::info!(%address, "health and metrics are served");
    Ok(Running { address, webhook, board, stop, tasks })
}

/// Nothing is sent yet: what can be wrong is a file. Its token and the server's CA are read again as they are replaced.
async fn client(config: &Config) -> Result<Client, String> {
    let connections = Connections::new(config.access.clone());
    connections.one().await.map(|connection| connection.client)
}

/// Starts the parts, each in tasks of its own.
fn spawn(config: &Config, world: &World, tasks: &TaskTracker) {
    for channel in config.channels.clone() {
        tasks.spawn(Channel::new(world.clone(), channel).run());
    }
    let sign = &config.sign;
    for (kind, signers) in [(Kind::Csr, &sign.csr), (Kind::PodCertificate, &sign.pod_certificates)]
    {
        if !signers.is_empty() {
            let scope = Scope { signers: signers.clone(), ..Scope::default() };
            tasks.spawn(Signer::new(world.clone(), kind, scope).run());
        }
    }
    if let Some(cert_manager) = &sign.cert_manager {
        let cluster_domain = cert_manager.cluster_domain.clone();
        let scope = Scope { cluster_domain, ..Scope::default() };
        tasks.spawn(Signer::new(world.clone(), Kind::CertManager, scope).run());
        tasks.spawn(Issuers::<BanyanIssuer>::new(world.clone()).run());
        tasks.spawn(Issuers::<BanyanClusterIssuer>::new(world.clone()).run());
    }
    if let Some(resources) = &config.resources {
        tasks.spawn(Rotations::new(world.clone(), resources).run());
        tasks.spawn(Views::new(world.clone(), resources).run());
        tasks.spawn(Waivers::new(world.clone(), resources).run());
        tasks.spawn(FederatedTrustDomains::new(world.clone(), resources).run());
    }
}

/// Looks at what a configuration names: files, the CA, the cluster and the rights there. Answers with every problem, with the key that it is about.
pub async fn inspect(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    match client(config).await {
        Err(error) => problems.push(format!("cluster: {error}")),
        Ok(client) => {
            let version = asked(client.apiserver_version()).await;
            let missing = match version {
                Ok(_) => rights::missing(&client, config).await,
                Err(error) => Err(error),
            };
            match missing {
                Ok(missing) => problems.extend(missing),
                Err(error) => problems.push(format!("cluster: {error}")),
            }
        }
    }
    if let Err(error) = ca::answers(&config.admin_socket).await {
        problems.push(format!("admin_socket: {error}"));
    }
    problems
}

/// The Pod's name, and what tells it from a former Pod of that name.
fn identity(set: Option<String>, source: &dyn Randomness) -> String {
    set.unwrap_or_else(|| {
        let pod = std::env::var("HOSTNAME").unwrap_or_else(|_| "banyan".to_owned());
        let number = u32::from_be_bytes(randomness::random_bytes(source));
        format!("{pod}_{number:08x}")
    })
}

impl Running {
    /// Where health and metrics are served.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the webhook is served, if it is.
    #[must_use]
    pub const fn webhook(&self) -> Option<SocketAddr> {
        self.webhook
    }

    /// How each part is.
    #[must_use]
    pub const fn board(&self) -> &Board {
        &self.board
    }

    /// Ends every part, and gives the Lease back.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(STOP_WITHIN, self.tasks.wait()).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
