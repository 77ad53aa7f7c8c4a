//! gRPC channels over TLS to a server whose roots are known.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// TLS settings for gRPC, without session resumption, with an optional client certificate.
///
/// # Errors
/// If a root, the certificate or the key is unusable.
pub fn client_config(
    roots: RootCertStore,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> anyhow::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some((chain, key)) => {
            builder.with_client_auth_cert(chain, key).context("certificate and key do not fit")?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Reads roots from PEM text.
///
/// # Errors
/// If there is no certificate, or one is unusable.
pub fn roots_from_pem(pem: &[u8]) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.context("not PEM")?).context("not usable as a root")?;
    }
    anyhow::ensure!(!roots.is_empty(), "no certificate in the PEM text");
    Ok(roots)
}

/// Opens one connection to HOST:PORT, whose certificate must name HOST.
///
/// # Errors
/// If the address is malformed, or the connection or handshake fails.
pub async fn connect(address: &str, config: Arc<ClientConfig>) -> anyhow::Result<Channel> {
    let (host, _) = address.rsplit_once(':').context("an address is HOST:PORT")?;
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
    let target = address.to_owned();
    let connector = tower::service_fn(move |_| {
        let (target, name, config) = (target.clone(), name.clone(), Arc::clone(&config));
        async move {
            let stream = TcpStream::connect(target).await?;
            stream.set_nodelay(true)?;
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint =
        Endpoint::from_shared(format!("https://{address}"))?.connect_timeout(CONNECT_DEADLINE);
    // The connector speaks TLS itself, so the channel must not ask for it again: the scheme is only a header.
    Ok(endpoint.connect_with_connector(connector).await?)
}
