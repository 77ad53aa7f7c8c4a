//! One handshake with a listener, as its client: whether it takes what is presented.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, IpAddr, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use trust::{Bundle, Clock, SpiffeId};
use trust_tls::{Meant, SpiffeServer, server_verifier};

use crate::ca_client::tls::presented;
use crate::leaf::Leaf;
use crate::probed::Target;

/// Time for one handshake, its last word included.
const WITHIN: Duration = Duration::from_secs(5);
/// Bytes that a listener may say of itself before it says that it is done.
const HEARD_MAX: usize = 64 * 1024;

/// What a listener made of a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shaken {
    /// It took it.
    Taken,
    /// It refused it.
    Refused(String),
    /// It tells nothing of leaves: it does not answer, somebody else does, or it asks for none.
    Untold(String),
}

/// Whom a listener is believed to be.
pub(super) struct Meets<'a> {
    /// The roots that it may have its own certificate from.
    pub(super) bundle: &'a Bundle,
    /// Whose listener it is.
    pub(super) identity: &'a SpiffeId,
    pub(super) clock: &'a Arc<dyn Clock>,
}

/// What is presented.
pub(super) struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Shown {
    /// A leaf.
    pub(super) fn leaf(leaf: &Leaf) -> Self {
        let (chain, key) = presented(leaf);
        Self { chain, key }
    }

    /// A certificate that nobody signed, for the same identity: whoever takes it verifies nothing.
    pub(super) fn stranger(identity: &SpiffeId) -> Result<Self, rcgen::Error> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(identity.as_str().try_into()?)];
        let certificate = params.self_signed(&pair)?;
        let key = PrivatePkcs8KeyDer::from(pair.serialize_der());
        Ok(Self { chain: vec![certificate.der().clone()], key: PrivateKeyDer::Pkcs8(key) })
    }
}

/// Presents something to a listener.
pub(super) async fn shake(target: &Target, shown: Shown, meets: &Meets<'_>) -> Shaken {
    let asked = Arc::new(AtomicBool::new(false));
    let mut config = match config(shown, meets, Arc::clone(&asked)) {
        Ok(config) => config,
        Err(error) => {
            return Shaken::Untold(format!("this agent cannot present the leaf: {error}"));
        }
    };
    config.alpn_protocols = target.protocols.iter().cloned().map(String::into_bytes).collect();
    config.enable_sni = target.server_name.is_some();
    let Some(name) = name(target) else {
        return Shaken::Untold("no server name can be asked for that it chooses".to_owned());
    };
    match tokio::time::timeout(WITHIN, talk(&target.address, name, config, &asked)).await {
        Ok(shaken) => shaken,
        Err(_) => Shaken::Untold(format!("no answer within {} s", WITHIN.as_secs())),
    }
}

async fn talk(
    address: &str,
    name: ServerName<'static>,
    config: ClientConfig,
    asked: &AtomicBool,
) -> Shaken {
    let tcp = match TcpStream::connect(address).await {
        Ok(tcp) => tcp,
        Err(error) => return Shaken::Untold(format!("no connection: {error}")),
    };
    let connector = TlsConnector::from(Arc::new(config));
    let mut tls = match connector.connect(name, tcp).await {
        Ok(tls) => tls,
        Err(error) => return told_early(&error, asked.load(Ordering::Relaxed)),
    };
    if !asked.load(Ordering::Relaxed) {
        return Shaken::Untold("it asks for no certificate".to_owned());
    }
    // In TLS 1.3 the listener judges the leaf after our last message. It answers the end of what we say by the end of what it
    // says, or by an alert.
    if let Err(error) = tls.shutdown().await {
        return refused(&error);
    }
    let (mut heard, mut buffer) = (0, [0; 1_024]);
    loop {
        match tls.read(&mut buffer).await {
            Ok(0) => return Shaken::Taken,
            Ok(length) => {
                heard += length;
                // Nothing is said to a peer that is not believed.
                if heard >= HEARD_MAX {
                    return Shaken::Taken;
                }
            }
            Err(_) if heard > 0 => return Shaken::Taken,
            // Many end without a word when their peer has nothing to say. That a refusal is told apart from that is tried out with a
            // stranger's certificate.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Shaken::Taken,
            Err(error) => return refused(&error),
        }
    }
}

/// The handshake itself failed: for want of a good leaf only if one was asked for.
fn told_early(error: &std::io::Error, asked: bool) -> Shaken {
    match of_tls(error) {
        Some(Error::InvalidCertificate(CertificateError::NotValidForName)) => {
            Shaken::Untold("somebody else answers there".to_owned())
        }
        Some(Error::InvalidCertificate(why)) => {
            Shaken::Untold(format!("its own certificate is not believed: {why}"))
        }
        Some(Error::AlertReceived(alert)) if asked => Shaken::Refused(format!("alert {alert:?}")),
        _ => Shaken::Untold(error.to_string()),
    }
}

fn refused(error: &std::io::Error) -> Shaken {
    Shaken::Refused(match of_tls(error) {
        Some(Error::AlertReceived(alert)) => format!("alert {alert:?}"),
        _ => error.to_string(),
    })
}

fn of_tls(error: &std::io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// A name for the handshake. The verifier does not look at it, and it is sent only where the listener chooses by it.
fn name(target: &Target) -> Option<ServerName<'static>> {
    match &target.server_name {
        Some(name) => ServerName::try_from(name.clone()).ok(),
        None => {
            let here = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
            Some(ServerName::IpAddress(IpAddr::from(here)))
        }
    }
}

fn config(shown: Shown, meets: &Meets<'_>, asked: Arc<AtomicBool>) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let Shown { chain, key } = shown;
    let key = CertifiedKey::new(chain, provider.key_provider.load_private_key(key)?);
    let rule = SpiffeServer {
        bundle: meets.bundle.clone(),
        clock: Arc::clone(meets.clock),
        meant: Meant::Only(meets.identity.clone()),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(server_verifier(Arc::new(rule)))
        .with_client_cert_resolver(Arc::new(Presented { key: Arc::new(key), asked }));
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Presents one leaf to whoever asks for one, and notes that somebody did.
#[derive(Debug)]
struct Presented {
    key: Arc<CertifiedKey>,
    asked: Arc<AtomicBool>,
}

impl ResolvesClientCert for Presented {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        Some(Arc::clone(&self.key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
