//! Start and end of an agent.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use host::{DirLock, DirLockError, Disk, LoosePermissions, check_private};
use proto::banyan::agent::v1::local_service_server::LocalServiceServer;
use proto::sds::SecretDiscoveryServiceServer;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trust::{Chain, Clock, Randomness, Serial, Timestamp};

use crate::bundle_store::{BundleStore, BundleStoreError};
use crate::ca_client::{Addresses, CaClient};
use crate::config::AgentConfig;
use crate::envoy_admin::Admin;
use crate::evidence::Evidence;
use crate::foreign::{ForeignStore, ForeignStoreError};
use crate::holders::{Account, HolderFile, HolderFileError};
use crate::hub::{Command, Hub, HubHandle, Parts, Publish};
use crate::identity::{IdentityError, IdentityFiles};
use crate::in_flight::InFlight;
use crate::install::SubscriptionId;
use crate::key::PrivateKey;
use crate::leaf::{Expected, Judgement, Leaf};
use crate::local::Local;
use crate::member::Member;
use crate::node::OfNode;
use crate::open_files;
use crate::probe::Prober;
use crate::process::{KernelProcesses, Processes};
use crate::sds::attest::Attestor;
use crate::sds::server::SdsService;
use crate::sds::socket::{Callers, Incoming, SocketError};
use crate::status::Status;
use crate::uplink::{Leave, Uplink};

/// Time for the CA to hear at shutdown what nobody holds.
const FAREWELL: Duration = Duration::from_secs(2);
/// Time for connections to end at shutdown.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);
/// Streams on one connection. Envoy opens one for each secret.
const STREAMS_PER_CONNECTION: u32 = 256;
/// Largest request: a dozen names and an error text.
const REQUEST_MAX: usize = 64 * 1024;

/// What an agent takes from the machine.
#[derive(Clone, Debug)]
pub struct HostDeps {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Spreads renewals and retries.
    pub randomness: Arc<dyn Randomness>,
    /// Takes every durable write.
    pub disk: Arc<dyn Disk>,
}

impl HostDeps {
    /// The clock, randomness and disk of the machine that runs it.
    pub fn of_this_machine() -> Self {
        Self {
            clock: Arc::new(host::SystemClock),
            randomness: Arc::new(host::OsRandomness::new()),
            disk: Arc::new(host::RealDisk),
        }
    }
}

/// Why an agent does not start. Nothing was changed, and a state that cannot be read is never replaced.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory cannot be made.
    #[error("state_dir {} cannot be made: {source}", path.display())]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Others may read the state directory.
    #[error(transparent)]
    Loose(#[from] LoosePermissions),
    /// Another agent uses the state directory.
    #[error(transparent)]
    Locked(#[from] DirLockError),
    /// The stored bundle cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleStoreError),
    /// The stored bundles of other trust domains cannot be used.
    #[error(transparent)]
    Foreign(#[from] ForeignStoreError),
    /// The stored account of holders cannot be used.
    #[error(transparent)]
    Holders(#[from] HolderFileError),
    /// The agent's own key or certificate cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The socket cannot be listened at.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// It is not known of which node the agent is, or where it runs.
    #[error("{0}")]
    Node(String),
}

/// The agent of a host.
#[derive(Debug)]
pub struct Agent;

/// An agent that runs. Dropped, it ends at once; [`Running::shutdown`] ends it in order.
#[derive(Debug)]
pub struct Running {
    socket: PathBuf,
    status: watch::Receiver<Arc<Status>>,
    hub: HubHandle,
    leave: Leave,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    _lock: DirLock,
}

impl Agent {
    /// Starts an agent: reads its state, listens at its socket, and goes on in tasks of its own.
    ///
    /// It needs no CA to start: what it cannot get yet is a condition in [`Running::status`], and is tried again.
    ///
    /// # Errors
    /// [`StartError`] when the state or the socket cannot be used, with what to do about it.
    pub async fn start(config: AgentConfig, deps: HostDeps) -> Result<Running, StartError> {
        start_with(config, deps, Arc::new(KernelProcesses)).await
    }
}

impl Running {
    /// The socket that secrets are served at.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The state as of now.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status.borrow())
    }

    /// The state at every change.
    pub fn changes(&self) -> watch::Receiver<Arc<Status>> {
        self.status.clone()
    }

    /// Ends the agent: the CA is told which leaves nobody holds, streams are closed, keys are wiped, and the state stays for
    /// the next start. Holders go on with what they have.
    pub async fn shutdown(mut self) {
        let connected = self.status.borrow().connected;
        if connected {
            // Whoever does not hear it asks about those leaves when the agent is back.
            let _ = tokio::time::timeout(FAREWELL, self.farewell()).await;
        }
        self.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_WAIT, ended).await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}

impl Running {
    async fn farewell(&self) {
        let (reply, said) = oneshot::channel();
        if self.hub.send(Command::Farewell { reply }).await.is_ok() && said.await.is_ok() {
            self.leave.asked.cancel();
            self.leave.done.cancelled().await;
        }
    }
}

/// What is read from the state directory.
struct State {
    store: BundleStore,
    foreign: ForeignStore,
    holder_file: HolderFile,
    account: Account,
    last_id: u64,
    files: IdentityFiles,
    key: Arc<PrivateKey>,
    chain: Option<Vec<Vec<u8>>>,
    lock: DirLock,
}

pub(crate) async fn start_with(
    config: AgentConfig,
    deps: HostDeps,
    processes: Arc<dyn Processes>,
) -> Result<Running, StartError> {
    let limits = open_files::fitted(config.limits);
    let config = Arc::new(AgentConfig { limits, ..config });
    let (settings, host, boot) = (Arc::clone(&config), deps.clone(), processes.boot());
    // The few small files are read where blocking does no harm.
    let read = tokio::task::spawn_blocking(move || State::read(&settings, &host, boot)).await;
    let state = read.map_err(|error| StartError::StateDir {
        path: config.state_dir.clone(),
        source: std::io::Error::other(error),
    })??;
    let node = config.node.as_ref().map(|node| OfNode::of(node, &config.trust_domain)).transpose();
    let node = node.map_err(StartError::Node)?;
    let callers = match &node {
        Some(node) => Callers::Pods(node.callers(config.limits.connections)),
        None => Callers::Users(config.entitlements().shares(config.limits.connections)),
    };
    let incoming = Incoming::bind(&config.socket, config.socket_mode, callers)?;
    Ok(spawn(config, deps, processes, state, Doors { incoming, node }))
}

/// Where callers come in, and how they are told apart.
struct Doors {
    incoming: Incoming,
    node: Option<OfNode>,
}

impl State {
    fn read(config: &AgentConfig, deps: &HostDeps, boot: String) -> Result<Self, StartError> {
        let dir = &config.state_dir;
        deps.disk
            .create_dir_all(dir, 0o700)
            .map_err(|source| StartError::StateDir { path: dir.clone(), source })?;
        check_private(dir)?;
        let lock = DirLock::acquire(dir)?;
        let store = BundleStore::open(Arc::clone(&deps.disk), dir, &config.trust_domain)?;
        let foreign = ForeignStore::open(Arc::clone(&deps.disk), dir, &config.trust_domain)?;
        let holder_file = HolderFile::new(Arc::clone(&deps.disk), dir, boot);
        let mut last_id = 0;
        let account = holder_file.read(&config.trust_domain, deps.clock.uptime(), || {
            last_id += 1;
            SubscriptionId(last_id)
        })?;
        let files = IdentityFiles::new(Arc::clone(&deps.disk), dir);
        let key = Arc::new(files.key()?);
        let chain = files.chain(&key, &config.trust_domain)?;
        Ok(Self { store, foreign, holder_file, account, last_id, files, key, chain, lock })
    }

    /// The agent's own certificate of a former run, whether it still stands or not.
    fn former(&self) -> Option<(Serial, Timestamp)> {
        let chain = Chain::parse(self.chain.as_ref()?).ok()?;
        Some((chain.leaf().serial()?, chain.leaf().validity().not_after()))
    }

    /// The agent's own certificate of a former run, if it still stands under the bundle.
    fn credential(&self, config: &AgentConfig, clock: &dyn Clock) -> Option<Leaf> {
        let bundle = self.store.current()?;
        let (born, now_millis) = (bundle.sequence(), clock.now_millis());
        let judgement = Judgement { bundle, born, promised: true, now_millis };
        let expected = Expected::Agent(&config.trust_domain);
        let leaf = Leaf::accept(self.chain.as_ref()?, Arc::clone(&self.key), expected, &judgement);
        leaf.inspect_err(|error| tracing::warn!(%error, "the stored certificate is not used")).ok()
    }
}

fn spawn(
    config: Arc<AgentConfig>,
    deps: HostDeps,
    processes: Arc<dyn Processes>,
    state: State,
    Doors { incoming, node }: Doors,
) -> Running {
    let credential = state.credential(&config, deps.clock.as_ref()).map(Arc::new);
    let (trust_tx, trust) = watch::channel(state.store.current().cloned());
    let (credential_tx, credential) = watch::channel(credential);
    let (evidence_tx, evidence) = watch::channel(Arc::new(Evidence::default()));
    let (status_tx, status) = watch::channel(Arc::new(Status::default()));
    let (renewal_tx, renewal) = watch::channel(None);
    let (listened_tx, leaves) = watch::channel(Default::default());
    let (probes, wanted) = watch::channel(None);
    let (turned_away_tx, turned_away) = watch::channel(None);
    let (misnamed_tx, misnamed) = watch::channel(None);
    let (addresses, randomness) = (config.ca_addresses.clone(), Arc::clone(&deps.randomness));
    let addresses = Addresses::new(addresses, Arc::clone(&deps.clock), randomness);
    let client =
        CaClient::new(addresses, Arc::clone(&deps.clock), trust.clone(), credential.clone());
    let client = Arc::new(client);
    let (in_flight, former, leave) = (InFlight::default(), state.former(), Leave::default());
    let parts = Parts {
        config: Arc::clone(&config),
        clock: Arc::clone(&deps.clock),
        randomness: Arc::clone(&deps.randomness),
        disk: Arc::clone(&deps.disk),
        processes,
        store: state.store,
        foreign: state.foreign,
        holder_file: state.holder_file,
        client: Arc::clone(&client),
        in_flight: in_flight.clone(),
        former,
        credential: credential.clone(),
        pods: node.as_ref().map(OfNode::pods),
        publish: Publish {
            trust: trust_tx,
            evidence: evidence_tx,
            status: status_tx,
            listened: listened_tx,
            renewal: renewal_tx,
            misnamed: misnamed_tx,
        },
    };
    let (hub, handle) = Hub::new(parts, state.account, state.last_id);
    let member = Member {
        config: Arc::clone(&config),
        clock: deps.clock,
        randomness: Arc::clone(&deps.randomness),
        files: Arc::new(state.files),
        key: state.key,
        client: Arc::clone(&client),
        hub: handle.clone(),
        in_flight,
        trust: trust.clone(),
        former: Mutex::new(state.chain),
        credential: credential_tx,
        renewal,
        turned_away,
        misnamed,
    };
    let (admin, found) = Admin::new(&config, &member.clock, &handle, wanted.clone());
    let prober = Prober {
        config: Arc::clone(&config),
        clock: Arc::clone(&member.clock),
        client: Arc::clone(&client),
        hub: handle.clone(),
        trust: trust.clone(),
        leaves,
        wanted,
        found,
    };
    let uplink = Uplink {
        probes,
        comeback: Duration::ZERO,
        away: Duration::ZERO,
        missed: false,
        turned_away: turned_away_tx,
        clock: Arc::clone(&member.clock),
        config: Arc::clone(&config),
        randomness: deps.randomness,
        client,
        hub: handle.clone(),
        evidence,
        trust,
        credential,
        leave: leave.clone(),
    };
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    tasks.spawn(hub.run(stop.clone()));
    tasks.spawn(member.run(stop.clone()));
    tasks.spawn(uplink.run(stop.clone()));
    tasks.spawn(prober.run(stop.clone()));
    tasks.spawn(admin.run(stop.clone()));
    let local = Local::new(status.clone(), Arc::clone(&config));
    let attestor = node.as_ref().map_or(Attestor::Users, OfNode::attestor);
    if let Some(node) = node {
        tasks.spawn(node.watch.run(stop.clone()));
    }
    let services = Services { attestor, hub: handle.clone(), local };
    tasks.spawn(serve(incoming, services, stop.clone()));
    tracing::info!(socket = %config.socket.display(), trust_domain = %config.trust_domain, "agent started");
    let socket = config.socket.clone();
    Running { socket, status, hub: handle, leave, stop, tasks, _lock: state.lock }
}

/// What is served at the socket.
struct Services {
    attestor: Attestor,
    hub: HubHandle,
    local: Local,
}

async fn serve(incoming: Incoming, services: Services, stop: CancellationToken) {
    let Services { attestor, hub, local } = services;
    let readers = TaskTracker::new();
    let service = SdsService::new(attestor, hub, readers.clone(), stop.clone());
    let service = SecretDiscoveryServiceServer::new(service).max_decoding_message_size(REQUEST_MAX);
    let served = tonic::transport::Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .add_service(service)
        .add_service(LocalServiceServer::new(local).max_decoding_message_size(REQUEST_MAX))
        .serve_with_incoming_shutdown(incoming, stop.cancelled())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the socket is served no longer");
    }
    readers.close();
    readers.wait().await;
}
