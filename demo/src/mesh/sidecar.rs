//! A workload with a built-in proxy: takes its certificate and trust from an agent over SDS, as Envoy does, or its roots from
//! a file, or both from the CSR API, and opens and accepts mTLS connections with them. It stands in for Envoy where a hundred pairs must talk at
//! once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use host::SystemClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::task::AbortOnDropHandle;
use trust::{Clock, RootId, Serial, SpiffeId};

use super::csr::{self, Account};
use super::file;
use super::held::Held;
use super::received::Received;
use super::sds;
use super::tls::{self, TlsPair, Verifies};

/// Longest wait for one connection, both directions and the answer included.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);

/// How long a restarted one is away. Its agent takes all of this process for one, and must have seen the former streams end: to it,
/// streams that overlap are two users of the same secret, of which one then stays away.
const RESTART_TAKES: Duration = Duration::from_secs(1);

/// One running workload.
#[derive(Debug)]
pub struct Sidecar {
    id: SpiffeId,
    address: SocketAddr,
    held: Arc<Held>,
    ready: watch::Receiver<Option<Arc<TlsPair>>>,
    frozen: watch::Sender<bool>,
    source: Source,
    /// Tells a client of the CSR API to ask anew.
    anew: Arc<Notify>,
    restarts: AtomicU64,
    feeding: Mutex<JoinSet<()>>,
    _accepting: AbortOnDropHandle<()>,
}

/// Where a workload gets its certificate and its roots.
#[derive(Debug)]
enum Source {
    /// Both from the agent with this socket.
    Agent(PathBuf),
    /// The certificate from the agent with this socket, the roots from a file.
    AgentAndFile { socket: PathBuf, roots: PathBuf },
    /// Both from the CSR API.
    Csr(Account),
}

impl Sidecar {
    /// Starts the workload with this identity below an agent's socket, listening at this address or at any.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(
        id: SpiffeId,
        socket: PathBuf,
        received: Received,
        at: Option<SocketAddr>,
    ) -> anyhow::Result<Self> {
        Self::run(id, Source::Agent(socket), received, at).await
    }

    /// Starts a workload that has its certificate from an agent, and trusts the roots in a file, whatever the agent says.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start_with_file(
        id: SpiffeId,
        socket: PathBuf,
        roots: PathBuf,
        received: Received,
    ) -> anyhow::Result<Self> {
        Self::run(id, Source::AgentAndFile { socket, roots }, received, None).await
    }

    /// Starts a workload that only speaks the CSR API.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start_csr_only(
        id: SpiffeId,
        account: Account,
        received: Received,
    ) -> anyhow::Result<Self> {
        Self::run(id, Source::Csr(account), received, None).await
    }

    async fn run(
        id: SpiffeId,
        source: Source,
        received: Received,
        at: Option<SocketAddr>,
    ) -> anyhow::Result<Self> {
        let at = at.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = TcpListener::bind(at).await.context("no free port for a workload")?;
        let address = listener.local_addr()?;
        let (tls, ready) = watch::channel(None);
        let accepting = AbortOnDropHandle::new(tokio::spawn(accept(listener, ready.clone())));
        let sidecar = Self {
            id,
            address,
            held: Arc::new(Held::new(tls, received)),
            ready,
            frozen: watch::Sender::new(false),
            source,
            anew: Arc::new(Notify::new()),
            restarts: AtomicU64::new(0),
            feeding: Mutex::default(),
            _accepting: accepting,
        };
        sidecar.feed(Duration::ZERO);
        Ok(sidecar)
    }

    /// Begins to take what its source gives after a while; whatever took it before ends at once.
    fn feed(&self, after: Duration) {
        let mut feeding = self.feeding.lock().unwrap_or_else(PoisonError::into_inner);
        *feeding = JoinSet::new();
        let held = || Arc::clone(&self.held);
        let mut follow = |name, socket: &PathBuf| {
            let follow = sds::follow(name, socket.clone(), held(), self.frozen.subscribe());
            feeding.spawn(async move {
                tokio::time::sleep(after).await;
                follow.await;
            });
        };
        match &self.source {
            Source::Agent(socket) => {
                follow("ROOTCA", socket);
                follow("default", socket);
            }
            Source::AgentAndFile { socket, roots } => {
                follow("default", socket);
                feeding.spawn(file::follow(roots.clone(), held()));
            }
            Source::Csr(account) => {
                feeding.spawn(csr::follow(account.clone(), held(), Arc::clone(&self.anew)));
            }
        }
    }

    /// Ends as a proxy that is restarted does, with nothing in its hands, and begins anew a moment later.
    pub fn restart(&self) {
        self.feeding.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
        self.held.clear();
        // Between the two it is not live, so that who counted before and compares later sees one or the other.
        self.restarts.fetch_add(1, Ordering::SeqCst);
        self.feed(RESTART_TAKES);
    }

    /// How often it was restarted.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::SeqCst)
    }

    /// A client of the CSR API asks for a leaf now, as one does that is restarted.
    pub fn ask_anew(&self) {
        self.anew.notify_one();
    }

    /// Serial number of its leaf, once there is one.
    pub fn serial(&self) -> Option<Serial> {
        self.held.serial()
    }

    /// Frozen, it takes and acknowledges nothing that its agent pushes, and goes on with what it has.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// It is another version from now on, which can verify this.
    ///
    /// # Errors
    /// If its present leaf cannot be used.
    pub fn become_one_that(&self, verifies: Verifies) -> anyhow::Result<()> {
        self.held.set_verifies(verifies)
    }

    /// Whether it has a leaf that is valid by its clock, and roots.
    pub fn is_live(&self) -> bool {
        let validity = self.held.leaf_validity();
        self.ready.borrow().is_some()
            && validity.is_some_and(|validity| validity.contains(SystemClock.now()))
    }

    /// The roots that its leaves chained to so far, each once, in their order.
    pub fn roots_seen(&self) -> Vec<RootId> {
        self.held.roots_seen()
    }

    /// The roots that it trusts now.
    pub fn trusted(&self) -> Vec<RootId> {
        self.held.trusted()
    }

    /// The identity that the workload should have.
    pub const fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Waits until certificate and trust are there.
    ///
    /// # Errors
    /// If the workload's tasks ended.
    pub async fn ready(&self) -> anyhow::Result<()> {
        self.ready.clone().wait_for(Option::is_some).await?;
        Ok(())
    }

    /// How many different leaves this workload has used so far.
    pub fn leaves_seen(&self) -> u64 {
        self.held.leaves_seen()
    }

    /// Opens one new mTLS connection to `other` and checks both identities.
    ///
    /// # Errors
    /// What failed, in the words of the side that saw it.
    pub async fn greet(&self, other: &Self) -> anyhow::Result<()> {
        tokio::time::timeout(CONNECTION_DEADLINE, self.exchange(other))
            .await
            .map_err(|_| anyhow!("no answer within {CONNECTION_DEADLINE:?}"))?
    }

    async fn exchange(&self, other: &Self) -> anyhow::Result<()> {
        let pair = self.ready.borrow().clone().context("the workload has no certificate yet")?;
        let stream = TcpStream::connect(other.address).await.context("connect")?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::clone(&pair.client));
        let mut stream = connector
            .connect(tls::server_name(), stream)
            .await
            .context("handshake, client side")?;
        let seen = tls::peer_id(stream.get_ref().1.peer_certificates())?;
        if seen != other.id {
            bail!("the server is {seen}, expected {}", other.id);
        }
        stream.write_all(b"?").await.context("request")?;
        let mut answer = Vec::new();
        stream
            .read_to_end(&mut answer)
            .await
            .context("answer; the server may have refused the certificate")?;
        if answer != self.id.as_str().as_bytes() {
            bail!("the server took this workload for {}", String::from_utf8_lossy(&answer));
        }
        Ok(())
    }
}

/// Accepts connections and tells each caller who it is.
async fn accept(listener: TcpListener, tls: watch::Receiver<Option<Arc<TlsPair>>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let Some(pair) = tls.borrow().clone() else { continue };
        connections.spawn(async move {
            // What goes wrong here is seen, and counted once, by the client's side.
            let _ = tokio::time::timeout(CONNECTION_DEADLINE, serve(stream, &pair)).await;
        });
    }
}

async fn serve(stream: TcpStream, pair: &TlsPair) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = TlsAcceptor::from(Arc::clone(&pair.server)).accept(stream).await?;
    let mut question = [0];
    stream.read_exact(&mut question).await?;
    let caller = tls::peer_id(stream.get_ref().1.peer_certificates())?;
    stream.write_all(caller.as_str().as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}
