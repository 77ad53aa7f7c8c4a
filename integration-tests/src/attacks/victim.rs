//! The server that is attacked, and those whom it must go on serving.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use proto::banyan::admin::v1::admin_service_client::AdminServiceClient;
use proto::banyan::admin::v1::{ListRootsRequest, StatusRequest, StatusResponse};
use proto::istio::v1::auth::IstioCertificateRequest;
use proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use rcgen::KeyPair;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Channel;

use super::insider::{Insider, request_of};
use crate::faults::{CaDir, ChildCa};
use crate::mesh::{SOON, admin_channel, tls_channel};
use crate::tokens::TokenIssuer;

/// How many files the server may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// As many as this process.
    AsHere,
    /// So many, unless it asks for more.
    Soft(u64),
    /// So many.
    Hard(u64),
}

/// A CA in a child process.
#[derive(Debug)]
pub struct Victim {
    ca: ChildCa,
    log: Option<Arc<AtomicU64>>,
    insider: Insider,
    grpc: SocketAddr,
    plain: SocketAddr,
    pid: u32,
    admin: Channel,
    roots: Vec<Vec<u8>>,
    tls: Arc<ClientConfig>,
    tokens: TokenIssuer,
    good_clients: AtomicU64,
    _ca_dir: CaDir,
}

/// A client with a good token, on a connection of its own.
#[derive(Clone, Debug)]
pub struct GoodClient {
    client: IstioCertificateServiceClient<Channel>,
    csr: String,
    token: String,
}

impl Victim {
    /// Starts the program `ca_under_test` with further sections of the configuration.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(program: &Path, files: Files, more: &str) -> anyhow::Result<Self> {
        let tokens = TokenIssuer::of_mesh();
        let ca_dir = CaDir::new(&format!("{}{more}", TokenIssuer::SECTION))?;
        std::fs::write(ca_dir.beside(TokenIssuer::KEY_SET_FILE), tokens.key_set())?;
        let mut ca = ChildCa::spawn(&limited(program, files, &ca_dir)?, &ca_dir)?;
        let (grpc, plain) = ca.ready().await?;
        let pid = ca.pid().context("no process")?;
        let admin = admin_channel(ca_dir.config()?.listen().admin_socket());
        let roots =
            AdminServiceClient::new(admin.clone()).list_roots(ListRootsRequest::default()).await?;
        let roots: Vec<_> = roots.into_inner().roots.into_iter().map(|root| root.der).collect();
        let mut store = RootCertStore::empty();
        for root in &roots {
            store.add(CertificateDer::from(root.clone()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(store)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let insider = Insider {
            grpc,
            roots: Arc::new(roots.clone()),
            token: tokens.of_account("shop", "greedy").into(),
            agent: Arc::default(),
        };
        let (log, tls, good_clients) = (None, Arc::new(tls), AtomicU64::new(0));
        Ok(Self {
            ca,
            log,
            insider,
            grpc,
            plain,
            pid,
            admin,
            roots,
            tls,
            tokens,
            good_clients,
            _ca_dir: ca_dir,
        })
    }

    /// Reads the server's log from now on, and counts its bytes.
    ///
    /// # Errors
    /// When somebody does already.
    pub fn with_log_read(mut self) -> anyhow::Result<Self> {
        self.log = Some(self.ca.drain_stderr()?);
        Ok(self)
    }

    /// Bytes of its log so far; 0 if nobody reads it.
    pub fn log_bytes(&self) -> u64 {
        self.log.as_ref().map_or(0, |bytes| bytes.load(Ordering::Relaxed))
    }

    /// A channel to its admin API.
    pub fn admin(&self) -> Channel {
        self.admin.clone()
    }

    pub(super) fn insider(&self) -> Insider {
        self.insider.clone()
    }

    /// Where gRPC over TLS is served.
    pub const fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Where health and metrics are served.
    pub const fn plain(&self) -> SocketAddr {
        self.plain
    }

    /// What opens connections of TLS to it.
    pub fn door(&self) -> impl Fn() -> DoorFuture + Clone + Send + 'static {
        let (tls, grpc) = (TlsConnector::from(Arc::clone(&self.tls)), self.grpc);
        move || {
            let tls = tls.clone();
            Box::pin(async move {
                let stream = TcpStream::connect(grpc).await?;
                stream.set_nodelay(true)?;
                let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
                tls.connect(name, stream).await
            })
        }
    }

    /// A good client on a new connection, which has been served once. Each has an identity of its own, so that many
    /// together are not too fast for one.
    ///
    /// # Errors
    /// When it is not served.
    pub async fn good_client(&self) -> anyhow::Result<GoodClient> {
        let channel = tls_channel(self.grpc, &self.roots, None, &[&rustls::version::TLS13]).await?;
        let csr = request_of(&KeyPair::generate()?)?.1;
        let nth = self.good_clients.fetch_add(1, Ordering::Relaxed);
        let token = self.tokens.of_account("shop", &format!("cart-{nth}"));
        let client = GoodClient { client: IstioCertificateServiceClient::new(channel), csr, token };
        client.ask().await?;
        Ok(client)
    }

    /// Asks the plain port whether the process works.
    ///
    /// # Errors
    /// When it does not say so.
    pub async fn healthz(&self) -> anyhow::Result<()> {
        self.get("/healthz").await.map(drop)
    }

    /// Gets a page of the plain port.
    ///
    /// # Errors
    /// When the answer is not 200.
    pub async fn get(&self, path: &str) -> anyhow::Result<String> {
        let ask = async {
            let mut stream = TcpStream::connect(self.plain).await?;
            let request =
                format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut said = String::new();
            stream.read_to_string(&mut said).await?;
            ensure!(said.starts_with("HTTP/1.1 200"), "{path} said {said:?}");
            anyhow::Ok(said)
        };
        tokio::time::timeout(SOON, ask).await.with_context(|| format!("{path} is not answered"))?
    }

    /// How many connections it has cut for this reason.
    ///
    /// # Errors
    /// When the plain port does not answer.
    pub async fn cut_for(&self, reason: &str) -> anyhow::Result<usize> {
        let name = format!("banyan_connections_cut_total{{reason=\"{reason}\"}}");
        Ok(usize::try_from(self.metric(&name).await?)?)
    }

    /// Bytes that wait for the connections of its TLS port, by its own account.
    ///
    /// # Errors
    /// When the plain port does not answer.
    pub async fn unsent_bytes(&self) -> anyhow::Result<u64> {
        self.metric("banyan_unsent_bytes{port=\"grpc\"}").await
    }

    /// A number of the page of metrics; nothing when it is not there.
    async fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let page = self.get("/metrics").await?;
        let found = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(found.map_or(Ok(0), str::parse)?)
    }

    /// Asks the admin API how it is.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> anyhow::Result<StatusResponse> {
        let mut client = AdminServiceClient::new(self.admin.clone());
        let answer = tokio::time::timeout(SOON, client.status(StatusRequest {})).await;
        Ok(answer.context("the admin API does not answer")??.into_inner())
    }

    /// Memory of its process, in bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn memory(&self) -> anyhow::Result<u64> {
        memory_of(self.pid)
    }

    /// Open files of its process.
    ///
    /// # Errors
    /// When it has ended.
    pub fn files(&self) -> anyhow::Result<usize> {
        files_of(self.pid)
    }

    /// CPU time of its process so far.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_of(&self.pid.to_string())
    }
}

/// A handshake under way.
pub type DoorFuture =
    std::pin::Pin<Box<dyn Future<Output = std::io::Result<TlsStream<TcpStream>>> + Send>>;

/// Memory of a process, in bytes.
///
/// # Errors
/// When there is no such process.
pub fn memory_of(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// Open files of a process.
///
/// # Errors
/// When there is no such process.
pub fn files_of(pid: u32) -> anyhow::Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// CPU time of a process so far: a number, or `self`.
///
/// # Errors
/// When there is no such process.
pub fn cpu_of(process: &str) -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may hold anything; the times are the 12th and 13th field after it.
    let (_, fields) = text.rsplit_once(')').context("an odd /proc/PID/stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks = ticks.sum::<Result<u64, _>>()?;
    Ok(Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second())?)
}

/// The program, or a script that starts it with fewer files.
fn limited(program: &Path, files: Files, ca_dir: &CaDir) -> anyhow::Result<PathBuf> {
    let limit = match files {
        Files::AsHere => return Ok(program.to_owned()),
        Files::Soft(files) => format!("ulimit -Sn {files}"),
        Files::Hard(files) => format!("ulimit -n {files}"),
    };
    let script = ca_dir.beside("limited");
    std::fs::write(&script, format!("#!/bin/sh\n{limit}\nexec '{}' \"$@\"\n", program.display()))?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700))?;
    Ok(script)
}

impl GoodClient {
    /// Asks for a certificate; answers how long it took.
    ///
    /// # Errors
    /// When it is refused, or not answered.
    pub async fn ask(&self) -> anyhow::Result<Duration> {
        let message =
            IstioCertificateRequest { csr: self.csr.clone(), validity_duration: 0, metadata: None };
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.token).parse()?);
        let (mut client, began) = (self.client.clone(), Instant::now());
        let answer = tokio::time::timeout(SOON, client.create_certificate(request)).await;
        let answer = answer.context("a good client is not answered")??;
        ensure!(answer.get_ref().cert_chain.len() >= 2, "the answer has no chain");
        Ok(began.elapsed())
    }
}
