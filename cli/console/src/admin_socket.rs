//! The admin API on this machine: the Unix socket of a server.

use std::io;
use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use proto::banyan::admin::v1::admin_service_client::AdminServiceClient;
use proto::banyan::admin::v1::leaf_service_client::LeafServiceClient;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::Service;

use crate::exit::{Failure, Told};

/// Longest wait for a connection and for an answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Connects to an admin socket.
///
/// # Errors
/// [`Failure::Unreachable`] with what to check.
pub async fn connect(path: &Path) -> Result<AdminServiceClient<Channel>, Failure> {
    Ok(AdminServiceClient::new(channel(path).await?))
}

/// As [`connect`], for rotations, relying parties and the journal.
///
/// # Errors
/// As [`connect`].
pub async fn rotations(path: &Path) -> Result<RotationServiceClient<Channel>, Failure> {
    Ok(RotationServiceClient::new(channel(path).await?))
}

/// As [`connect`], for leaves that may live.
///
/// # Errors
/// As [`connect`].
pub async fn leaves(path: &Path) -> Result<LeafServiceClient<Channel>, Failure> {
    Ok(LeafServiceClient::new(channel(path).await?))
}

/// A channel to an admin socket.
///
/// # Errors
/// As [`connect`].
pub async fn channel(path: &Path) -> Result<Channel, Failure> {
    open(path).await.map_err(|detail| {
        let told = Told::new(format!("cannot reach the admin socket {}: {detail}", path.display()));
        let advice =
            "check that `banyan serve` is running here and that this user may open the socket";
        Failure::Unreachable(told.advising(advice))
    })
}

/// A channel to an admin socket that is opened at the first call, and again after it was lost: for what goes on while the
/// server is restarted.
#[must_use]
pub fn lazy(path: &Path) -> Channel {
    endpoint().connect_with_connector_lazy(connector(path))
}

/// A channel to any Unix socket.
///
/// # Errors
/// What went wrong, in words.
pub async fn open(path: &Path) -> Result<Channel, String> {
    endpoint().connect_with_connector(connector(path)).await.map_err(|error| root_cause(&error))
}

/// The address is only a name on a Unix socket; the socket decides where this goes.
fn endpoint() -> Endpoint {
    Endpoint::from_static("http://localhost").connect_timeout(DEADLINE).timeout(DEADLINE)
}

fn connector(
    path: &Path,
) -> impl Service<Uri, Response = TokioIo<UnixStream>, Error = io::Error, Future: Send> + Send + 'static
{
    let path = path.to_owned();
    tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    })
}

/// The innermost text of an error, which is the one that tells what happened.
pub fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
