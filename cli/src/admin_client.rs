//! Connections to the admin API: a Unix socket, or mTLS with an admin identity.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use proto::banyan::admin::v1::admin_service_client::AdminServiceClient;
use proto::banyan::admin::v1::agent_admin_service_client::AgentAdminServiceClient;
use proto::banyan::admin::v1::authority_service_client::AuthorityServiceClient;
use proto::banyan::admin::v1::leaf_service_client::LeafServiceClient;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::state_service_client::StateServiceClient;
use proto::banyan::admin::v1::token_service_client::TokenServiceClient;
use proto::banyan::tier::v1::tier_admin_service_client::TierAdminServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::args::AdminTarget;
use crate::config_file;
use crate::exit::Failure;

mod mtls;

/// Longest wait for a connection and for an answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Connects to the server that the user named, or to the socket of `banyan.toml` in this directory or in `/etc/banyan`.
///
/// # Errors
/// [`Failure::Unreachable`] if nobody answers, [`Failure::Configuration`] if the configuration file is wrong.
pub async fn connect(target: &AdminTarget) -> Result<AdminServiceClient<Channel>, Failure> {
    Ok(AdminServiceClient::new(open(target).await?))
}

/// As [`connect`], for rotations, subscribers and the journal.
///
/// # Errors
/// As [`connect`].
pub async fn rotations(target: &AdminTarget) -> Result<RotationServiceClient<Channel>, Failure> {
    Ok(RotationServiceClient::new(open(target).await?))
}

/// As [`connect`], for registered agents.
///
/// # Errors
/// As [`connect`].
pub async fn agents(target: &AdminTarget) -> Result<AgentAdminServiceClient<Channel>, Failure> {
    Ok(AgentAdminServiceClient::new(open(target).await?))
}

/// As [`connect`], for leaves that may live.
///
/// # Errors
/// As [`connect`].
pub async fn leaves(target: &AdminTarget) -> Result<LeafServiceClient<Channel>, Failure> {
    Ok(LeafServiceClient::new(open(target).await?))
}

/// As [`connect`], for join tokens.
///
/// # Errors
/// As [`connect`].
pub async fn tokens(target: &AdminTarget) -> Result<TokenServiceClient<Channel>, Failure> {
    Ok(TokenServiceClient::new(open(target).await?))
}

/// As [`connect`], for root authorities.
///
/// # Errors
/// As [`connect`].
pub async fn authorities(target: &AdminTarget) -> Result<AuthorityServiceClient<Channel>, Failure> {
    Ok(AuthorityServiceClient::new(open(target).await?))
}

/// As [`connect`], for a record that is older than the mesh.
///
/// # Errors
/// As [`connect`].
pub async fn states(target: &AdminTarget) -> Result<StateServiceClient<Channel>, Failure> {
    Ok(StateServiceClient::new(open(target).await?))
}

/// As [`connect`], for tiers below.
///
/// # Errors
/// As [`connect`].
pub async fn tiers(target: &AdminTarget) -> Result<TierAdminServiceClient<Channel>, Failure> {
    Ok(TierAdminServiceClient::new(open(target).await?))
}

async fn open(target: &AdminTarget) -> Result<Channel, Failure> {
    match &target.server {
        Some(server) => mtls::channel(server, target).await,
        None => socket_channel(&socket_path(target)?).await,
    }
}

/// Connects to an admin socket.
///
/// # Errors
/// [`Failure::Unreachable`] with what to check.
pub async fn connect_socket(path: &Path) -> Result<AdminServiceClient<Channel>, Failure> {
    Ok(AdminServiceClient::new(socket_channel(path).await?))
}

/// As [`connect_socket`], for rotations, subscribers and the journal.
///
/// # Errors
/// As [`connect_socket`].
pub async fn rotations_at(path: &Path) -> Result<RotationServiceClient<Channel>, Failure> {
    Ok(RotationServiceClient::new(socket_channel(path).await?))
}

async fn socket_channel(path: &Path) -> Result<Channel, Failure> {
    let unreachable = |detail: String| {
        Failure::Unreachable(format!(
            "cannot reach the admin socket {}: {detail}; check that `banyan serve` is running here and that this user may open the socket",
            path.display()
        ))
    };
    let owned = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = owned.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The address is only a name on a Unix socket; the socket decides where this goes.
    let endpoint = Endpoint::from_static("http://localhost").connect_timeout(DEADLINE).timeout(DEADLINE);
    endpoint.connect_with_connector(connector).await.map_err(|error| unreachable(root_cause(&error)))
}

fn socket_path(target: &AdminTarget) -> Result<PathBuf, Failure> {
    if let Some(socket) = &target.socket {
        return Ok(socket.clone());
    }
    let Some(file) = target.config.clone().or_else(|| config_file::found(config_file::SERVER)) else {
        return Err(Failure::Usage(
            "no server is named; use --socket PATH, --config banyan.toml, --server HOST:PORT, or BANYAN_ADMIN_SOCKET"
                .to_owned(),
        ));
    };
    let config = ca_server::Config::load(&file).map_err(|error| Failure::Configuration(error.to_string()))?;
    Ok(config.listen().admin_socket().to_owned())
}

/// The innermost text of an error, which is the one that tells what happened.
pub fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
