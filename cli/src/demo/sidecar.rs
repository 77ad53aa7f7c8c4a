//! A workload with a built-in proxy: takes its certificate and trust from an agent over SDS, as Envoy does, and opens
//! and accepts mTLS connections with them. It stands in for Envoy where a hundred pairs must talk at once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
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
use trust::{Certificate, SpiffeId};

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
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct State {
    leaf: std::sync::Mutex<Option<Leaf>>,
    roots: std::sync::Mutex<Option<Arc<RootCertStore>>>,
    tls: watch::Sender<Option<Arc<TlsPair>>>,
    leaves_seen: AtomicU64,
}

struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
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
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no free port for a workload")?;
        let address = listener.local_addr()?;
        let (tls, ready) = watch::channel(None);
        let state = Arc::new(State {
            leaf: std::sync::Mutex::default(),
            roots: std::sync::Mutex::default(),
            tls,
            leaves_seen: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        for name in ["ROOTCA", "default"] {
            tasks.spawn(follow(name, socket.clone(), Arc::clone(&state)));
        }
        tasks.spawn(accept(listener, ready.clone()));
        Ok(Self { id, address, state, ready, _tasks: tasks })
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
async fn follow(name: &'static str, socket: PathBuf, state: Arc<State>) {
    loop {
        if let Err(error) = stream_once(name, &socket, &state).await {
            tracing::debug!(secret = name, error = %format!("{error:#}"), "SDS stream ended");
        }
        tokio::time::sleep(STREAM_RETRY).await;
    }
}

async fn stream_once(name: &str, socket: &std::path::Path, state: &State) -> anyhow::Result<()> {
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

    fn take_leaf(&self, certificate: TlsCertificate) -> anyhow::Result<()> {
        let chain = inline(certificate.certificate_chain).context("certificate chain")?;
        let key = inline(certificate.private_key).context("private key")?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain).collect::<Result<_, _>>()?;
        let leaf = Certificate::parse(chain.first().context("the chain is empty")?)?;
        let key = PrivateKeyDer::from_pem_slice(&key)?;
        let mut slot = lock(&self.leaf);
        let known =
            slot.as_ref().and_then(|held| held.chain.first()).is_some_and(|held| held.as_ref() == leaf.der());
        if !known {
            self.leaves_seen.fetch_add(1, Ordering::Relaxed);
        }
        *slot = Some(Leaf { chain, key });
        Ok(())
    }

    fn take_roots(&self, context: CertificateValidationContext) -> anyhow::Result<()> {
        let pem = inline(context.trusted_ca).context("trusted CA")?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate?)?;
        }
        if roots.is_empty() {
            bail!("the validation context has no root");
        }
        *lock(&self.roots) = Some(Arc::new(roots));
        Ok(())
    }

    fn rebuild(&self) -> anyhow::Result<()> {
        let roots = lock(&self.roots).clone();
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
