//! A client as an agent is one: it joins with a token and asks for leaves over its own certificate.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use ca_server::Running;
use host::SystemClock;
use hyper_util::rt::TokioIo;
use proto::banyan::admin::v1::admin_service_client::AdminServiceClient;
use proto::banyan::admin::v1::{
    CreateTokenRequest, ListRootsRequest, StatusRequest, StatusResponse,
};
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use proto::banyan::agent::v1::{
    AgentMessage, GetBundleRequest, IssueWorkloadRequest, RegisterRequest, ServerMessage,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_types::StatusExt as _;
use tower::service_fn;
use trust::{Certificate, Clock};

/// Longest wait for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A leaf that a client was given.
pub type Leaf = Certificate;

/// Where a server can be reached. Its port changes with each start; clones follow.
#[derive(Debug, Clone)]
pub struct Door {
    grpc: Arc<Mutex<SocketAddr>>,
    plain: Arc<Mutex<SocketAddr>>,
    admin_socket: PathBuf,
    roots: Arc<Mutex<RootCertStore>>,
    clock: Arc<dyn Clock>,
}

impl Door {
    /// The door of a server in this process.
    ///
    /// # Errors
    /// When its bundle has a root that TLS does not take.
    pub fn of(running: &Running) -> anyhow::Result<Self> {
        let door = Self::at(running.grpc_addr, running.plain_addr, running.admin_socket.clone());
        let bundle = running.bundle();
        door.trust(bundle.roots().iter().map(|root| root.der().to_vec()))?;
        Ok(door)
    }

    /// A door that trusts nobody yet.
    pub(crate) fn at(grpc: SocketAddr, plain: SocketAddr, admin_socket: PathBuf) -> Self {
        let (grpc, plain) = (Arc::new(Mutex::new(grpc)), Arc::new(Mutex::new(plain)));
        let roots = Arc::new(Mutex::new(RootCertStore::empty()));
        Self { grpc, plain, admin_socket, roots, clock: Arc::new(SystemClock) }
    }

    /// The same door for clients with another clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Learns where the server is after another start.
    pub fn moved(&self, grpc: SocketAddr, plain: SocketAddr) {
        *self.grpc.lock().unwrap_or_else(PoisonError::into_inner) = grpc;
        *self.plain.lock().unwrap_or_else(PoisonError::into_inner) = plain;
    }

    fn trust(&self, roots: impl Iterator<Item = Vec<u8>>) -> anyhow::Result<()> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(CertificateDer::from(root))?;
        }
        *self.roots.lock().unwrap_or_else(PoisonError::into_inner) = store;
        Ok(())
    }

    /// Trusts the roots that the admin API lists.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn trust_listed(&self) -> anyhow::Result<()> {
        let roots = self.admin().list_roots(ListRootsRequest::default()).await?.into_inner().roots;
        self.trust(roots.into_iter().map(|root| root.der))
    }

    /// The admin API.
    #[must_use]
    pub fn admin(&self) -> AdminServiceClient<Channel> {
        let path = self.admin_socket.clone();
        let connect = service_fn(move |_| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        });
        let endpoint = Endpoint::from_static("http://admin").timeout(ANSWER_WITHIN);
        AdminServiceClient::new(endpoint.connect_with_connector_lazy(connect))
    }

    /// The server's state as operators see it.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn status(&self) -> Result<StatusResponse, Status> {
        Ok(self.admin().status(StatusRequest {}).await?.into_inner())
    }

    /// A join token.
    ///
    /// # Errors
    /// As the server refuses.
    pub async fn token(&self, agent: &str, identity: &str) -> Result<String, Status> {
        let request = CreateTokenRequest {
            agent: agent.to_owned(),
            identities: vec![identity.to_owned()],
            ttl_seconds: 0,
            ..Default::default()
        };
        Ok(self.admin().create_token(request).await?.into_inner().token)
    }

    /// Whether `/readyz` answers 200; anything else counts as not ready.
    pub async fn is_ready(&self) -> bool {
        let addr = *self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        let ask = async {
            let mut stream = TcpStream::connect(addr).await?;
            let request = b"GET /readyz HTTP/1.1\r\nhost: ca\r\nconnection: close\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, request).await?;
            let mut answer = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await?;
            Ok::<_, std::io::Error>(answer.starts_with(b"HTTP/1.1 200"))
        };
        matches!(tokio::time::timeout(ANSWER_WITHIN, ask).await, Ok(Ok(true)))
    }

    /// A channel that connects when it is used, and again after each loss.
    fn channel(&self, identity: Option<(Vec<Vec<u8>>, &KeyPair)>) -> anyhow::Result<Channel> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let time = Arc::new(Time(Arc::clone(&self.clock)));
        let builder = ClientConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots);
        let mut config = match identity {
            Some((chain, key)) => {
                let chain = chain.into_iter().map(CertificateDer::from).collect();
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
                builder.with_client_auth_cert(chain, key)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (connector, grpc) = (TlsConnector::from(Arc::new(config)), Arc::clone(&self.grpc));
        let name = ServerName::try_from("localhost")?;
        let connect = service_fn(move |_| {
            let (connector, name) = (connector.clone(), name.clone());
            let addr = *grpc.lock().unwrap_or_else(PoisonError::into_inner);
            async move {
                let tcp = TcpStream::connect(addr).await?;
                tcp.set_nodelay(true)?;
                Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, tcp).await?))
            }
        });
        let endpoint = Endpoint::from_static("https://localhost").timeout(ANSWER_WITHIN);
        Ok(endpoint.connect_with_connector_lazy(connect))
    }
}

#[derive(Debug)]
struct Time(Arc<dyn Clock>);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let secs = u64::try_from(self.0.now().as_secs()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(secs)))
    }
}

/// A registered agent with one workload.
#[derive(Debug)]
pub struct Member {
    client: AgentServiceClient<Channel>,
    identity: String,
    leaf: Leaf,
    own: (Vec<Vec<u8>>, KeyPair),
    workload: KeyPair,
    workload_chain: Vec<Vec<u8>>,
}

/// Whose certificate a channel shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Nobody's.
    Nothing,
    /// The agent's own.
    Agent,
    /// The workload's, as it was issued last.
    Workload,
}

impl Member {
    /// Joins with a new token.
    ///
    /// # Errors
    /// As the server refuses. `Internal` without a reason: the answer was no good.
    pub async fn join(door: &Door, agent: &str) -> Result<Self, Status> {
        let identity = format!("spiffe://example.org/{agent}");
        let token = door.token(agent, &identity).await?;
        Self::join_with(door, &token, identity).await
    }

    /// Joins with a token for this identity.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub async fn join_with(door: &Door, token: &str, identity: String) -> Result<Self, Status> {
        let pair = KeyPair::generate().map_err(defect)?;
        let mut untrusted = AgentServiceClient::new(door.channel(None).map_err(defect)?);
        let (stored_sequence, stored_digest) = stored(&mut untrusted).await?;
        let build = "test".to_owned();
        let csr = csr(&pair)?;
        let message =
            RegisterRequest { csr, build, stored_sequence, stored_digest, for_node: false };
        let mut request = Request::new(message);
        let value = MetadataValue::try_from(format!("Bearer {token}")).map_err(defect)?;
        request.metadata_mut().insert("authorization", value);
        let answer = untrusted.register(request).await?.into_inner();
        let leaf = leaf(&answer.chain)?;
        let channel = door.channel(Some((answer.chain.clone(), &pair))).map_err(defect)?;
        let workload = KeyPair::generate().map_err(defect)?;
        let (client, own) = (AgentServiceClient::new(channel), (answer.chain, pair));
        Ok(Self { client, identity, leaf, own, workload, workload_chain: Vec::new() })
    }

    /// A channel through a door, as the agent, as its workload, or as nobody.
    ///
    /// # Errors
    /// When the certificate is no good for TLS.
    pub fn channel(&self, door: &Door, shown: Shown) -> anyhow::Result<Channel> {
        door.channel(match shown {
            Shown::Nothing => None,
            Shown::Agent => Some((self.own.0.clone(), &self.own.1)),
            Shown::Workload => Some((self.workload_chain.clone(), &self.workload)),
        })
    }

    /// Opens the stream of an agent through a door: what it says goes up, what the CA says comes down.
    ///
    /// # Errors
    /// As the server refuses.
    pub async fn connect(
        &self,
        door: &Door,
    ) -> Result<(mpsc::Sender<AgentMessage>, Streaming<ServerMessage>), Status> {
        let channel = self.channel(door, Shown::Agent).map_err(defect)?;
        let (says, said) = mpsc::channel(16);
        let said = ReceiverStream::new(said);
        let hears = AgentServiceClient::new(channel).connect(said).await?.into_inner();
        Ok((says, hears))
    }

    /// The agent's own leaf.
    #[must_use]
    pub fn own_leaf(&self) -> Leaf {
        self.leaf.clone()
    }

    /// The chain of that, leaf first.
    #[must_use]
    pub fn own_chain(&self) -> &[Vec<u8>] {
        &self.own.0
    }

    /// Asks for a leaf for the workload.
    ///
    /// # Errors
    /// As the server refuses, or when it is away.
    pub async fn issue(&mut self) -> Result<Leaf, Status> {
        leaf(&self.issue_chain().await?)
    }

    /// The same; answers with its chain, leaf first.
    ///
    /// # Errors
    /// As [`issue`](Self::issue).
    pub async fn issue_chain(&mut self) -> Result<Vec<Vec<u8>>, Status> {
        let (stored_sequence, stored_digest) = stored(&mut self.client).await?;
        let message = IssueWorkloadRequest {
            csr: csr(&self.workload)?,
            spiffe_id: self.identity.clone(),
            validity_seconds: 0,
            stored_sequence,
            stored_digest,
            only_to_trusting: true,
            listening: None,
        };
        self.workload_chain = self.client.issue_workload(message).await?.into_inner().chain;
        Ok(self.workload_chain.clone())
    }
}

/// Sequence and digest of the bundle in force, as an agent has them that stored it.
async fn stored(client: &mut AgentServiceClient<Channel>) -> Result<(u64, Vec<u8>), Status> {
    let bundle = client
        .get_bundle(GetBundleRequest::default())
        .await?
        .into_inner()
        .bundle
        .unwrap_or_default();
    Ok((bundle.sequence, bundle.digest))
}

/// The machine reason of a refusal; empty if there is none.
#[must_use]
pub fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

fn csr(pair: &KeyPair) -> Result<Vec<u8>, Status> {
    let mut params = CertificateParams::default();
    // By default it names rcgen.
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(pair).map_err(defect)?;
    Ok(request.der().to_vec())
}

fn leaf(chain: &[Vec<u8>]) -> Result<Leaf, Status> {
    let first = chain.first().context("an empty chain").map_err(defect)?;
    Certificate::parse(first).map_err(defect)
}

fn defect(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}
