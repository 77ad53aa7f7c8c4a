//! HTTPS for one public document: nobody is authenticated, and whoever can connect may read it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use rustls::server::NoServerSessionStorage;
use rustls::{Error, ServerConfig, version};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::crowd::Place;
use crate::plain;
use crate::tls::ServingIdentity;

/// Connections of readers at a time.
pub const READERS_MAX: usize = 256;
/// Time for each thing that a reader does.
pub const READ_WITHIN: Duration = Duration::from_secs(10);
/// Time for a handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

/// What a reader's handshake is answered with; nothing until there is an identity.
#[derive(Default)]
pub struct DocumentTls(ArcSwapOption<ServerConfig>);

impl DocumentTls {
    /// Puts an identity in force for the handshakes to come.
    pub fn renew(&self, identity: ServingIdentity) -> Result<(), Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
            .with_no_client_auth()
            .with_single_cert(identity.chain, identity.key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        self.0.store(Some(Arc::new(config)));
        Ok(())
    }
}

impl fmt::Debug for DocumentTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DocumentTls").finish_non_exhaustive()
    }
}

/// The document at `/` and `/bundle.json`, as `document` gives it at that moment, or why there is none now.
pub fn routes(
    document: impl Fn() -> Result<Vec<u8>, String> + Clone + Send + Sync + 'static,
) -> Router {
    let read = move || async move {
        match document() {
            Ok(body) => {
                let headers = [
                    (header::CONTENT_TYPE, "application/json"),
                    (header::CACHE_CONTROL, "no-store"),
                ];
                (headers, body).into_response()
            }
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
        }
    };
    Router::new().route("/", get(read.clone())).route("/bundle.json", get(read))
}

/// Serves one connection.
pub async fn serve(stream: TcpStream, place: Place, tls: Arc<DocumentTls>, routes: Router) {
    let Some(config) = tls.0.load_full() else { return };
    let shaken = TlsAcceptor::from(config).accept(stream);
    match tokio::time::timeout(HANDSHAKE_WITHIN, shaken).await {
        Ok(Ok(stream)) => plain::serve(stream, place, routes).await,
        Ok(Err(error)) => tracing::debug!(%error, "a reader's TLS handshake failed"),
        Err(_) => tracing::debug!("a reader's TLS handshake took too long"),
    }
}
