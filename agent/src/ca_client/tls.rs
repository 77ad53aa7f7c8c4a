//! TLS to the CA: whom it is believed to be, and how it is found out at first contact.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::{ClientConfig, Error};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use trust::{Bundle, Clock, SpiffeId};
use trust_tls::{Meant, ServerRule, SpiffeServer, ders, server_verifier};

use crate::leaf::Leaf;

/// A client configuration that could not be put together.
#[derive(Debug, thiserror::Error)]
#[error("TLS to the CA cannot be set up: {0}")]
pub(crate) struct TlsError(#[from] Error);

/// A fresh configuration: TLS 1.3, HTTP/2, and no resumption, since a resumed session would carry over what a former
/// bundle said of the CA.
pub(crate) fn client_config(
    verifier: Arc<dyn ServerCertVerifier>,
    credential: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match credential {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// What is presented with a leaf.
pub(crate) fn presented(leaf: &Leaf) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = leaf.chain().certificates();
    let chain = chain.map(|certificate| CertificateDer::from(certificate.der().to_vec())).collect();
    (chain, leaf.key().rustls())
}

/// Believes only a CA of the bundle's trust domain (`/banyan/ca/...`) whose chain ends in the bundle.
pub(crate) fn ca_verifier(bundle: Bundle, clock: Arc<dyn Clock>) -> Arc<dyn ServerCertVerifier> {
    server_verifier(Arc::new(SpiffeServer { bundle, clock, meant: Meant::Such(SpiffeId::is_ca) }))
}

/// Believes anybody for the moment, and notes the chain, which is judged before anything secret is sent.
#[derive(Debug, Default)]
pub(crate) struct RecordingRule {
    seen: Mutex<Option<Vec<Vec<u8>>>>,
}

impl RecordingRule {
    /// The chain of the last handshake.
    pub(crate) fn seen(&self) -> Option<Vec<Vec<u8>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerRule for RecordingRule {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<(), Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(ders(end_entity, intermediates));
        Ok(())
    }
}
