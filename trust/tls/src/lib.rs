//! Who is believed in a TLS handshake: verifiers of rustls whose rules are those of `trust`.
//!
//! A rule says which chain is believed ([`ServerRule`]); that the peer holds the key of that chain is proven here, in one
//! place for all rules. Nothing here connects, listens or reads a file.
//!
//! Start at [`server_verifier`] for who connects, at [`AnyProvenClient`] for who listens.
#![forbid(unsafe_code)]

use std::fmt::Debug;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use trust::{Bundle, Chain, ChainError, Clock, Cover, PeerRole, SpiffeId};

/// Which servers are believed, by the chain that they show.
pub trait ServerRule: Debug + Send + Sync {
    /// Judges a chain, its end entity first. The name that was asked for is not among what is judged: a SPIFFE id is the
    /// name that counts, and a DNS name says only where to knock.
    ///
    /// # Errors
    /// Why the server is not believed; the handshake ends with it.
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error>;
}

/// A verifier that believes the servers of a rule, if they hold the keys of the certificates that they show.
pub fn server_verifier(rule: Arc<dyn ServerRule>) -> Arc<dyn ServerCertVerifier> {
    Arc::new(ServerVerifier(rule))
}

/// Believes peers of one bundle's trust domain whose chain ends in the bundle.
#[derive(Debug)]
pub struct SpiffeServer {
    /// The roots, and the trust domain.
    pub bundle: Bundle,
    /// The time that certificates are judged by.
    pub clock: Arc<dyn Clock>,
    /// Which members of the trust domain are meant.
    pub meant: Meant,
}

/// Which members of a trust domain are meant.
#[derive(Clone, Debug)]
pub enum Meant {
    /// Those of which this is so.
    Such(fn(&SpiffeId) -> bool),
    /// This one alone.
    Only(SpiffeId),
    /// Those that this is about.
    Of(Cover),
}

impl Meant {
    fn is(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Such(is_meant) => is_meant(id),
            Self::Only(only) => id == only,
            Self::Of(cover) => cover.has(id),
        }
    }
}

/// Believes any server whose chain ends in one of these roots; who it is, is compared after the handshake.
#[derive(Debug)]
pub struct AnyMember(pub Arc<RootCertStore>);

/// Accepts every client certificate whose key the client proves to hold, and clients without one. Who the client is, is
/// judged later.
#[derive(Debug)]
pub struct AnyProvenClient;

#[derive(Debug)]
struct ServerVerifier(Arc<dyn ServerRule>);

/// A chain in DER, its end entity first.
pub fn ders(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Vec<Vec<u8>> {
    std::iter::once(end_entity).chain(intermediates).map(|der| der.to_vec()).collect()
}

impl ServerRule for SpiffeServer {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<(), Error> {
        let chain = Chain::parse(&ders(end_entity, intermediates))
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let id = chain.leaf().spiffe_id();
        if !id.is_ok_and(|id| id.trust_domain() == self.bundle.trust_domain() && self.meant.is(&id))
        {
            return Err(Error::InvalidCertificate(CertificateError::NotValidForName));
        }
        match chain.verify(&self.bundle, self.clock.now(), PeerRole::Server) {
            Ok(_) => Ok(()),
            Err(ChainError::NotValidNow) => {
                Err(Error::InvalidCertificate(CertificateError::Expired))
            }
            Err(_) => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        }
    }
}

impl ServerRule for AnyMember {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let leaf = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &leaf,
            &self.0,
            intermediates,
            now,
            algorithms().all,
        )
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.judge(end_entity, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

impl ClientCertVerifier for AnyProvenClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// Those of the one provider in the whole program.
fn algorithms() -> WebPkiSupportedAlgorithms {
    ring::default_provider().signature_verification_algorithms
}

#[cfg(test)]
mod tests;
