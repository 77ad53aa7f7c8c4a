//! TLS to the CA: whom it is believed to be, and how it is found out at first contact.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use trust::{Bundle, Chain, Clock, PeerRole};

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
#[derive(Debug)]
pub(crate) struct CaVerifier {
    pub(crate) bundle: Bundle,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Believes anybody for the moment, and notes the chain, which is judged before anything secret is sent.
#[derive(Debug, Default)]
pub(crate) struct RecordingVerifier {
    seen: Mutex<Option<Vec<Vec<u8>>>>,
}

impl RecordingVerifier {
    /// The chain of the last handshake.
    pub(crate) fn seen(&self) -> Option<Vec<Vec<u8>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for CaVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = Chain::parse(&ders(end_entity, intermediates))
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        // The SPIFFE id is the name that counts; the DNS name says only where to knock.
        let id = chain.leaf().spiffe_id();
        if !id.is_ok_and(|id| id.is_ca() && id.trust_domain() == self.bundle.trust_domain()) {
            return Err(Error::InvalidCertificate(CertificateError::NotValidForName));
        }
        match chain.verify(&self.bundle, self.clock.now(), PeerRole::Server) {
            Ok(_) => Ok(ServerCertVerified::assertion()),
            Err(trust::ChainError::NotValidNow) => Err(Error::InvalidCertificate(CertificateError::Expired)),
            Err(_) => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for RecordingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(ders(end_entity, intermediates));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn provider() -> CryptoProvider {
    ring::default_provider()
}

fn ders(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Vec<Vec<u8>> {
    std::iter::once(end_entity).chain(intermediates).map(|der| der.to_vec()).collect()
}
