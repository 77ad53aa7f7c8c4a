//! Clients over TLS, and what refusals say to them.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use proto::banyan::agent::v1::GetBundleRequest;
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use rcgen::KeyPair;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::untrusted::ca::TestCa;

/// What a client shows in the handshake: any certificates, with the key of the first.
#[derive(Clone)]
pub struct Credential {
    /// Certificates in DER, as they are sent.
    pub chain: Vec<Vec<u8>>,
    key: Vec<u8>,
}

/// How a client speaks TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// What it shows, if anything.
    pub credential: Option<Credential>,
    /// The versions it offers.
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// What it offers to speak inside.
    pub alpn: Vec<Vec<u8>>,
}

/// A client on one connection, which opens another only when that one is lost.
#[derive(Clone, Debug)]
pub struct TestClient {
    /// The gRPC channel.
    pub channel: Channel,
    connections: Arc<AtomicUsize>,
}

/// A refusal as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The gRPC code.
    pub code: Code,
    /// `ErrorInfo.reason`; empty without one.
    pub reason: String,
    /// `ErrorInfo.domain`; empty without one.
    pub domain: String,
    /// `RetryInfo.retry_delay`.
    pub retry_after: Option<Duration>,
    /// The text.
    pub text: String,
}

impl Credential {
    /// Shows these certificates with this key, whether they fit or not.
    pub fn new(chain: Vec<Vec<u8>>, key: &KeyPair) -> Self {
        Self { chain, key: key.serialize_der() }
    }

    /// The key, to be used for something else too.
    ///
    /// # Panics
    /// Never: it was encoded by the same library.
    pub fn key_pair(&self) -> KeyPair {
        KeyPair::try_from(self.key.as_slice()).unwrap()
    }

    fn certified(&self) -> CertifiedKey {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        CertifiedKey::new(self.chain.iter().cloned().map(CertificateDer::from).collect(), key)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("certificates", &self.chain.len())
            .finish_non_exhaustive()
    }
}

impl Default for Tls {
    /// TLS 1.3 and HTTP/2, without a certificate.
    fn default() -> Self {
        Self {
            credential: None,
            versions: vec![&rustls::version::TLS13],
            alpn: vec![b"h2".to_vec()],
        }
    }
}

impl Tls {
    /// As the default, with a certificate.
    pub fn with(credential: Credential) -> Self {
        Self { credential: Some(credential), ..Self::default() }
    }

    /// The settings for a CA, which is believed if its chain ends in the bundle. Sessions are not resumed.
    ///
    /// # Panics
    /// When a root is unusable.
    pub fn config(&self, ca: &TestCa) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for root in ca.bundle().roots() {
            roots.add(CertificateDer::from(root.der().to_vec())).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_details(provider, Arc::clone(ca.clock()) as _)
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.credential {
            Some(credential) => builder
                .with_client_cert_resolver(Arc::new(Always(Arc::new(credential.certified())))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }

    /// Opens one connection and shakes hands.
    ///
    /// # Errors
    /// Whatever ends the handshake.
    pub async fn handshake(
        &self,
        ca: &TestCa,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        tls_handshake(self.config(ca), ca.addr()).await
    }
}

impl TestClient {
    /// Connects with the default settings.
    ///
    /// # Panics
    /// When the handshake fails.
    pub async fn connect(ca: &TestCa) -> Self {
        Self::connect_with(ca, &Tls::default()).await.expect("the handshake succeeds")
    }

    /// Connects.
    ///
    /// # Errors
    /// Whatever ends the handshake.
    pub async fn connect_with(ca: &TestCa, tls: &Tls) -> Result<Self, tonic::transport::Error> {
        let (config, addr) = (tls.config(ca), ca.addr());
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let connector = tower::service_fn(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            let config = Arc::clone(&config);
            async move { Ok::<_, io::Error>(TokioIo::new(tls_handshake(config, addr).await?)) }
        });
        let channel =
            Endpoint::from_static("https://localhost").connect_with_connector(connector).await?;
        Ok(Self { channel, connections })
    }

    /// How many connections it has opened so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Asks for the bundle, which anybody may.
    ///
    /// # Errors
    /// The refusal.
    pub async fn bundle(&self) -> Result<(), Refused> {
        let mut client = AgentServiceClient::new(self.channel.clone());
        let answer = client.get_bundle(GetBundleRequest { digest: Vec::new() }).await;
        answer.map(drop).map_err(|status| Refused::of(&status))
    }
}

impl Refused {
    /// Takes a status apart.
    pub fn of(status: &Status) -> Self {
        let info = status.get_details_error_info();
        let (reason, domain) = info.map(|info| (info.reason, info.domain)).unwrap_or_default();
        Self {
            code: status.code(),
            reason,
            domain,
            retry_after: status.get_details_retry_info().and_then(|retry| retry.retry_delay),
            text: status.message().to_owned(),
        }
    }
}

async fn tls_handshake(
    config: Arc<ClientConfig>,
    addr: std::net::SocketAddr,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(config).connect(name, stream).await
}

/// Shows one credential, whatever the server asks for.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
