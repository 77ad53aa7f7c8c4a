//! A real CA in this process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ca_server::{Embedding, HostDeps, Running};
use host::{OsRandomness, RealDisk, SystemClock};
use hyper_util::rt::TokioIo;
use proto::banyan::admin::v1::admin_service_client::AdminServiceClient;
use proto::banyan::admin::v1::authority_service_client::AuthorityServiceClient;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{
    Authority, CreateTokenRequest, DecideRotationRequest, GetRotationRequest,
    ListAuthoritiesRequest, ListRootsRequest, Root, Rotation, StartRotationRequest, StatusRequest,
    StatusResponse, Verb,
};
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use proto::banyan::agent::v1::{IssueResponse, IssueWorkloadRequest, RegisterRequest};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use trust::Clock;

use super::{Gate, Rows};
use crate::support::{CaDir, CaDirPlan, Keys, SOON};

/// A CA with keys in memory, a directory of its own, and a [`Gate`] that agents come through.
#[derive(Debug)]
pub struct MeshCa {
    ca_dir: CaDir,
    running: Running,
    gate: Gate,
}

/// A leaf that the CA gave, with the key it is for.
#[derive(Debug)]
pub struct Registered {
    /// DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The leaf's key.
    pub key: KeyPair,
}

impl MeshCa {
    /// Starts a CA; `listen` goes into the section `[listen]`, `extra` to the end of the configuration.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(listen: &str, extra: &str) -> anyhow::Result<Self> {
        Self::start_with(listen, extra, &[], Arc::new(SystemClock)).await
    }

    /// As [`start`](Self::start), with files beside the configuration and another clock.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_with(
        listen: &str,
        extra: &str,
        files: &[(&str, &str)],
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        Self::start_embedded(listen, extra, files, clock, &()).await
    }

    /// As [`start_with`](Self::start_with), embedded in something.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_embedded(
        listen: &str,
        extra: &str,
        files: &[(&str, &str)],
        clock: Arc<dyn Clock>,
        embedding: &dyn Embedding,
    ) -> anyhow::Result<Self> {
        let files =
            files.iter().map(|(name, contents)| ((*name).to_owned(), (*contents).to_owned()));
        let ca_dir = CaDir::of(&CaDirPlan {
            trust_domain: None,
            keys: Keys::Memory,
            listen: format!("ip_addresses = [\"127.0.0.1\"]\n{listen}"),
            sections: extra.to_owned(),
            files: files.collect(),
        })?;
        let deps =
            HostDeps { clock, randomness: Arc::new(OsRandomness::new()), disk: Arc::new(RealDisk) };
        let running = ca_dir.start_embedded(deps, embedding).await??;
        let gate = Gate::before(running.grpc_addr).await?;
        Ok(Self { ca_dir, running, gate })
    }

    /// Starts a CA of another trust domain, with keys in files.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn of_domain(domain: &str, extra: &str) -> anyhow::Result<Self> {
        let ca_dir = CaDir::of(&CaDirPlan {
            trust_domain: Some(domain.to_owned()),
            listen: "ip_addresses = [\"127.0.0.1\"]".to_owned(),
            sections: extra.to_owned(),
            ..CaDirPlan::default()
        })?;
        let running = ca_dir.start().await?;
        let gate = Gate::before(running.grpc_addr).await?;
        Ok(Self { ca_dir, running, gate })
    }

    /// Ends the server of a CA whose keys are in files, and starts it again. Agents find it no more.
    ///
    /// # Errors
    /// When it does not end, or start.
    pub async fn restarted(self) -> anyhow::Result<Self> {
        let Self { ca_dir, running, .. } = self;
        let ended = running.shutdown(Duration::from_secs(1));
        tokio::time::timeout(SOON, ended).await.context("the CA does not end")?;
        let running = ca_dir.start().await?;
        let gate = Gate::before(running.grpc_addr).await?;
        Ok(Self { ca_dir, running, gate })
    }

    /// The server.
    pub const fn running(&self) -> &Running {
        &self.running
    }

    /// The way that agents come.
    pub const fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The directory of the configuration.
    pub fn directory(&self) -> &Path {
        self.ca_dir.directory()
    }

    /// Writes the bundle's roots into a file.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn write_roots(&self) -> anyhow::Result<PathBuf> {
        let path = self.ca_dir.beside("roots.pem");
        std::fs::write(&path, self.running.bundle().pem().as_bytes())?;
        Ok(path)
    }

    /// The server's state as operators see it.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> anyhow::Result<StatusResponse> {
        Ok(self.admin().status(StatusRequest {}).await?.into_inner())
    }

    /// Every root that the record knows.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn roots(&self) -> anyhow::Result<Vec<Root>> {
        Ok(self.admin().list_roots(ListRootsRequest::default()).await?.into_inner().roots)
    }

    /// Makes a join token.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn token(&self, agent: &str, identities: &[&str]) -> anyhow::Result<String> {
        let request = CreateTokenRequest {
            agent: agent.to_owned(),
            identities: identities.iter().map(|id| (*id).to_owned()).collect(),
            ttl_seconds: 0,
            ..Default::default()
        };
        Ok(self.admin().create_token(request).await?.into_inner().token)
    }

    /// Every row as the files of the ledger tell it.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn rows(&self) -> anyhow::Result<Rows> {
        Rows::read(&self.ca_dir.data().join("ledger"))
    }

    /// Registers an agent by hand and asks for the leaf of its workload.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn workload_leaf(&self, agent: &str, identity: &str) -> anyhow::Result<Registered> {
        let (token, pair) = (self.token(agent, &[identity]).await?, KeyPair::generate()?);
        let bundle = self.running.bundle();
        let (stored_sequence, stored_digest) =
            (bundle.sequence().0, bundle.digest().as_bytes().to_vec());
        let mut request = tonic::Request::new(RegisterRequest {
            csr: csr(&pair)?.0,
            build: "test".to_owned(),
            stored_sequence,
            stored_digest: stored_digest.clone(),
            for_node: false,
        });
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        let mut client =
            AgentServiceClient::new(self.channel(None, &[&rustls::version::TLS13]).await?);
        let answer = client.register(request).await?.into_inner();
        let own = Registered { chain: answer.chain, key: pair };
        let mut client =
            AgentServiceClient::new(self.channel(Some(&own), &[&rustls::version::TLS13]).await?);
        let key = KeyPair::generate()?;
        let request = IssueWorkloadRequest {
            csr: csr(&key)?.0,
            spiffe_id: identity.to_owned(),
            validity_seconds: 0,
            stored_sequence,
            stored_digest,
            only_to_trusting: true,
            listening: None,
        };
        let IssueResponse { chain, .. } = client.issue_workload(request).await?.into_inner();
        Ok(Registered { chain, key })
    }

    /// A channel that trusts the bundle, in these versions of TLS.
    ///
    /// # Errors
    /// When the handshake fails.
    pub async fn channel(
        &self,
        identity: Option<&Registered>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> anyhow::Result<Channel> {
        let roots: Vec<_> =
            self.running.bundle().roots().iter().map(|root| root.der().to_vec()).collect();
        tls_channel(self.running.grpc_addr, &roots, identity, versions).await
    }

    /// Ends the server in order.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn stop(self) -> anyhow::Result<()> {
        let ended = self.running.shutdown(Duration::from_secs(1));
        tokio::time::timeout(SOON, ended).await.context("the CA does not end")
    }

    /// Asks for a rotation.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn rotate(&self, request_id: &str) -> anyhow::Result<()> {
        self.rotate_in_mode(request_id, "auto").await
    }

    /// Asks for a rotation whose root signs by itself (`auto`) or when an operator says so (`manual`).
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn rotate_in_mode(&self, request_id: &str, mode: &str) -> anyhow::Result<()> {
        let (request_id, mode) = (request_id.to_owned(), mode.to_owned());
        let request = StartRotationRequest { request_id, mode, ..StartRotationRequest::default() };
        self.rotations().start_rotation(request).await?;
        Ok(())
    }

    /// Asks for a rotation to another authority.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn rotate_to(&self, request_id: &str, authority: &str) -> anyhow::Result<()> {
        let (request_id, authority) = (request_id.to_owned(), authority.to_owned());
        let request =
            StartRotationRequest { request_id, authority, ..StartRotationRequest::default() };
        self.rotations().start_rotation(request).await?;
        Ok(())
    }

    /// Every authority as operators see it now.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn authorities(&self) -> anyhow::Result<Vec<Authority>> {
        let mut client = AuthorityServiceClient::new(self.admin_channel());
        Ok(client
            .list_authorities(ListAuthoritiesRequest::default())
            .await?
            .into_inner()
            .authorities)
    }

    /// Decides about the rotation that is under way.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn decide(&self, request_id: &str, verb: Verb) -> Result<Rotation, tonic::Status> {
        let request = DecideRotationRequest {
            request_id: request_id.to_owned(),
            verb: verb.into(),
            ..Default::default()
        };
        Ok(self.rotations().decide_rotation(request).await?.into_inner())
    }

    /// Where the rotation stands.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn rotation(&self) -> anyhow::Result<Rotation> {
        Ok(self.rotations().get_rotation(GetRotationRequest {}).await?.into_inner())
    }

    /// Waits until the rotation stands as wanted.
    ///
    /// # Errors
    /// When it does not within `most`; the error shows where it stands.
    pub async fn until_rotation(
        &self,
        what: &str,
        most: Duration,
        holds: impl Fn(&Rotation) -> bool,
    ) -> anyhow::Result<Rotation> {
        until_rotation(self.rotations(), what, most, holds).await
    }

    /// The operators' side of rotations.
    pub fn rotations(&self) -> RotationServiceClient<Channel> {
        RotationServiceClient::new(self.admin_channel())
    }

    fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.admin_channel())
    }

    fn admin_channel(&self) -> Channel {
        admin_channel(&self.running.admin_socket)
    }
}

/// Waits until the rotation of a CA stands as wanted.
///
/// # Errors
/// When it does not within `most`; the error shows where it stands.
pub async fn until_rotation(
    mut rotations: RotationServiceClient<Channel>,
    what: &str,
    most: Duration,
    holds: impl Fn(&Rotation) -> bool,
) -> anyhow::Result<Rotation> {
    let mut last = None;
    let poll = async {
        loop {
            if let Ok(rotation) = rotations.get_rotation(GetRotationRequest {}).await {
                let rotation = rotation.into_inner();
                if holds(&rotation) {
                    return rotation;
                }
                last = Some(rotation);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let found = tokio::time::timeout(most, poll).await;
    found.map_err(|_| anyhow::anyhow!("not in time: {what}: {last:#?}"))
}

/// A channel to the admin API behind this socket.
pub fn admin_channel(socket: &Path) -> Channel {
    let path = socket.to_owned();
    let connect = service_fn(move |_| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    let endpoint = Endpoint::from_static("http://admin").timeout(SOON);
    endpoint.connect_with_connector_lazy(connect)
}

/// A channel to a CA that trusts these roots.
///
/// # Errors
/// When the handshake fails.
pub async fn tls_channel(
    addr: SocketAddr,
    trusted: &[Vec<u8>],
    identity: Option<&Registered>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> anyhow::Result<Channel> {
    let mut roots = RootCertStore::empty();
    for root in trusted {
        roots.add(CertificateDer::from(root.clone()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(Registered { chain, key }) => {
            let chain = chain.iter().cloned().map(CertificateDer::from).collect();
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let (addr, name): (SocketAddr, _) = (addr, ServerName::try_from("localhost")?);
    let connect = service_fn(move |_| {
        let (connector, name) = (connector.clone(), name.clone());
        async move {
            let tcp = TcpStream::connect(addr).await?;
            tcp.set_nodelay(true)?;
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, tcp).await?))
        }
    });
    let endpoint = Endpoint::from_static("https://localhost").timeout(SOON);
    Ok(endpoint.connect_with_connector(connect).await?)
}

/// A CSR without subject and names, in DER and in PEM.
pub(super) fn csr(pair: &KeyPair) -> anyhow::Result<(Vec<u8>, String)> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(pair)?;
    Ok((request.der().to_vec(), request.pem()?))
}
