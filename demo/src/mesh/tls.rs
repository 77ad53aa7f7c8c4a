//! TLS of the demo's workloads: mutual, by SPIFFE id, and never resumed.

use std::sync::Arc;

use anyhow::Context;
use rustls::client::Resumption;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use trust::{Certificate, SpiffeId};
use trust_tls::{AnyMember, ServerRule, server_verifier};

use super::narrow::{self, NarrowRule};

/// Both directions of one workload's mTLS, built from one leaf and one set of roots.
#[derive(Debug)]
pub struct TlsPair {
    /// For connections that it opens.
    pub client: Arc<ClientConfig>,
    /// For connections that it accepts.
    pub server: Arc<ServerConfig>,
}

impl TlsPair {
    /// Builds both configurations; no session can be resumed, so every connection is judged anew.
    ///
    /// # Errors
    /// If key and certificate do not fit, or the roots are unusable.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        roots: Arc<RootCertStore>,
        verifies: Verifies,
    ) -> anyhow::Result<Self> {
        let provider = Arc::new(verifies.provider());
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(server_verifier(verifies.rule(&roots)))
            .with_client_auth_cert(chain.clone(), key.clone_key())?;
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        let clients =
            WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }
}

/// Which signatures of certificates a workload can verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verifies {
    /// All that this program knows.
    All,
    /// P-256 alone: a fake of an old proxy.
    P256,
}

impl Verifies {
    fn provider(self) -> rustls::crypto::CryptoProvider {
        match self {
            Self::All => rustls::crypto::ring::default_provider(),
            Self::P256 => narrow::provider(),
        }
    }

    fn rule(self, roots: &Arc<RootCertStore>) -> Arc<dyn ServerRule> {
        match self {
            Self::All => Arc::new(AnyMember(Arc::clone(roots))),
            Self::P256 => Arc::new(NarrowRule(Arc::clone(roots))),
        }
    }
}

/// A name for the handshake; the verifier does not look at it.
pub fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST).into())
}

/// The SPIFFE id of a verified peer.
///
/// # Errors
/// If it sent no certificate, or one without exactly one SPIFFE id.
pub fn peer_id(certificates: Option<&[CertificateDer<'static>]>) -> anyhow::Result<SpiffeId> {
    let leaf = certificates.and_then(<[_]>::first).context("the peer sent no certificate")?;
    Ok(Certificate::parse(leaf)?.spiffe_id()?)
}
