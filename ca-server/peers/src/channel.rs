//! A channel to one server.

use std::sync::Arc;
use std::time::Duration;

use control::front::ServerIdentity;
use control::peers::calls::{CallError, Place};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use trust::{Bundle, Clock, SpiffeId};
use trust_tls::{Meant, SpiffeServer, server_verifier};

/// Time for TCP and TLS together: a call that waits for it is over sooner, and the next one finds it open.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// A connection that is silent for so long is asked for a sign of life, and ends without one.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Whom a channel believes, and what it shows.
pub(crate) struct Terms {
    pub(crate) bundle: Bundle,
    pub(crate) identity: Arc<ServerIdentity>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// A channel that connects when it is used, and again when the connection is lost.
pub(crate) fn to(place: &Place, terms: Terms) -> Result<Channel, CallError> {
    let config = tls(place, terms)?;
    // TLS is the connector's own: the scheme only keeps tonic from adding another.
    let endpoint = Endpoint::from_shared(format!("http://{}", place.address))
        .map_err(|error| unreachable(&place.address, &error.to_string()))?
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWER_WITHIN)
        .keep_alive_while_idle(true);
    // A SPIFFE id is the name that counts; this one only has to be one.
    let name = ServerName::try_from("replica.banyan.invalid")
        .map_err(|error| unreachable(&place.address, &error.to_string()))?;
    let (tls, address) = (TlsConnector::from(Arc::new(config)), place.address.clone());
    Ok(endpoint.connect_with_connector_lazy(service_fn(move |_| {
        let (tls, name, address) = (tls.clone(), name.clone(), address.clone());
        async move {
            let connect = async {
                let tcp = TcpStream::connect(address).await?;
                tcp.set_nodelay(true)?;
                tls.connect(name, tcp).await
            };
            tokio::time::timeout(CONNECT_WITHIN, connect).await?.map(TokioIo::new)
        }
    })))
}

/// TLS 1.3 alone, and no resumption: a resumed session would carry over what a former bundle said.
fn tls(place: &Place, terms: Terms) -> Result<ClientConfig, CallError> {
    let Terms { bundle, identity, clock } = terms;
    let broken = |error: &dyn std::fmt::Display| unreachable(&place.address, &error.to_string());
    let id = SpiffeId::ca(bundle.trust_domain(), place.name.as_str());
    let meant = Meant::Only(id.map_err(|error| broken(&error))?);
    let verifier = server_verifier(Arc::new(SpiffeServer { bundle, clock, meant }));
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| broken(&error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let shown = builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key());
    let mut config = shown.map_err(|error| broken(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

pub(crate) fn unreachable(address: &str, why: &str) -> CallError {
    CallError::Unreachable(format!("cannot be reached at {address}: {why}"))
}
