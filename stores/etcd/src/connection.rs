//! One connection to one member.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint as TonicEndpoint};

use crate::noted::{Ended, Noted};
use crate::settings::{Endpoint, TlsFiles};

/// Longest time for TCP and TLS with one member.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How often a quiet connection is tried, and how long the answer may take: a member that is gone without a word is noticed
/// within both.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEP_ALIVE_WITHIN: Duration = Duration::from_secs(3);

/// Connects; the error says to what, and why not. What ends the connection later is noted beside it.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    files: Option<&TlsFiles>,
) -> Result<(Channel, Ended), String> {
    let shown = endpoint.to_string();
    let ended = Ended::default();
    let connecting = async {
        match (endpoint.tls, files) {
            (true, Some(files)) => over_tls(endpoint, files, &ended).await,
            (true, None) => Err("it needs ca_file, cert_file and key_file".to_owned()),
            (false, _) => plain(endpoint, &ended).await,
        }
    };
    let connected = tokio::time::timeout(CONNECT_WITHIN, connecting).await;
    let late = |_| format!("no connection within {} s", CONNECT_WITHIN.as_secs());
    let channel = connected.map_err(late).flatten();
    Ok((channel.map_err(|error| format!("{shown}: {error}"))?, ended))
}

fn endpoint() -> TonicEndpoint {
    TonicEndpoint::from_static("http://etcd")
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_WITHIN)
        .keep_alive_while_idle(true)
}

async fn stream_to(address: (String, u16)) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn plain(to: &Endpoint, ended: &Ended) -> Result<Channel, String> {
    let address = (to.host.clone(), to.port);
    let ended = ended.clone();
    let connector = tower::service_fn(move |_| {
        let (address, ended) = (address.clone(), ended.clone());
        async move { Ok::<_, io::Error>(TokioIo::new(Noted::new(stream_to(address).await?, ended))) }
    });
    endpoint().connect_with_connector(connector).await.map_err(|error| cause(&error))
}

async fn over_tls(to: &Endpoint, files: &TlsFiles, ended: &Ended) -> Result<Channel, String> {
    let config = Arc::new(client_config(files)?);
    let name = ServerName::try_from(to.host.clone()).map_err(|error| error.to_string())?;
    let address = (to.host.clone(), to.port);
    let ended = ended.clone();
    let connector = tower::service_fn(move |_| {
        let (config, name, address) = (Arc::clone(&config), name.clone(), address.clone());
        let ended = ended.clone();
        async move {
            let stream = stream_to(address).await?;
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            Ok::<_, io::Error>(TokioIo::new(Noted::new(stream, ended)))
        }
    });
    endpoint().connect_with_connector(connector).await.map_err(|error| cause(&error))
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
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("{} holds no certificate", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The innermost reason: what the operating system or TLS said.
pub(crate) fn cause(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    innermost.to_string()
}
