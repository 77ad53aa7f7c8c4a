//! A workload with a built-in proxy: takes its certificate and trust from an agent over SDS, as Envoy does, or from the
//! CSR API, and opens and accepts mTLS connections with them. It stands in for Envoy where a hundred pairs must talk at
//! once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use host::SystemClock;
use hyper_util::rt::TokioIo;
use prost::Message;
use proto::sds::{
    CertificateValidationContext, DataSource, DiscoveryRequest, Node, Secret, SecretDiscoveryServiceClient,
    Specifier, TlsCertificate, secret,
};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::transport::{Channel, Endpoint};
use trust::{Certificate, Clock, RootId, SpiffeId, Validity};

use super::csr::{self, Account};
use super::tls::{self, TlsPair};

/// Type URL of every SDS secret.
const SECRET_TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// Longest wait for one connection, both directions and the answer included.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);
/// Wait before an SDS stream that ended is opened again.
const STREAM_RETRY: Duration = Duration::from_millis(200);

/// One running workload.
#[derive(Debug)]
pub struct Sidecar {
    id: SpiffeId,
    address: SocketAddr,
    state: Arc<State>,
    ready: watch::Receiver<Option<Arc<TlsPair>>>,
    frozen: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

/// What a workload presents and trusts.
#[derive(Debug)]
pub(super) struct State {
    leaf: std::sync::Mutex<Option<Leaf>>,
    roots: std::sync::Mutex<Option<Trusted>>,
    tls: watch::Sender<Option<Arc<TlsPair>>>,
    leaves_seen: AtomicU64,
    roots_seen: std::sync::Mutex<Vec<RootId>>,
}

struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    validity: Validity,
}

#[derive(Debug)]
struct Trusted {
    store: Arc<RootCertStore>,
    ders: Vec<CertificateDer<'static>>,
    pem: String,
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

impl Sidecar {
    /// Starts the workload with this identity below an agent's socket.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(id: SpiffeId, socket: PathBuf) -> anyhow::Result<Self> {
        Self::run(id, |state, frozen, tasks| {
            for name in ["ROOTCA", "default"] {
                tasks.spawn(follow(name, socket.clone(), Arc::clone(state), frozen.subscribe()));
            }
        })
        .await
    }

    /// Starts a workload that only speaks the CSR API.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start_csr_only(id: SpiffeId, account: Account) -> anyhow::Result<Self> {
        Self::run(id, |state, _, tasks| {
            tasks.spawn(csr::follow(account, Arc::clone(state)));
        })
        .await
    }

    async fn run(
        id: SpiffeId,
        feed: impl FnOnce(&Arc<State>, &watch::Sender<bool>, &mut JoinSet<()>),
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no free port for a workload")?;
        let address = listener.local_addr()?;
        let (tls, ready) = watch::channel(None);
        let state = Arc::new(State {
            leaf: std::sync::Mutex::default(),
            roots: std::sync::Mutex::default(),
            tls,
            leaves_seen: AtomicU64::new(0),
            roots_seen: std::sync::Mutex::default(),
        });
        let (mut tasks, frozen) = (JoinSet::new(), watch::Sender::new(false));
        feed(&state, &frozen, &mut tasks);
        tasks.spawn(accept(listener, ready.clone()));
        Ok(Self { id, address, state, ready, frozen, _tasks: tasks })
    }

    /// Frozen, it takes and acknowledges nothing that its agent pushes, and goes on with what it has.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// Whether its leaf is valid by its clock.
    pub fn is_live(&self) -> bool {
        self.state.leaf_validity().is_some_and(|validity| validity.contains(SystemClock.now()))
    }

    /// The roots that its leaves chained to so far, each once, in their order.
    pub fn roots_seen(&self) -> Vec<RootId> {
        lock(&self.state.roots_seen).clone()
    }

    /// The roots that it trusts now.
    pub fn trusted(&self) -> Vec<RootId> {
        let roots = lock(&self.state.roots);
        roots.iter().flat_map(|trusted| &trusted.ders).map(|der| RootId::of(der)).collect()
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
        self.state.leaves_seen.load(Ordering::Relaxed)
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
        let mut stream =
            connector.connect(tls::server_name(), stream).await.context("handshake, client side")?;
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

/// Keeps one secret's stream open for ever: applies what comes, then acknowledges it.
async fn follow(name: &'static str, socket: PathBuf, state: Arc<State>, frozen: watch::Receiver<bool>) {
    loop {
        if let Err(error) = stream_once(name, &socket, &state, frozen.clone()).await {
            tracing::debug!(secret = name, error = %format!("{error:#}"), "SDS stream ended");
        }
        tokio::time::sleep(STREAM_RETRY).await;
    }
}

async fn stream_once(
    name: &str,
    socket: &std::path::Path,
    state: &State,
    mut frozen: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut client = SecretDiscoveryServiceClient::new(connect(socket).await?);
    let (requests, outgoing) = tokio::sync::mpsc::channel(4);
    let request = |nonce: &str, version: &str| DiscoveryRequest {
        version_info: version.to_owned(),
        node: Some(Node { id: "demo".to_owned(), ..Node::default() }),
        resource_names: vec![name.to_owned()],
        type_url: SECRET_TYPE.to_owned(),
        response_nonce: nonce.to_owned(),
        error_detail: None,
    };
    requests.send(request("", "")).await?;
    let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
    let mut incoming = client.stream_secrets(outgoing).await?.into_inner();
    let mut applied = String::new();
    while let Some(response) = incoming.message().await? {
        frozen.wait_for(|frozen| !frozen).await?;
        let mut answer = request(&response.nonce, &response.version_info);
        match response.resources.iter().try_for_each(|any| state.apply(&any.value)) {
            Ok(()) => applied = response.version_info,
            Err(error) => {
                answer.version_info.clone_from(&applied);
                answer.error_detail =
                    Some(proto::sds::Status { code: 3, message: format!("{error:#}"), ..Default::default() });
            }
        }
        requests.send(answer).await?;
    }
    Ok(())
}

async fn connect(socket: &std::path::Path) -> anyhow::Result<Channel> {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Ok(Endpoint::from_static("http://localhost").connect_with_connector(connector).await?)
}

impl State {
    fn apply(&self, secret: &[u8]) -> anyhow::Result<()> {
        match Secret::decode(secret)?.r#type {
            Some(secret::Type::TlsCertificate(certificate)) => self.take_leaf(certificate)?,
            Some(secret::Type::ValidationContext(context)) => self.take_roots(context)?,
            None => bail!("a secret of an unknown kind"),
        }
        self.rebuild()
    }

    /// End and start of the present leaf.
    pub(super) fn leaf_validity(&self) -> Option<Validity> {
        lock(&self.leaf).as_ref().map(|leaf| leaf.validity)
    }

    /// The roots that are trusted now, in PEM.
    pub(super) fn roots_pem(&self) -> Option<String> {
        lock(&self.roots).as_ref().map(|trusted| trusted.pem.clone())
    }

    /// Takes leaf and trust of one reply.
    pub(super) fn take_both(&self, chain: &[u8], key: &[u8], roots: &[u8]) -> anyhow::Result<()> {
        self.put_roots(roots)?;
        self.put_leaf(chain, key)?;
        self.rebuild()
    }

    fn take_leaf(&self, certificate: TlsCertificate) -> anyhow::Result<()> {
        let chain = inline(certificate.certificate_chain).context("certificate chain")?;
        let key = inline(certificate.private_key).context("private key")?;
        self.put_leaf(&chain, &key)
    }

    fn take_roots(&self, context: CertificateValidationContext) -> anyhow::Result<()> {
        self.put_roots(&inline(context.trusted_ca).context("trusted CA")?)
    }

    fn put_leaf(&self, chain: &[u8], key: &[u8]) -> anyhow::Result<()> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>()?;
        let leaf = Certificate::parse(chain.first().context("the chain is empty")?)?;
        let last = Certificate::parse(chain.last().context("the chain is empty")?)?;
        let key = PrivateKeyDer::from_pem_slice(key)?;
        self.note_root(&last);
        let mut slot = lock(&self.leaf);
        let known =
            slot.as_ref().and_then(|held| held.chain.first()).is_some_and(|held| held.as_ref() == leaf.der());
        if !known {
            self.leaves_seen.fetch_add(1, Ordering::Relaxed);
        }
        *slot = Some(Leaf { chain, key, validity: leaf.validity() });
        Ok(())
    }

    /// Notes the trusted root that issued the end of a chain.
    fn note_root(&self, last: &Certificate) {
        let roots = lock(&self.roots);
        let issued = |der: &&CertificateDer<'static>| {
            Certificate::parse(der).is_ok_and(|root| root.subject_der() == last.issuer_der())
        };
        let issuer = roots.iter().flat_map(|trusted| &trusted.ders).find(issued).map(|der| RootId::of(der));
        let mut seen = lock(&self.roots_seen);
        let last = seen.last().copied();
        seen.extend(issuer.filter(|root| last != Some(*root)));
    }

    fn put_roots(&self, pem: &[u8]) -> anyhow::Result<()> {
        let mut store = RootCertStore::empty();
        let ders: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
        for certificate in &ders {
            store.add(certificate.clone())?;
        }
        if store.is_empty() {
            bail!("the validation context has no root");
        }
        let pem = String::from_utf8_lossy(pem).into_owned();
        *lock(&self.roots) = Some(Trusted { store: Arc::new(store), ders, pem });
        // A leaf that came before its roots is told apart now.
        let last = lock(&self.leaf).as_ref().and_then(|leaf| Certificate::parse(leaf.chain.last()?).ok());
        if let Some(last) = last {
            self.note_root(&last);
        }
        Ok(())
    }

    fn rebuild(&self) -> anyhow::Result<()> {
        let roots = lock(&self.roots).as_ref().map(|trusted| Arc::clone(&trusted.store));
        let leaf = lock(&self.leaf);
        if let (Some(leaf), Some(roots)) = (leaf.as_ref(), roots) {
            let pair = TlsPair::new(leaf.chain.clone(), leaf.key.clone_key(), roots)?;
            self.tls.send_replace(Some(Arc::new(pair)));
        }
        Ok(())
    }
}

fn inline(source: Option<DataSource>) -> anyhow::Result<Vec<u8>> {
    match source.and_then(|source| source.specifier) {
        Some(Specifier::InlineBytes(bytes)) => Ok(bytes),
        Some(Specifier::InlineString(text)) => Ok(text.into_bytes()),
        _ => bail!("the secret is not inline"),
    }
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
