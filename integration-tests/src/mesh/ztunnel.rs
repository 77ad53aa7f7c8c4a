//! A fake of a ztunnel: it asks the CA as one does, and moves nobody's bytes.
//!
//! What it keeps of the real one's habits: TLS 1.3 with HTTP/2 and no client certificate, one connection for a whole node, a
//! token of its own Pod, the identity of another Pod in `ImpersonatedIdentity` and as the one name of the CSR, a key on P-256,
//! at most eight requests at a time, a renewal at half of the life counted from its start, waits of 1, 2, 4 ... 150 s after
//! failures of whatever kind, and for each identity no other roots than those that came with its own certificate.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use host::SystemClock;
use hyper_util::rt::TokioIo;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use proto::istio::v1::auth::IstioCertificateRequest;
use proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::service_fn;
use trust::Clock as _;

use super::{Guest, Holding, Received};

/// Requests under way at a time.
const AT_A_TIME: usize = 8;
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(150);
/// What is asked for; the CA caps it.
const LIFE_SECONDS: i64 = 86_400;

/// Where the CA is, and what of it and of itself the node's ztunnel has in files.
#[derive(Clone, Debug)]
pub struct ZtunnelFiles {
    /// Addresses that the name of the CA leads to; the first that answers is taken.
    pub ca: Vec<SocketAddr>,
    /// That name, as the CA's certificate has it.
    pub ca_name: String,
    /// The roots by which the CA is believed, read at each connection.
    pub roots: PathBuf,
    /// Token of its Pod, read at each request.
    pub token: PathBuf,
}

/// The ztunnel of one node, with a certificate for each identity.
#[derive(Debug)]
pub struct FakeZtunnel {
    asks: Arc<Asks>,
    node: String,
    guests: BTreeMap<String, Arc<Guest>>,
    renewals: JoinSet<()>,
}

#[derive(Debug)]
struct Asks {
    files: ZtunnelFiles,
    channel: Channel,
    places: Semaphore,
    received: Received,
    refused: Mutex<Vec<Code>>,
}

impl FakeZtunnel {
    /// One that has no certificate yet.
    ///
    /// # Errors
    /// If the name of the CA is none.
    pub fn of_node(node: &str, files: ZtunnelFiles, received: &Received) -> anyhow::Result<Self> {
        let channel = channel(&files)?;
        let (places, refused) = (Semaphore::new(AT_A_TIME), Mutex::default());
        let asks = Asks { files, channel, places, received: received.clone(), refused };
        let (asks, guests, renewals) = (Arc::new(asks), BTreeMap::new(), JoinSet::new());
        Ok(Self { asks, node: node.to_owned(), guests, renewals })
    }

    /// Asks once for an identity, and keeps nothing.
    ///
    /// # Errors
    /// As the CA answers.
    pub async fn ask(&self, identity: &str) -> Result<Holding, Status> {
        self.asks.ask(identity).await
    }

    /// A Pod with this identity came to the node: a certificate for it is kept up from now on.
    pub fn add(&mut self, identity: &str) -> Arc<Guest> {
        let name = format!("{identity} at {}", self.node);
        let guest = Arc::new(Guest::new(&name, Holding::default()));
        self.guests.insert(identity.to_owned(), Arc::clone(&guest));
        let (asks, kept, identity) =
            (Arc::clone(&self.asks), Arc::clone(&guest), identity.to_owned());
        self.renewals.spawn(async move { asks.keep_up(&identity, &kept).await });
        guest
    }

    /// How the CA refused what it asked for by itself.
    pub fn refused(&self) -> Vec<Code> {
        self.asks.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Asks {
    async fn keep_up(&self, identity: &str, guest: &Guest) {
        let mut wait = WAIT_MIN;
        loop {
            match self.ask(identity).await {
                Ok(holding) => {
                    wait = WAIT_MIN;
                    let Some(leaf) = holding.leaf() else { return };
                    let (start, end) = (leaf.validity().not_before(), leaf.validity().not_after());
                    guest.hold(holding);
                    let due = start.plus(end.since(start) / 2);
                    tokio::time::sleep(due.since(SystemClock.now())).await;
                }
                Err(status) => {
                    tracing::warn!(guest = guest.name(), %status, "no certificate");
                    self.note(status.code());
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(WAIT_MAX);
                }
            }
        }
    }

    fn note(&self, code: Code) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).push(code);
    }

    async fn ask(&self, identity: &str) -> Result<Holding, Status> {
        let _place = self.places.acquire().await.map_err(|_| Status::cancelled("it ends"))?;
        let told = |error: anyhow::Error| Status::internal(format!("{error:#}"));
        let key = KeyPair::generate().map_err(|error| told(error.into()))?;
        let request = self.request(identity, &key).map_err(told)?;
        let mut client = IstioCertificateServiceClient::new(self.channel.clone());
        let strings = client.create_certificate(request).await?.into_inner().cert_chain;
        let holding = held(&strings, &key).map_err(told)?;
        self.received.note(&holding.chain);
        Ok(holding)
    }

    fn request(
        &self,
        identity: &str,
        key: &KeyPair,
    ) -> anyhow::Result<tonic::Request<IstioCertificateRequest>> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(identity.try_into()?)];
        let kind = Some(Kind::StringValue(identity.to_owned()));
        let fields = [("ImpersonatedIdentity".to_owned(), Value { kind })].into();
        let mut request = tonic::Request::new(IstioCertificateRequest {
            csr: params.serialize_request(key)?.pem()?,
            validity_duration: LIFE_SECONDS,
            metadata: Some(Struct { fields }),
        });
        let token = std::fs::read_to_string(&self.files.token).context("its token")?;
        let headers = request.metadata_mut();
        headers.insert("authorization", format!("Bearer {token}").parse()?);
        headers.insert("clusterid", "Kubernetes".parse()?);
        Ok(request)
    }
}

/// What it makes of a reply: of the last string all roots, of each other one the first certificate.
fn held(strings: &[String], key: &KeyPair) -> anyhow::Result<Holding> {
    let (roots, chain) = strings.split_last().context("an empty reply")?;
    let first = |text: &String| pem::parse(text).map(pem::Pem::into_contents);
    Ok(Holding {
        chain: chain.iter().map(first).collect::<Result<_, _>>()?,
        key: key.serialize_der(),
        roots: pem::parse_many(roots)?.into_iter().map(pem::Pem::into_contents).collect(),
    })
}

pub(super) fn channel(files: &ZtunnelFiles) -> anyhow::Result<Channel> {
    let name = ServerName::try_from(files.ca_name.clone())?;
    let files = files.clone();
    let connect = service_fn(move |_| {
        let (files, name) = (files.clone(), name.clone());
        async move {
            let connected = connected(&files, name).await;
            connected.map(TokioIo::new).map_err(|error| std::io::Error::other(format!("{error:#}")))
        }
    });
    Ok(Endpoint::from_static("https://ca").connect_with_connector_lazy(connect))
}

async fn connected(
    files: &ZtunnelFiles,
    name: ServerName<'static>,
) -> anyhow::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for block in pem::parse_many(std::fs::read(&files.roots).context("roots of the CA")?)? {
        roots.add(CertificateDer::from(block.into_contents()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let mut said = None;
    for address in &files.ca {
        match TcpStream::connect(address).await {
            Ok(tcp) => {
                tcp.set_nodelay(true)?;
                return Ok(connector.connect(name, tcp).await?);
            }
            Err(error) => said = Some(error),
        }
    }
    Err(said.context("the CA has no address")?.into())
}
