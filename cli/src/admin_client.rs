//! Connections to the admin API: a Unix socket, or mTLS with an admin identity.

use std::path::PathBuf;

use console::admin_socket;
use console::exit::{Failure, Told};
use proto::banyan::admin::v1::admin_service_client::AdminServiceClient;
use proto::banyan::admin::v1::agent_admin_service_client::AgentAdminServiceClient;
use proto::banyan::admin::v1::authority_service_client::AuthorityServiceClient;
use proto::banyan::admin::v1::ban_service_client::BanServiceClient;
use proto::banyan::admin::v1::crl_service_client::CrlServiceClient;
use proto::banyan::admin::v1::federation_service_client::FederationServiceClient;
use proto::banyan::admin::v1::leaf_service_client::LeafServiceClient;
use proto::banyan::admin::v1::replica_service_client::ReplicaServiceClient;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::state_service_client::StateServiceClient;
use proto::banyan::admin::v1::token_service_client::TokenServiceClient;
use proto::banyan::admin::v1::waiver_service_client::WaiverServiceClient;
use proto::banyan::downstream::v1::downstream_admin_service_client::DownstreamAdminServiceClient;
use tonic::transport::Channel;

use crate::args::AdminTarget;
use crate::config_file;

mod mtls;

/// Bytes of an answer with revocation lists.
const LISTS_BYTES_MAX: usize = 16 << 20;

/// Connects to the server that the user named, or to the socket of `banyan.toml` in this directory or in `/etc/banyan`.
///
/// # Errors
/// [`Failure::Unreachable`] if nobody answers, [`Failure::Configuration`] if the configuration file is wrong.
pub async fn connect(target: &AdminTarget) -> Result<AdminServiceClient<Channel>, Failure> {
    Ok(AdminServiceClient::new(open(target).await?))
}

/// As [`connect`], for rotations, relying parties and the journal.
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

/// As [`connect`], for federations.
///
/// # Errors
/// As [`connect`].
pub async fn federations(
    target: &AdminTarget,
) -> Result<FederationServiceClient<Channel>, Failure> {
    Ok(FederationServiceClient::new(open(target).await?))
}

/// As [`connect`], for bans.
///
/// # Errors
/// As [`connect`].
pub async fn bans(target: &AdminTarget) -> Result<BanServiceClient<Channel>, Failure> {
    Ok(BanServiceClient::new(open(target).await?))
}

/// As [`connect`], for revocation lists.
///
/// # Errors
/// As [`connect`].
pub async fn crls(target: &AdminTarget) -> Result<CrlServiceClient<Channel>, Failure> {
    // A list of each issuer, all of its entries among them.
    Ok(CrlServiceClient::new(open(target).await?).max_decoding_message_size(LISTS_BYTES_MAX))
}

/// As [`connect`], for waivers.
///
/// # Errors
/// As [`connect`].
pub async fn waivers(target: &AdminTarget) -> Result<WaiverServiceClient<Channel>, Failure> {
    Ok(WaiverServiceClient::new(open(target).await?))
}

/// As [`connect`], for join tokens.
///
/// # Errors
/// As [`connect`].
pub async fn tokens(target: &AdminTarget) -> Result<TokenServiceClient<Channel>, Failure> {
    Ok(TokenServiceClient::new(open(target).await?))
}

/// As [`connect`], for the servers of a CA.
///
/// # Errors
/// As [`connect`].
pub async fn replicas(target: &AdminTarget) -> Result<ReplicaServiceClient<Channel>, Failure> {
    Ok(ReplicaServiceClient::new(open(target).await?))
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

/// As [`connect`], for downstream CAs.
///
/// # Errors
/// As [`connect`].
pub async fn downstreams(
    target: &AdminTarget,
) -> Result<DownstreamAdminServiceClient<Channel>, Failure> {
    Ok(DownstreamAdminServiceClient::new(open(target).await?))
}

async fn open(target: &AdminTarget) -> Result<Channel, Failure> {
    match &target.server {
        Some(server) => mtls::channel(server, target).await,
        None => admin_socket::channel(&socket_path(target)?).await,
    }
}

/// The configuration that tells where the server is: the one that was named, or that is found. `None` where a socket or an
/// address was named.
pub fn config_of(target: &AdminTarget) -> Option<PathBuf> {
    let named = target.socket.is_some() || target.server.is_some();
    (!named).then(|| target.config.clone().or_else(|| config_file::found(config_file::SERVER)))?
}

fn socket_path(target: &AdminTarget) -> Result<PathBuf, Failure> {
    if let Some(socket) = &target.socket {
        return Ok(socket.clone());
    }
    let Some(file) = target.config.clone().or_else(|| config_file::found(config_file::SERVER))
    else {
        return Err(Failure::Usage(Told::new("no server is named").advising(
            "use --socket PATH, --config banyan.toml, --server HOST:PORT, or BANYAN_ADMIN_SOCKET",
        )));
    };
    let config = ca_server::Config::load(&file)
        .map_err(|error| Failure::Configuration(error.to_string()))?;
    Ok(config.listen().admin_socket().to_owned())
}
