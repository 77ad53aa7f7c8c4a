//! Connections to the server by mTLS, where SPIFFE ids are the names that count.

use std::io;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use trust::{Bundle, Chain, ChainError, Clock, PeerRole};

use crate::config::Address;
use crate::identity::Credential;
use crate::workload_api::{CONNECT_WITHIN, cause};

/// The path of every SPIRE server's own SPIFFE id.
const SERVER_PATH: &str = "/spire/server";

/// Connects to a server; the error says to where, and why not.
pub(crate) async fn server(
    address: &Address,
    credential: Credential,
    clock: Arc<dyn Clock>,
) -> Result<Channel, String> {
    let name = ServerName::try_from(address.host.clone()).map_err(|error| format!("{address}: {error}"))?;
    let config = Arc::new(client_config(credential, clock)?);
    let place = (address.host.clone(), address.port);
    let connector = tower::service_fn(move |_| {
        let (config, name, place) = (Arc::clone(&config), name.clone(), place.clone());
        async move {
            let stream = TcpStream::connect(place).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(TokioIo::new(TlsConnector::from(config).connect(name, stream).await?))
        }
    });
    let endpoint = Endpoint::from_static("https://spire-server").connect_timeout(CONNECT_WITHIN);
    let connected = endpoint.connect_with_connector(connector).await;
    connected.map_err(|error| format!("cannot connect to {address}: {}", cause(&error)))
}

fn client_config(credential: Credential, clock: Arc<dyn Clock>) -> Result<ClientConfig, String> {
    let Credential { id, chain, key, bundle } = credential;
    let provider = Arc::new(ring::default_provider());
    let verifier = SpireServer { bundle, clock, algorithms: provider.signature_verification_algorithms };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key);
    let mut config = config.map_err(|error| format!("the SVID of {id} and its key: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Believes only `spiffe://TRUST_DOMAIN/spire/server` with a chain to the bundle.
#[derive(Debug)]
struct SpireServer {
    bundle: Bundle,
    clock: Arc<dyn Clock>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for SpireServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let ders: Vec<_> = std::iter::once(end_entity).chain(intermediates).collect();
        let chain =
            Chain::parse(&ders).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        // The host name says only where to knock.
        let id = chain.leaf().spiffe_id();
        let is_server =
            id.is_ok_and(|id| id.trust_domain() == self.bundle.trust_domain() && id.path() == SERVER_PATH);
        if !is_server {
            return Err(Error::InvalidCertificate(CertificateError::NotValidForName));
        }
        match chain.verify(&self.bundle, self.clock.now(), PeerRole::Server) {
            Ok(_) => Ok(ServerCertVerified::assertion()),
            Err(ChainError::NotValidNow) => Err(Error::InvalidCertificate(CertificateError::Expired)),
            Err(_) => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
