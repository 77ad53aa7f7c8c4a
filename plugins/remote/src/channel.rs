//! Connections to a plugin: a Unix socket, or mTLS.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use plugins::call::cause;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint as TonicEndpoint};

use crate::config::{Endpoint, TlsFiles};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Connects; the error says to what, and why not.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    tls: Option<&TlsFiles>,
) -> Result<Channel, String> {
    match endpoint {
        Endpoint::Unix(path) => unix(path).await,
        Endpoint::Tls { host, port } => {
            let files = tls.ok_or("an https endpoint needs ca_file, cert_file and key_file")?;
            mtls(host, *port, files).await
        }
    }
}

async fn unix(path: &Path) -> Result<Channel, String> {
    let shown = path.display().to_string();
    let path = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = TonicEndpoint::from_static("http://plugin").connect_timeout(CONNECT_WITHIN);
    let connected = endpoint.connect_with_connector(connector).await;
    connected.map_err(|error| {
        format!("cannot connect to {shown}: {}; is the plugin running?", cause(&error))
    })
}

async fn mtls(host: &str, port: u16, files: &TlsFiles) -> Result<Channel, String> {
    let config = Arc::new(client_config(files)?);
    let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("{host}: {error}"))?;
    let address = (host.to_owned(), port);
    let connector = tower::service_fn(move |_| {
        let (config, name, address) = (Arc::clone(&config), name.clone(), address.clone());
        async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(TokioIo::new(
                TlsConnector::from(config).connect(name, stream).await?,
            ))
        }
    });
    let endpoint = TonicEndpoint::from_static("https://plugin").connect_timeout(CONNECT_WITHIN);
    let connected = endpoint.connect_with_connector(connector).await;
    connected.map_err(|error| format!("cannot connect to {host}:{port}: {}", cause(&error)))
}

fn client_config(files: &TlsFiles) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for root in certificates(&files.ca)? {
        roots.add(root).map_err(|error| format!("{}: {error}", files.ca.display()))?;
    }
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|error| format!("{}: {error}", files.key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(&files.cert)?, key);
    let mut config = config.map_err(|error| format!("{}: {error}", files.cert.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match read {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("{} holds no certificate", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
