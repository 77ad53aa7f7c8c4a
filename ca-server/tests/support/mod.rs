//! A real server in this process, and clients for it.
#![allow(dead_code, reason = "each test binary uses its part")]
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for product code")]

pub(crate) mod cacerts;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ca_server::{BootError, Config, HostDeps, Running, Server};
use hyper_util::rt::TokioIo;
use proto::banyan::admin::v1::CreateTokenRequest;
use proto::banyan::admin::v1::admin_service_client::AdminServiceClient;
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use proto::banyan::agent::v1::{
    GetBundleRequest, IssueResponse, IssueWorkloadRequest, RegisterRequest,
};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;
use tower::service_fn;
use trust::Bundle;

/// Longest wait for something that should happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A data directory with a configuration.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    config: String,
}

impl Place {
    /// Keys in memory: for one start.
    pub(crate) fn new(extra: &str) -> Self {
        let keys = "[keys]\nbackend = \"memory\"\ndangerously_keep_keys_in_memory = true\n";
        Self::with_keys(keys, extra)
    }

    /// Keys in files: for several starts.
    pub(crate) fn durable(extra: &str) -> Self {
        let place = Self::with_keys("[keys]\npassphrase_file = \"passphrase\"\n", extra);
        write_private(&place.dir.path().join("passphrase"), b"correct horse battery staple");
        place
    }

    /// With a section `[keys]`.
    pub(crate) fn with_keys(keys: &str, extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "trust_domain = \"example.org\"\ndata_dir = \"data\"\n{keys}\n[listen]\ngrpc = \"127.0.0.1:0\"\n\
             plain = \"127.0.0.1:0\"\ndns_names = [\"localhost\"]\nreflection = true\n{extra}"
        );
        Self { dir, config }
    }

    /// Health and metrics at this address.
    pub(crate) fn with_plain_at(mut self, address: std::net::SocketAddr) -> Self {
        self.config =
            self.config.replace("plain = \"127.0.0.1:0\"", &format!("plain = \"{address}\""));
        self
    }

    /// With another configuration from the next start on.
    pub(crate) fn reconfigured(mut self, from: &str, to: &str) -> Self {
        assert!(self.config.contains(from), "{}", self.config);
        self.config = self.config.replace(from, to);
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn config(&self) -> Config {
        Config::parse(&self.config, self.dir.path()).unwrap()
    }

    pub(crate) async fn start(&self) -> Result<Running, BootError> {
        self.start_with(HostDeps::system()).await
    }

    pub(crate) async fn start_with(&self, deps: HostDeps) -> Result<Running, BootError> {
        Box::pin(Server::start(self.config(), deps)).await
    }
}

pub(crate) fn write_private(path: &Path, contents: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, contents).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Starts there as soon as nobody has the files open any more.
pub(crate) async fn once_free(place: &Place) -> Result<Running, BootError> {
    let free = async {
        loop {
            match place.start().await {
                Err(error) if error.to_string().contains("is in use by another process") => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                started => return started,
            }
        }
    };
    tokio::time::timeout(SOON, free).await.unwrap()
}

pub(crate) async fn stop(running: Running) {
    tokio::time::timeout(SOON, running.shutdown(Duration::from_secs(5))).await.unwrap();
}

/// A key with the chain that was issued for it.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Identity {
    pub(crate) fn of(response: &IssueResponse, pair: &KeyPair) -> Self {
        Self {
            chain: response.chain.iter().cloned().map(CertificateDer::from).collect(),
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der())),
        }
    }
}

/// A channel over TLS that trusts the bundle, with a client certificate or without.
pub(crate) async fn channel(running: &Running, identity: Option<Identity>) -> Channel {
    try_channel(running, identity).await.unwrap()
}

/// As [`channel`], where the handshake may fail.
pub(crate) async fn try_channel(
    running: &Running,
    identity: Option<Identity>,
) -> Result<Channel, tonic::transport::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots(&running.bundle()));
    let mut config = match identity {
        Some(Identity { chain, key }) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (connector, addr) = (TlsConnector::from(Arc::new(config)), running.grpc_addr);
    let connect = service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let tcp = TcpStream::connect(addr).await?;
            let name = ServerName::try_from("localhost").unwrap();
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, tcp).await?))
        }
    });
    Endpoint::from_static("https://localhost").connect_with_connector(connect).await
}

fn roots(bundle: &Bundle) -> RootCertStore {
    let mut store = RootCertStore::empty();
    for root in bundle.roots() {
        store.add(CertificateDer::from(root.der().to_vec())).unwrap();
    }
    store
}

/// A channel to the admin socket.
pub(crate) async fn admin(running: &Running) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(admin_channel(running).await)
}

/// A channel to the admin socket, for every service of operators.
pub(crate) async fn admin_channel(running: &Running) -> Channel {
    let path = running.admin_socket.clone();
    let connect = service_fn(move |_| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    Endpoint::from_static("http://admin").connect_with_connector(connect).await.unwrap()
}

/// What the plain port answers to a GET.
pub(crate) async fn http_get(running: &Running, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = TcpStream::connect(running.plain_addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A CSR that asks for nothing, in DER, and its PEM.
pub(crate) fn csr(pair: &KeyPair) -> (Vec<u8>, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let request = params.serialize_request(pair).unwrap();
    (request.der().to_vec(), request.pem().unwrap())
}

pub(crate) fn bearer<M>(message: M, token: &str) -> Request<M> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

pub(crate) async fn token(running: &Running, agent: &str, identities: &[&str]) -> String {
    let request = CreateTokenRequest {
        agent: agent.to_owned(),
        identities: identities.iter().map(|id| (*id).to_owned()).collect(),
        ttl_seconds: 0,
        ..Default::default()
    };
    admin(running).await.create_token(request).await.unwrap().into_inner().token
}

/// Registers an agent with a new token; answers with its identity.
pub(crate) async fn agent(running: &Running, name: &str, identities: &[&str]) -> Identity {
    let (pair, token) = (KeyPair::generate().unwrap(), token(running, name, identities).await);
    let mut client = AgentServiceClient::new(channel(running, None).await);
    let message = registration(running, &pair);
    let answer = client.register(bearer(message, &token)).await.unwrap().into_inner();
    Identity::of(&answer, &pair)
}

/// What an agent with this key says that has stored the bundle in force.
pub(crate) fn registration(running: &Running, pair: &KeyPair) -> RegisterRequest {
    let bundle = running.bundle();
    RegisterRequest {
        csr: csr(pair).0,
        build: "test".to_owned(),
        stored_sequence: bundle.sequence().0,
        stored_digest: bundle.digest().as_bytes().to_vec(),
        for_node: false,
    }
}

/// Has an agent ask for a workload's leaf.
pub(crate) async fn workload(
    client: &mut AgentServiceClient<Channel>,
    spiffe_id: &str,
    pair: &KeyPair,
) -> Result<IssueResponse, Status> {
    let stored = client
        .get_bundle(GetBundleRequest::default())
        .await?
        .into_inner()
        .bundle
        .unwrap_or_default();
    let message = IssueWorkloadRequest {
        csr: csr(pair).0,
        spiffe_id: spiffe_id.to_owned(),
        validity_seconds: 0,
        stored_sequence: stored.sequence,
        stored_digest: stored.digest,
        only_to_trusting: true,
        listening: None,
    };
    client.issue_workload(message).await.map(tonic::Response::into_inner)
}

pub(crate) fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// Waits until a condition holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let poll = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(SOON, poll).await.is_ok(), "not in time: {what}");
}
