//! Connections to an agent's Unix socket.

use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use plugins::call::cause;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// Longest wait for a connection.
pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Connects to an agent; the error says to where, and why not.
pub(crate) async fn connect(path: &Path) -> Result<Channel, String> {
    let shown = path.display().to_string();
    let path = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost").connect_timeout(CONNECT_WITHIN);
    let connected = endpoint.connect_with_connector(connector).await;
    connected.map_err(|error| {
        format!("cannot connect to {shown}: {}; is the SPIRE agent up?", cause(&error))
    })
}
