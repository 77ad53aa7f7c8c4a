//! A CA that answers what a test tells it to, true or not.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use proto::banyan::agent::v1 as wire;
use proto::banyan::agent::v1::agent_message::Message as Up;
use proto::banyan::agent::v1::agent_service_server::{AgentService, AgentServiceServer};
use proto::banyan::agent::v1::server_message::Message as Down;
use rcgen::KeyPair;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use trust::join_token::{JoinSecret, JoinToken};
use trust::{Bundle, Sequence, SpiffeId, TrustDomain};

use super::ca::csr;
use super::{Pki, Registered};
use crate::support::TRUST_DOMAIN;

/// Messages that wait for an agent on one stream.
const MESSAGES_MAX: usize = 64;
const CA_ID: &str = "spiffe://example.org/banyan/ca/ca-1";

/// What is wrong with its answers about leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Misbehavior {
    /// Nothing.
    #[default]
    None,
    /// They carry a bundle without roots.
    EmptyBundle,
    /// They are for a key that nobody asked for.
    OtherKey,
    /// They name somebody else.
    OtherIdentity,
}

/// What it shows to whoever connects.
#[derive(Debug)]
pub struct Presented {
    /// Certificate of the TLS server.
    pub shown: Registered,
    /// The bundle that it says is in force.
    pub bundle: wire::Bundle,
}

/// A running CA that lies.
#[derive(Debug)]
pub struct LyingCa {
    address: SocketAddr,
    desk: Arc<Mutex<Desk>>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Desk {
    pki: Arc<Pki>,
    bundle: wire::Bundle,
    misbehavior: Misbehavior,
    registered: u32,
    nacks: Vec<wire::Nack>,
    streams: Vec<mpsc::Sender<Result<wire::ServerMessage, Status>>>,
}

#[derive(Clone)]
struct Service(Arc<Mutex<Desk>>);

impl LyingCa {
    /// A CA with an own root and an own certificate: all is well as long as it is told no lie.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(pki: Arc<Pki>) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let chain = pki.leaf(&csr(&key)?.0, CA_ID)?;
        let bundle = Pki::bundle(&[&pki], 1)?;
        Self::presenting(pki, Presented { shown: Registered { chain, key }, bundle }).await
    }

    /// A server with any certificate.
    ///
    /// # Errors
    /// When no port is free, or the certificate is no good for a server.
    pub async fn presenting(pki: Arc<Pki>, presented: Presented) -> anyhow::Result<Self> {
        let tls = tls(&presented.shown, &pki)?;
        let desk = Desk {
            pki,
            bundle: presented.bundle,
            misbehavior: Misbehavior::None,
            registered: 0,
            nacks: Vec::new(),
            streams: Vec::new(),
        };
        let desk = Arc::new(Mutex::new(desk));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), Service(Arc::clone(&desk))));
        Ok(Self { address, desk, _tasks: tasks })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A token that names this CA and pins its bundle.
    ///
    /// # Errors
    /// When the bundle is no bundle.
    pub fn token(&self) -> anyhow::Result<String> {
        let desk = lock(&self.desk);
        let sequence = Sequence(desk.bundle.sequence);
        let bundle =
            Bundle::from_ders(TrustDomain::parse(TRUST_DOMAIN)?, sequence, &desk.bundle.roots)?;
        let secret = JoinSecret::random(&host::OsRandomness::new());
        Ok(JoinToken::new(SpiffeId::parse(CA_ID)?, bundle.digest(), secret)?.encode().to_string())
    }

    /// Lies about leaves from now on.
    pub fn misbehavior(&self, misbehavior: Misbehavior) {
        lock(&self.desk).misbehavior = misbehavior;
    }

    /// Puts a bundle in force and sends it to every agent.
    pub fn publish(&self, bundle: wire::Bundle) {
        lock(&self.desk).bundle = bundle.clone();
        self.tell(Down::Bundle(bundle));
    }

    /// Sends anything to every agent.
    pub fn tell(&self, message: Down) {
        let message =
            wire::ServerMessage { message: Some(message), ..wire::ServerMessage::default() };
        lock(&self.desk).streams.retain(|stream| stream.try_send(Ok(message.clone())).is_ok());
    }

    /// How many agents showed it a token or a JWT.
    pub fn registered(&self) -> u32 {
        lock(&self.desk).registered
    }

    /// Refusals that agents reported.
    pub fn nacks(&self) -> Vec<wire::Nack> {
        lock(&self.desk).nacks.clone()
    }
}

impl Service {
    fn issue(&self, request: &[u8], id: &str) -> Result<wire::IssueResponse, Status> {
        let desk = lock(&self.0);
        let issue = || {
            let other = csr(&KeyPair::generate()?)?.0;
            let request = if desk.misbehavior == Misbehavior::OtherKey { &other } else { request };
            desk.pki.leaf(
                request,
                if desk.misbehavior == Misbehavior::OtherIdentity {
                    "spiffe://example.org/other"
                } else {
                    id
                },
            )
        };
        let chain = issue().map_err(|error| Status::internal(error.to_string()))?;
        let mut bundle = desk.bundle.clone();
        if desk.misbehavior == Misbehavior::EmptyBundle {
            bundle.roots.clear();
            bundle.sequence += 1;
        }
        Ok(wire::IssueResponse { chain, bundle: Some(bundle) })
    }
}

#[tonic::async_trait]
impl AgentService for Service {
    type ConnectStream = BoxStream<'static, Result<wire::ServerMessage, Status>>;

    async fn get_bundle(
        &self,
        _request: Request<wire::GetBundleRequest>,
    ) -> Result<Response<wire::GetBundleResponse>, Status> {
        Ok(Response::new(wire::GetBundleResponse {
            bundle: Some(lock(&self.0).bundle.clone()),
            ..wire::GetBundleResponse::default()
        }))
    }

    async fn register(
        &self,
        request: Request<wire::RegisterRequest>,
    ) -> Result<Response<wire::IssueResponse>, Status> {
        lock(&self.0).registered += 1;
        let id = "spiffe://example.org/banyan/agent/host-1";
        self.issue(&request.get_ref().csr, id).map(Response::new)
    }

    async fn issue_probe(
        &self,
        _request: Request<wire::IssueProbeRequest>,
    ) -> Result<Response<wire::IssueResponse>, Status> {
        Err(Status::failed_precondition("no probe is asked for"))
    }

    async fn renew_agent(
        &self,
        request: Request<wire::RenewAgentRequest>,
    ) -> Result<Response<wire::IssueResponse>, Status> {
        let id = "spiffe://example.org/banyan/agent/host-1";
        self.issue(&request.get_ref().csr, id).map(Response::new)
    }

    async fn issue_workload(
        &self,
        request: Request<wire::IssueWorkloadRequest>,
    ) -> Result<Response<wire::IssueResponse>, Status> {
        let request = request.into_inner();
        self.issue(&request.csr, &request.spiffe_id).map(Response::new)
    }

    async fn connect(
        &self,
        request: Request<Streaming<wire::AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (to, from) = mpsc::channel(MESSAGES_MAX);
        let first = wire::ServerMessage {
            message: Some(Down::Bundle(lock(&self.0).bundle.clone())),
            ..wire::ServerMessage::default()
        };
        to.try_send(Ok(first)).map_err(|error| Status::internal(error.to_string()))?;
        lock(&self.0).streams.push(to);
        let (desk, mut messages) = (Arc::clone(&self.0), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(message)) = messages.message().await {
                if let Some(Up::Nack(nack)) = message.message {
                    lock(&desk).nacks.push(nack);
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(from).boxed()))
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, service: Service) {
    let routes = tonic::service::Routes::new(AgentServiceServer::new(service)).prepare();
    let mut connections = JoinSet::new();
    loop {
        let Ok((tcp, _)) = listener.accept().await else { return };
        let (acceptor, routes) = (acceptor.clone(), routes.clone());
        connections.spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            let server = auto::Builder::new(TokioExecutor::new());
            // A connection that breaks is the agent's to notice.
            let _ =
                server.serve_connection(TokioIo::new(tls), TowerToHyperService::new(routes)).await;
        });
    }
}

fn tls(shown: &Registered, pki: &Pki) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(pki.root().der().to_vec()))?;
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
    let chain = shown.chain.iter().cloned().map(CertificateDer::from).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(shown.key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}
