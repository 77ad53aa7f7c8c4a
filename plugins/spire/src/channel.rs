//! Connections to the server by mTLS, where SPIFFE ids are the names that count.

use std::io;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use plugins::call::cause;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use trust::Clock;
use trust_tls::{Meant, SpiffeServer, server_verifier};

use crate::config::Address;
use crate::identity::Credential;
use crate::workload_api::CONNECT_WITHIN;

/// The path of every SPIRE server's own SPIFFE id.
const SERVER_PATH: &str = "/spire/server";

/// Connects to a server; the error says to where, and why not.
pub(crate) async fn server(
    address: &Address,
    credential: Credential,
    clock: Arc<dyn Clock>,
) -> Result<Channel, String> {
    let name = ServerName::try_from(address.host.clone())
        .map_err(|error| format!("{address}: {error}"))?;
    let config = Arc::new(client_config(credential, clock)?);
    let place = (address.host.clone(), address.port);
    let connector = tower::service_fn(move |_| {
        let (config, name, place) = (Arc::clone(&config), name.clone(), place.clone());
        async move {
            let stream = TcpStream::connect(place).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(TokioIo::new(
                TlsConnector::from(config).connect(name, stream).await?,
            ))
        }
    });
    let endpoint = Endpoint::from_static("https://spire-server").connect_timeout(CONNECT_WITHIN);
    let connected = endpoint.connect_with_connector(connector).await;
    connected.map_err(|error| format!("cannot connect to {address}: {}", cause(&error)))
}

fn client_config(credential: Credential, clock: Arc<dyn Clock>) -> Result<ClientConfig, String> {
    let Credential { id, chain, key, bundle } = credential;
    let provider = Arc::new(ring::default_provider());
    // Only `spiffe://TRUST_DOMAIN/spire/server` with a chain to the bundle.
    let meant = Meant::Such(|id| id.path() == SERVER_PATH);
    let server = SpiffeServer { bundle, clock, meant };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(server_verifier(Arc::new(server)))
        .with_client_auth_cert(chain, key);
    let mut config = config.map_err(|error| format!("the SVID of {id} and its key: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}
