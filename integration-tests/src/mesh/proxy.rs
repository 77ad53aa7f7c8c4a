//! A proxy that takes what its agent pushes, as Envoy does, and shakes hands with others in memory.
//!
//! A handshake takes certificate and trust of each side when that side joins it, as a real one does. What a proxy holds is
//! replaced secret by secret, so the order in which an agent pushes shows.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use proto::sds::{DiscoveryResponse, Secret, Specifier, secret};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::sync::watch;
use tokio::task::JoinSet;
use trust::{Certificate, RootId, Serial, Timestamp};
use trust_tls::{AnyMember, server_verifier};

use super::subscriber::secret_of;
use super::{Received, Subscriber};

/// Wait before a stream that ended is opened again.
const RETRY: Duration = Duration::from_millis(50);

/// What a member of the mesh presents and what it trusts.
#[derive(Clone, Debug, Default)]
pub struct Holding {
    /// DER, leaf first; empty while there is none.
    pub chain: Vec<Vec<u8>>,
    /// PKCS#8 of the leaf's key.
    pub key: Vec<u8>,
    /// DER of the roots that it trusts.
    pub roots: Vec<Vec<u8>>,
}

/// A proxy with two streams: one for its leaf, one for its trust.
#[derive(Debug)]
pub struct Proxy {
    name: String,
    holding: Arc<Mutex<Holding>>,
    mood: watch::Sender<Mood>,
    _streams: JoinSet<()>,
}

/// What a proxy does with what is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Takes,
    Frozen,
    Refuses,
}

/// Why two members could not shake hands.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Who opened.
    pub client: String,
    /// Who was called.
    pub server: String,
    /// Whose verification failed.
    pub refused_by: String,
    /// In the words of TLS.
    pub error: String,
}

impl Holding {
    /// The leaf, once there is one.
    pub fn leaf(&self) -> Option<Certificate> {
        self.chain.first().and_then(|der| Certificate::parse(der).ok())
    }

    /// Serial number of the leaf.
    pub fn serial(&self) -> Option<Serial> {
        self.leaf()?.serial()
    }

    /// Whether there is a leaf that is valid at `now`, and any trust.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.leaf().is_some_and(|leaf| leaf.validity().contains(now)) && !self.roots.is_empty()
    }

    /// The roots that it trusts, by id.
    pub fn trusted(&self) -> Vec<RootId> {
        self.roots.iter().map(|der| RootId::of(der)).collect()
    }

    /// The trusted root that the leaf chains to.
    pub fn root(&self) -> Option<RootId> {
        let last = Certificate::parse(self.chain.last()?).ok()?;
        let issued = |der: &&Vec<u8>| {
            Certificate::parse(der).is_ok_and(|root| last.issuer_der() == root.subject_der())
        };
        self.roots.iter().find(issued).map(|der| RootId::of(der))
    }
}

impl Proxy {
    /// Follows the secrets `default` and `ROOTCA` of an agent's socket; comes again when the agent does.
    pub fn follow(name: &str, socket: PathBuf) -> Self {
        Self::follow_noting(name, socket, &Received::default())
    }

    /// The same; each leaf that it is given is noted.
    pub fn follow_noting(name: &str, socket: PathBuf, received: &Received) -> Self {
        let holding = Arc::new(Mutex::new(Holding::default()));
        let mood = watch::Sender::new(Mood::Takes);
        let mut streams = JoinSet::new();
        for secret in ["ROOTCA", "default"] {
            let (socket, mood) = (socket.clone(), mood.subscribe());
            let hands = Hands { holding: Arc::clone(&holding), received: received.clone() };
            streams.spawn(async move {
                loop {
                    // The agent is away, or comes back; what it pushed last stays in use.
                    let _ = follow(secret, &socket, &hands, mood.clone()).await;
                    tokio::time::sleep(RETRY).await;
                }
            });
        }
        Self { name: name.to_owned(), holding, mood, _streams: streams }
    }

    /// Its name in failures.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it presents and trusts now.
    pub fn holding(&self) -> Holding {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Frozen, it takes and acknowledges nothing, and goes on with what it has.
    pub fn freeze(&self, frozen: bool) {
        self.mood.send_replace(if frozen { Mood::Frozen } else { Mood::Takes });
    }

    /// Refusing, it answers whatever comes with an error, and goes on with what it has. When it ends that it comes anew, as
    /// one that was mended and restarted.
    pub fn refuse(&self, refuses: bool) {
        self.mood.send_replace(if refuses { Mood::Refuses } else { Mood::Takes });
    }
}

async fn follow(
    name: &str,
    socket: &std::path::Path,
    hands: &Hands,
    mut mood: watch::Receiver<Mood>,
) -> anyhow::Result<()> {
    let mut stream = Subscriber::open(socket, name).await?;
    loop {
        let refused = *mood.borrow_and_update() == Mood::Refuses;
        let answer = tokio::select! {
            answer = stream.pushed() => answer?,
            _ = mood.changed(), if refused => anyhow::bail!("restarted after refusals"),
        };
        let mood = *mood.wait_for(|mood| *mood != Mood::Frozen).await?;
        let taken = match mood {
            Mood::Refuses => Err(anyhow::anyhow!("this proxy refuses everything")),
            Mood::Takes | Mood::Frozen => take(&answer, hands),
        };
        match taken {
            Ok(()) => stream.ack(&answer).await?,
            Err(error) => stream.nack(&answer, &error.to_string()).await?,
        }
    }
}

/// Where what was pushed goes.
struct Hands {
    holding: Arc<Mutex<Holding>>,
    received: Received,
}

fn take(answer: &DiscoveryResponse, hands: &Hands) -> anyhow::Result<()> {
    let Hands { holding, received } = hands;
    let Secret { r#type, .. } = secret_of(answer)?;
    match r#type.context("an empty secret")? {
        secret::Type::TlsCertificate(certificate) => {
            let chain = pems(certificate.certificate_chain.and_then(|source| source.specifier))?;
            let key = pems(certificate.private_key.and_then(|source| source.specifier))?;
            let key = key.into_iter().next().context("no key")?;
            received.note(&chain);
            let mut held = holding.lock().unwrap_or_else(PoisonError::into_inner);
            (held.chain, held.key) = (chain, key);
        }
        secret::Type::ValidationContext(context) => {
            let roots = pems(context.trusted_ca.and_then(|source| source.specifier))?;
            holding.lock().unwrap_or_else(PoisonError::into_inner).roots = roots;
        }
    }
    Ok(())
}

fn pems(source: Option<Specifier>) -> anyhow::Result<Vec<Vec<u8>>> {
    let Some(Specifier::InlineBytes(text)) = source else {
        anyhow::bail!("the secret is not inline")
    };
    Ok(pem::parse_many(text)?.into_iter().map(pem::Pem::into_contents).collect())
}

/// Shakes hands: the client with what it holds now, the server with what it holds when the first bytes arrive.
///
/// # Errors
/// [`Failed`] says whose verification failed.
pub fn shake(client: (&str, &Holding), server: (&str, &Holding)) -> Result<(), Failed> {
    let failed = |refused_by: &str, error: String| Failed {
        client: client.0.to_owned(),
        server: server.0.to_owned(),
        refused_by: refused_by.to_owned(),
        error,
    };
    let config = client_config(client.1).map_err(|error| failed(client.0, error.to_string()))?;
    let name = ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into());
    let mut near = ClientConnection::new(Arc::new(config), name)
        .map_err(|e| failed(client.0, e.to_string()))?;
    let config = server_config(server.1).map_err(|error| failed(server.0, error.to_string()))?;
    let mut far =
        ServerConnection::new(Arc::new(config)).map_err(|e| failed(server.0, e.to_string()))?;
    // Two flights each way at most; a handshake that goes on longer is none.
    for _ in 0..8 {
        let mut wire = Vec::new();
        near.write_tls(&mut wire).map_err(|e| failed(client.0, e.to_string()))?;
        far.read_tls(&mut wire.as_slice()).map_err(|e| failed(server.0, e.to_string()))?;
        far.process_new_packets().map_err(|e| failed(server.0, e.to_string()))?;
        wire.clear();
        far.write_tls(&mut wire).map_err(|e| failed(server.0, e.to_string()))?;
        near.read_tls(&mut wire.as_slice()).map_err(|e| failed(client.0, e.to_string()))?;
        near.process_new_packets().map_err(|e| failed(client.0, e.to_string()))?;
        if !near.is_handshaking()
            && !far.is_handshaking()
            && !near.wants_write()
            && !far.wants_write()
        {
            return Ok(());
        }
    }
    Err(failed(client.0, "the handshake does not end".to_owned()))
}

fn store(holding: &Holding) -> anyhow::Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    for root in &holding.roots {
        roots.add(CertificateDer::from(root.clone()))?;
    }
    Ok(Arc::new(roots))
}

fn credential(holding: &Holding) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = holding.chain.iter().cloned().map(CertificateDer::from).collect();
    (chain, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(holding.key.clone())))
}

fn client_config(holding: &Holding) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    // Names are for others to test.
    let verifier = server_verifier(Arc::new(AnyMember(store(holding)?)));
    let (chain, key) = credential(holding);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key)?;
    config.resumption = Resumption::disabled();
    Ok(config)
}

pub(super) fn server_config(holding: &Holding) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(store(holding)?, Arc::clone(&provider))
            .build()?;
    let (chain, key) = credential(holding);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
