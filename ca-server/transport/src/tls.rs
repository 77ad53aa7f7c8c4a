//! The TLS side: versions, client certificates, and a fresh configuration at every change of trust.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig, WantsServerCert,
};
use rustls::sign::CertifiedKey;
use rustls::{ConfigBuilder, Error, version};
use trust_tls::AnyProvenClient;

/// What a handshake is answered with: the server's own chain and its key.
pub struct ServingIdentity {
    /// Chain in DER, leaf first, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key. Never shown, never stored.
    pub key: PrivateKeyDer<'static>,
}

/// The TLS configuration in force. Each handshake takes the one of its moment.
#[derive(Debug)]
pub struct TlsState(ArcSwap<ServerConfig>);

impl TlsState {
    /// Starts with an identity.
    pub fn new(identity: ServingIdentity) -> Result<Self, Error> {
        Ok(Self(ArcSwap::new(server_config(identity)?)))
    }

    /// Starts without an identity: no handshake is answered until there is one.
    pub fn without_identity() -> Result<Self, Error> {
        let config = builder()?.with_cert_resolver(Arc::new(NoIdentity));
        Ok(Self(ArcSwap::new(finished(config))))
    }

    /// Puts another identity in force for the handshakes to come.
    pub fn renew(&self, identity: ServingIdentity) -> Result<(), Error> {
        self.0.store(server_config(identity)?);
        Ok(())
    }

    /// The configuration of this moment.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }
}

/// No session is ever resumed: a resumed one would rest on what was trusted when it began, and a ticket would carry the
/// client's whole chain.
fn server_config(identity: ServingIdentity) -> Result<Arc<ServerConfig>, Error> {
    Ok(finished(builder()?.with_single_cert(identity.chain, identity.key)?))
}

/// No certificate to answer with.
#[derive(Debug)]
struct NoIdentity;

impl ResolvesServerCert for NoIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

fn builder() -> Result<ConfigBuilder<ServerConfig, WantsServerCert>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        // Who the client is, is judged later at every call: a refusal in the handshake would have no code, no reason and no
        // audit record, and a connection outlives what was true when it opened.
        .with_client_cert_verifier(Arc::new(AnyProvenClient)))
}

fn finished(mut config: ServerConfig) -> Arc<ServerConfig> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Arc::new(config)
}
