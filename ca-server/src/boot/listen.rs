//! Sockets bound and served.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use proto::banyan::admin::v1::admin_service_server::AdminServiceServer;
use proto::banyan::admin::v1::agent_admin_service_server::AgentAdminServiceServer;
use proto::banyan::admin::v1::authority_service_server::AuthorityServiceServer;
use proto::banyan::admin::v1::leaf_service_server::LeafServiceServer;
use proto::banyan::admin::v1::rotation_service_server::RotationServiceServer;
use proto::banyan::admin::v1::state_service_server::StateServiceServer;
use proto::banyan::admin::v1::token_service_server::TokenServiceServer;
use proto::banyan::agent::v1::agent_service_server::AgentServiceServer;
use proto::banyan::downstream::v1::downstream_admin_service_server::DownstreamAdminServiceServer;
use proto::banyan::downstream::v1::downstream_service_server::DownstreamServiceServer;
use proto::istio::v1::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tonic::server::NamedService as _;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use transport::accept::{self, Stop};
use transport::crowd::Crowd;
use transport::grpc::GrpcPort;
use transport::guard::Guard;
use transport::plain::{self, PLAIN_CONNECTIONS_MAX, PROBE_WITHIN};
use transport::tls::TlsState;
use transport::unix::{self, ADMIN_CONNECTIONS_MAX, SocketFile};
use transport::{MESSAGE_BYTES_MAX, Rules};

use super::BootError;
use crate::ca::Ca;
use crate::config::Config;
use crate::service::admin::{Admin, Operators};
use crate::service::agent::Agents;
use crate::service::agent_admin::AgentAdmin;
use crate::service::authority::AuthorityLooks;
use crate::service::downstream::{DownstreamAdmin, DownstreamCalls};
use crate::service::istio::IstioCertificates;
use crate::service::leaf::Leaves;
use crate::service::rotation::{Defaults, Rotations};
use crate::service::state::States;
use crate::service::token::Tokens;

/// The TCP addresses of a server: taken, so that nobody else gets them, and silent, so that whoever connects is refused
/// until there is something to serve.
pub(super) struct Addresses {
    grpc: TcpSocket,
    plain: TcpSocket,
}

/// Connections that the kernel keeps for a listener that has not accepted them yet.
const BACKLOG: u32 = 1_024;

impl Addresses {
    /// Takes both.
    ///
    /// # Errors
    /// [`BootError::Listen`] if somebody has one.
    pub(super) fn reserve(config: &Config) -> Result<Self, BootError> {
        let bound = |addr: SocketAddr| {
            let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
            let bound = socket.and_then(|socket| {
                socket.set_reuseaddr(true)?;
                socket.bind(addr)?;
                Ok(socket)
            });
            bound.map_err(failed(addr))
        };
        Ok(Self { grpc: bound(config.listen().grpc())?, plain: bound(config.listen().plain())? })
    }
}

fn failed(address: impl fmt::Display) -> impl FnOnce(io::Error) -> BootError {
    move |source| BootError::Listen { address: address.to_string(), source }
}

/// Sockets that listen and are not yet served.
pub(super) struct Sockets {
    grpc: TcpListener,
    plain: TcpListener,
    admin: UnixListener,
    admin_file: SocketFile,
    grpc_addr: SocketAddr,
    plain_addr: SocketAddr,
}

/// Sockets that are served, and what ends that.
pub(super) struct Served {
    pub(super) grpc_addr: SocketAddr,
    pub(super) plain_addr: SocketAddr,
    pub(super) admin_file: SocketFile,
    pub(super) readiness: Readiness,
    pub(super) stop: Stop,
    pub(super) tasks: TaskTracker,
}

/// Says on the plain port whether requests can be served.
#[derive(Debug, Clone)]
pub(super) struct Readiness {
    ready: watch::Sender<bool>,
    health: HealthReporter,
}

impl Sockets {
    /// Listens on the addresses that were taken, and on the admin socket.
    pub(super) fn listen(config: &Config, addresses: Addresses) -> Result<Self, BootError> {
        let listen = config.listen();
        let tcp = |socket: TcpSocket, addr: SocketAddr| {
            let listener = socket.listen(BACKLOG).map_err(failed(addr))?;
            let bound = listener.local_addr().map_err(failed(addr))?;
            Ok::<_, BootError>((listener, bound))
        };
        let (grpc, grpc_addr) = tcp(addresses.grpc, listen.grpc())?;
        let (plain, plain_addr) = tcp(addresses.plain, listen.plain())?;
        let socket = listen.admin_socket();
        let (admin, admin_file) = unix::bind(socket).map_err(failed(socket.display()))?;
        Ok(Self { grpc, plain, admin, admin_file, grpc_addr, plain_addr })
    }

    /// Serves all three until stopped; each loop and connection is a task of the tracker.
    pub(super) fn serve(
        self,
        config: &Config,
        ca: &Arc<Ca>,
        tls: &Arc<TlsState>,
    ) -> Result<Served, BootError> {
        let (stop, tasks) = (Stop::default(), TaskTracker::new());
        let (limits, bounds) = (Arc::new(config.limits().transport().clone()), config.limits());
        let guard = |routes| {
            let rejections = Arc::<Ca>::clone(ca);
            Guard::new(routes, bounds.requests_in_flight(), bounds.request_timeout(), rejections)
        };
        let operators = Operators::new(Arc::new(config.admin().clone()));
        let defaults = Arc::new(rotation_defaults(config));
        let admin = |routes: Routes| {
            let admin = AdminServiceServer::new(Admin::new(Arc::clone(ca), operators.clone()));
            let rotations = Rotations::new(Arc::clone(ca), operators.clone(), Arc::clone(&defaults));
            let rotations = RotationServiceServer::new(rotations);
            let preferred = config.root().authority();
            let authorities = AuthorityLooks::new(Arc::clone(ca), operators.clone(), preferred);
            let authorities = AuthorityServiceServer::new(authorities);
            let agents = AgentAdminServiceServer::new(AgentAdmin::new(Arc::clone(ca), operators.clone()));
            let downstreams =
                DownstreamAdminServiceServer::new(DownstreamAdmin::new(Arc::clone(ca), operators.clone()));
            let states = StateServiceServer::new(States::new(Arc::clone(ca), operators.clone()));
            let leaves = LeafServiceServer::new(Leaves::new(Arc::clone(ca), operators.clone()));
            let tokens = TokenServiceServer::new(Tokens::new(Arc::clone(ca), operators.clone()));
            routes
                .add_service(leaves.max_decoding_message_size(MESSAGE_BYTES_MAX))
                .add_service(tokens.max_decoding_message_size(MESSAGE_BYTES_MAX))
                .add_service(states.max_decoding_message_size(MESSAGE_BYTES_MAX))
                .add_service(downstreams.max_decoding_message_size(MESSAGE_BYTES_MAX))
                .add_service(agents.max_decoding_message_size(MESSAGE_BYTES_MAX))
                .add_service(admin.max_decoding_message_size(MESSAGE_BYTES_MAX))
                .add_service(rotations.max_decoding_message_size(MESSAGE_BYTES_MAX))
                .add_service(authorities.max_decoding_message_size(MESSAGE_BYTES_MAX))
        };

        let crowd = |rules| Crowd::new(rules, ca.metrics.clone(), stop.gently.clone());
        let port = Arc::new(GrpcPort::new(Arc::clone(tls), Arc::<Ca>::clone(ca), &limits, stop.clone()));
        let services = guard(admin(tls_routes(ca, config)?));
        tasks.spawn(accept::run(
            self.grpc,
            crowd(Rules::of_untrusted(&limits, ca.places.connections)),
            stop.clone(),
            tasks.clone(),
            move |stream, addr, place| Arc::clone(&port).serve(stream, addr, place, services.clone()),
        ));

        let services = guard(admin(Routes::default()));
        tasks.spawn(accept::run(
            self.admin,
            crowd(Rules::of_operators(ADMIN_CONNECTIONS_MAX)),
            stop.clone(),
            tasks.clone(),
            move |stream, _, place| unix::serve(stream, place, services.clone(), Arc::clone(&limits)),
        ));

        let (health, health_service) = tonic_health::server::health_reporter();
        let (ready, readiness) = watch::channel(false);
        let routes = plain::routes(ca.metrics.clone(), readiness, Routes::new(health_service));
        tasks.spawn(accept::run(
            self.plain,
            crowd(Rules::of_probes(PLAIN_CONNECTIONS_MAX, PROBE_WITHIN)),
            stop.clone(),
            tasks.clone(),
            move |stream, _, place| plain::serve(stream, place, routes.clone()),
        ));
        let (quiet, ended) = (Arc::clone(ca), stop.gently.clone());
        tasks.spawn(async move { ended.run_until_cancelled(quiet.hush.tell_at_times(&quiet.clock)).await });
        let Self { admin_file, grpc_addr, plain_addr, .. } = self;
        let readiness = Readiness { ready, health };
        Ok(Served { grpc_addr, plain_addr, admin_file, readiness, stop, tasks })
    }
}

fn rotation_defaults(config: &Config) -> Defaults {
    let authority = config.root().authority().to_owned();
    let authorities = config.root().authorities().keys().cloned().collect();
    Defaults { authorities, authority, mode: config.rotation().mode() }
}

fn tls_routes(ca: &Arc<Ca>, config: &Config) -> Result<Routes, BootError> {
    let istio = IstioCertificateServiceServer::new(IstioCertificates::new(Arc::clone(ca)));
    let agents = AgentServiceServer::new(Agents::new(Arc::clone(ca)));
    let downstreams = DownstreamServiceServer::new(DownstreamCalls::new(Arc::clone(ca)));
    let routes = Routes::new(istio.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(agents.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(downstreams.max_decoding_message_size(MESSAGE_BYTES_MAX));
    if !config.listen().reflection() {
        return Ok(routes);
    }
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
    };
    let failed = |error: tonic_reflection::server::Error| BootError::BrokeOff(error.to_string());
    // Tools speak one of the two versions.
    Ok(routes
        .add_service(reflection().build_v1().map_err(failed)?)
        .add_service(reflection().build_v1alpha().map_err(failed)?))
}

impl Readiness {
    /// What was said last.
    pub(super) fn is_set(&self) -> bool {
        *self.ready.borrow()
    }

    /// Says whether requests can be served, in all forms that the plain port has.
    pub(super) async fn set(&self, ready: bool) {
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in [
            "",
            IstioCertificateServiceServer::<IstioCertificates>::NAME,
            AgentServiceServer::<Agents>::NAME,
            AdminServiceServer::<Admin>::NAME,
            AgentAdminServiceServer::<AgentAdmin>::NAME,
            RotationServiceServer::<Rotations>::NAME,
            AuthorityServiceServer::<AuthorityLooks>::NAME,
            StateServiceServer::<States>::NAME,
            LeafServiceServer::<Leaves>::NAME,
            TokenServiceServer::<Tokens>::NAME,
            DownstreamServiceServer::<DownstreamCalls>::NAME,
            DownstreamAdminServiceServer::<DownstreamAdmin>::NAME,
        ] {
            self.health.set_service_status(service, status).await;
        }
        self.ready.send_replace(ready);
    }
}
