//! Sockets bound and served.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use proto::banyan::admin::v1::admin_service_server::AdminServiceServer;
use proto::banyan::admin::v1::agent_admin_service_server::AgentAdminServiceServer;
use proto::banyan::admin::v1::authority_service_server::AuthorityServiceServer;
use proto::banyan::admin::v1::ban_service_server::BanServiceServer;
use proto::banyan::admin::v1::crl_service_server::CrlServiceServer;
use proto::banyan::admin::v1::federation_service_server::FederationServiceServer;
use proto::banyan::admin::v1::leaf_service_server::LeafServiceServer;
use proto::banyan::admin::v1::replica_service_server::ReplicaServiceServer;
use proto::banyan::admin::v1::rotation_service_server::RotationServiceServer;
use proto::banyan::admin::v1::signer_service_server::SignerServiceServer;
use proto::banyan::admin::v1::state_service_server::StateServiceServer;
use proto::banyan::admin::v1::token_service_server::TokenServiceServer;
use proto::banyan::admin::v1::waiver_service_server::WaiverServiceServer;
use proto::banyan::agent::v1::agent_service_server::AgentServiceServer;
use proto::banyan::downstream::v1::downstream_admin_service_server::DownstreamAdminServiceServer;
use proto::banyan::downstream::v1::downstream_service_server::DownstreamServiceServer;
use proto::banyan::replica::v1::peer_service_server::PeerServiceServer;
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
use transport::document::{self, DocumentTls, READ_WITHIN, READERS_MAX};
use transport::grpc::GrpcPort;
use transport::guard::Guard;
use transport::plain::{self, PLAIN_CONNECTIONS_MAX, PROBE_WITHIN};
use transport::tls::TlsState;
use transport::unix::{self, ADMIN_CONNECTIONS_MAX, SocketFile};
use transport::{Departure, Limits, MESSAGE_BYTES_MAX, Rules};

use crate::admin::{Admin, OperatorSettings, Operators};
use crate::agent::Agents;
use crate::agent_admin::AgentAdmin;
use crate::authority::AuthorityLooks;
use crate::ban::Bans;
use crate::crl::Crls;
use crate::documents::{self, ShownAs, serving};
use crate::downstream::DownstreamCalls;
use crate::downstream_admin::DownstreamAdmin;
use crate::entrance::Entrance;
use crate::federation::Federations;
use crate::istio::IstioCertificates;
use crate::leaf::Leaves;
use crate::peer::PeerCalls;
use crate::replica::Replicas;
use crate::rotation::{Defaults, Rotations};
use crate::signer::Signers;
use crate::starting::StartingProbes;
use crate::state::States;
use crate::token::Tokens;
use crate::waiver::Waivers;
use control::ca::Ca;
use control::front::{Front, NotServed, ServerIdentity};
use federation::document::DOCUMENT_BYTES_MAX;

mod departing;

/// The TCP addresses of a server: taken, so that nobody else gets them. That of gRPC is silent, so that whoever connects is
/// refused until there is something to serve.
pub struct Addresses {
    grpc: (TcpSocket, SocketAddr),
    plain: (std::net::TcpListener, SocketAddr),
    bundle: Option<(TcpSocket, SocketAddr)>,
}

/// What is taken of the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What clients may take of the machine.
    pub limits: Limits,
    /// Connections of the TLS port.
    pub connections: usize,
    /// Requests at a time on all connections.
    pub requests_in_flight: usize,
    /// Time for one request.
    pub request_timeout: Duration,
    /// Who may operate.
    pub operators: OperatorSettings,
    /// What a request for a rotation leaves open.
    pub rotations: Defaults,
    /// Whether gRPC reflection is served on the TLS port.
    pub reflection: bool,
    /// As whom the bundle endpoint answers, if there is one.
    pub documents: ShownAs,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A socket could not be bound.
    #[error(
        "cannot listen on {address}: {source}; stop what listens there, or configure another address"
    )]
    Bind {
        /// The address, or the path of a socket.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The descriptions of the services do not fit together.
    #[error("gRPC reflection cannot be served: {0}; this is a fault to report")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Connections that the kernel keeps for a listener that has not accepted them yet.
const BACKLOG: u32 = 1_024;

impl Addresses {
    /// Takes them; `bundle` is that of the bundle endpoint, if there is one.
    ///
    /// # Errors
    /// [`ListenError::Bind`] if somebody has one.
    pub fn reserve(
        grpc: SocketAddr,
        plain: SocketAddr,
        bundle: Option<SocketAddr>,
    ) -> Result<Self, ListenError> {
        let bound = |addr: SocketAddr| {
            let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
            let bound = socket.and_then(|socket| {
                socket.set_reuseaddr(true)?;
                socket.bind(addr)?;
                Ok(socket)
            });
            bound.map(|socket| (socket, addr)).map_err(failed(addr))
        };
        let bundle = bundle.map(bound).transpose()?;
        let (grpc, (socket, _)) = (bound(grpc)?, bound(plain)?);
        let listens = || socket.listen(BACKLOG)?.into_std();
        Ok(Self { grpc, plain: (listens().map_err(failed(plain))?, plain), bundle })
    }

    /// Tells probes from now on that this server starts, and what it waits for if it waits.
    ///
    /// # Errors
    /// [`ListenError::Bind`].
    pub async fn tell_probes(
        &self,
        waits_for: impl Fn() -> Option<String> + Clone + Send + Sync + 'static,
    ) -> Result<StartingProbes, ListenError> {
        let (listener, addr) = &self.plain;
        let shared = listener.try_clone().and_then(TcpListener::from_std);
        Ok(StartingProbes::serve(shared.map_err(failed(addr))?, waits_for).await)
    }
}

fn failed(address: impl fmt::Display) -> impl FnOnce(io::Error) -> ListenError {
    move |source| ListenError::Bind { address: address.to_string(), source }
}

/// Sockets that listen and are not yet served.
pub struct Sockets {
    grpc: TcpListener,
    plain: TcpListener,
    admin: UnixListener,
    admin_file: SocketFile,
    bundle: Option<(TcpListener, SocketAddr)>,
    grpc_addr: SocketAddr,
    plain_addr: SocketAddr,
}

/// Sockets that are served, and what ends that.
pub struct Served {
    /// Where gRPC over TLS is served.
    pub grpc_addr: SocketAddr,
    /// Where health and metrics are served.
    pub plain_addr: SocketAddr,
    /// Where the bundle is served as a document.
    pub bundle_addr: Option<SocketAddr>,
    /// The admin socket, which goes when this is dropped.
    pub admin_file: SocketFile,
    /// What clients meet.
    pub front: ServerFront,
    /// Ends it.
    pub stop: Stop,
    /// Every loop and connection.
    pub tasks: TaskTracker,
}

/// What clients meet: the identity of handshakes, and what probes are told.
#[derive(Debug, Clone)]
pub struct ServerFront {
    tls: Arc<TlsState>,
    ready: watch::Sender<bool>,
    health: HealthReporter,
    health_service: Routes,
    departure: Departure,
    /// What is shown in handshakes, for whoever calls other servers as this one.
    identity: watch::Sender<Option<Arc<ServerIdentity>>>,
}

impl ServerFront {
    /// Answers handshakes as this identity.
    pub fn new(identity: ServerIdentity) -> Result<Self, rustls::Error> {
        let front = TlsState::new(serving(&identity)).map(Self::of)?;
        front.identity.send_replace(Some(Arc::new(identity)));
        Ok(front)
    }

    /// Answers no handshake until there is an identity.
    pub fn without_identity() -> Result<Self, rustls::Error> {
        TlsState::without_identity().map(Self::of)
    }

    fn of(tls: TlsState) -> Self {
        let (health, service) = tonic_health::server::health_reporter();
        let (ready, _) = watch::channel(false);
        let (health_service, departure) = (Routes::new(service), Departure::default());
        let identity = watch::channel(None).0;
        Self { tls: Arc::new(tls), ready, health, health_service, departure, identity }
    }

    /// Says whether requests can be served. Not while clients are sent elsewhere, from that very moment on.
    fn readiness(&self) -> impl Fn() -> bool + Clone + Send + Sync + 'static {
        let (ready, departure) = (self.ready.subscribe(), self.departure.clone());
        move || *ready.borrow() && !departure.is_under_way()
    }

    /// Follows what this server shows in handshakes.
    pub fn identity(&self) -> watch::Receiver<Option<Arc<ServerIdentity>>> {
        self.identity.subscribe()
    }
}

impl Sockets {
    /// Listens on the addresses that were taken, and on the admin socket.
    pub fn listen(addresses: Addresses, admin_socket: &Path) -> Result<Self, ListenError> {
        let tcp = |listener: io::Result<TcpListener>, addr: SocketAddr| {
            let listener = listener.map_err(failed(addr))?;
            let bound = listener.local_addr().map_err(failed(addr))?;
            Ok::<_, ListenError>((listener, bound))
        };
        let ((socket, grpc), (listener, plain)) = (addresses.grpc, addresses.plain);
        let (grpc, grpc_addr) = tcp(socket.listen(BACKLOG), grpc)?;
        let (plain, plain_addr) = tcp(TcpListener::from_std(listener), plain)?;
        let bundle = addresses.bundle.map(|(socket, addr)| tcp(socket.listen(BACKLOG), addr));
        let bundle = bundle.transpose()?;
        let (admin, admin_file) =
            unix::bind(admin_socket).map_err(failed(admin_socket.display()))?;
        Ok(Self { grpc, plain, admin, admin_file, bundle, grpc_addr, plain_addr })
    }

    /// Serves all three until stopped; each loop and connection is a task of the tracker.
    pub fn serve(
        self,
        settings: Settings,
        ca: &Arc<Ca>,
        front: ServerFront,
    ) -> Result<Served, ListenError> {
        let (stop, tasks) = (Stop::default(), TaskTracker::new());
        let Settings {
            limits, connections, requests_in_flight, request_timeout, operators, ..
        } = settings;
        let limits = Arc::new(limits);
        let entrance = Arc::new(Entrance(Arc::clone(ca)));
        let guard = |routes| {
            let rejections = Arc::clone(&entrance);
            Guard::new(routes, requests_in_flight, request_timeout, rejections)
        };
        let operators = Operators::new(Arc::new(operators));
        let defaults = Arc::new(settings.rotations);
        let admin = |routes: Routes| {
            let admin = AdminServiceServer::new(Admin::new(Arc::clone(ca), operators.clone()));
            let rotations =
                Rotations::new(Arc::clone(ca), operators.clone(), Arc::clone(&defaults));
            let rotations = RotationServiceServer::new(rotations);
            let preferred = defaults.authority.as_str();
            let authorities = AuthorityLooks::new(Arc::clone(ca), operators.clone(), preferred);
            let authorities = AuthorityServiceServer::new(authorities);
            let agents =
                AgentAdminServiceServer::new(AgentAdmin::new(Arc::clone(ca), operators.clone()));
            let downstreams = DownstreamAdminServiceServer::new(DownstreamAdmin::new(
                Arc::clone(ca),
                operators.clone(),
            ));
            let states = StateServiceServer::new(States::new(Arc::clone(ca), operators.clone()));
            let leaves = LeafServiceServer::new(Leaves::new(Arc::clone(ca), operators.clone()));
            let bans = BanServiceServer::new(Bans::new(Arc::clone(ca), operators.clone()));
            let crls = CrlServiceServer::new(Crls::new(Arc::clone(ca), operators.clone()));
            let waivers = WaiverServiceServer::new(Waivers::new(Arc::clone(ca), operators.clone()));
            let federations =
                FederationServiceServer::new(Federations::new(Arc::clone(ca), operators.clone()));
            let tokens = TokenServiceServer::new(Tokens::new(Arc::clone(ca), operators.clone()));
            let replicas =
                ReplicaServiceServer::new(Replicas::new(Arc::clone(ca), operators.clone()));
            routes
                .add_service(federations.max_decoding_message_size(2 * DOCUMENT_BYTES_MAX))
                .add_service(crls.max_decoding_message_size(MESSAGE_BYTES_MAX))
                .add_service(bans.max_decoding_message_size(MESSAGE_BYTES_MAX))
                .add_service(waivers.max_decoding_message_size(MESSAGE_BYTES_MAX))
                .add_service(leaves.max_decoding_message_size(MESSAGE_BYTES_MAX))
                .add_service(replicas.max_decoding_message_size(MESSAGE_BYTES_MAX))
                .add_service(tokens.max_decoding_message_size(MESSAGE_BYTES_MAX))
                .add_service(states.max_decoding_message_size(MESSAGE_BYTES_MAX))
                .add_service(downstreams.max_decoding_message_size(MESSAGE_BYTES_MAX))
                .add_service(agents.max_decoding_message_size(MESSAGE_BYTES_MAX))
                .add_service(admin.max_decoding_message_size(MESSAGE_BYTES_MAX))
                .add_service(rotations.max_decoding_message_size(MESSAGE_BYTES_MAX))
                .add_service(authorities.max_decoding_message_size(MESSAGE_BYTES_MAX))
        };

        let crowd =
            |rules| Crowd::new(rules, Arc::<Entrance>::clone(&entrance), stop.gently.clone());
        let port = Arc::new(GrpcPort::new(
            Arc::clone(&front.tls),
            Arc::<Entrance>::clone(&entrance),
            &limits,
            stop.clone(),
            front.departure.clone(),
        ));
        let agents = Agents::new(Arc::clone(ca), front.departure.clone());
        let services = guard(admin(tls_routes(ca, agents, settings.reflection)?));
        tasks.spawn(accept::run(
            self.grpc,
            crowd(Rules::of_untrusted(&limits, connections)),
            stop.clone(),
            tasks.clone(),
            move |stream, addr, place| {
                Arc::clone(&port).serve(stream, addr, place, services.clone())
            },
        ));

        let signers = SignerServiceServer::new(Signers::new(Arc::clone(ca), operators.clone()));
        let signers = signers.max_decoding_message_size(MESSAGE_BYTES_MAX);
        let services = guard(admin(Routes::new(signers)));
        tasks.spawn(accept::run(
            self.admin,
            crowd(Rules::of_operators(ADMIN_CONNECTIONS_MAX)),
            stop.clone(),
            tasks.clone(),
            move |stream, _, place| {
                unix::serve(stream, place, services.clone(), Arc::clone(&limits))
            },
        ));

        let (is_ready, health) = (front.readiness(), front.health_service.clone());
        let routes = plain::routes(Arc::<Entrance>::clone(&entrance), is_ready, health);
        tasks.spawn(accept::run(
            self.plain,
            crowd(Rules::of_probes(PLAIN_CONNECTIONS_MAX, PROBE_WITHIN)),
            stop.clone(),
            tasks.clone(),
            move |stream, _, place| plain::serve(stream, place, routes.clone()),
        ));
        let bundle_addr = self.bundle.as_ref().map(|(_, addr)| *addr);
        if let Some((listener, addr)) = self.bundle {
            let tls = Arc::new(DocumentTls::default());
            let identity = match settings.documents {
                ShownAs::TheCa => front.identity(),
                ShownAs::Host(identity) => identity,
            };
            let following = documents::follow(identity, Arc::clone(&tls));
            tasks.spawn(stop.gently.clone().run_until_cancelled_owned(following));
            // Nobody else sets it.
            let _ = ca.federated.endpoint.set(addr);
            let told = Arc::clone(ca);
            let routes = document::routes(move || documents::document(&told));
            tasks.spawn(accept::run(
                listener,
                crowd(Rules::of_documents(READERS_MAX, READ_WITHIN)),
                stop.clone(),
                tasks.clone(),
                move |stream, _, place| {
                    document::serve(stream, place, Arc::clone(&tls), routes.clone())
                },
            ));
        }
        let (quiet, ended) = (Arc::clone(ca), stop.gently.clone());
        tasks.spawn(async move {
            ended.run_until_cancelled(quiet.hush.tell_at_times(&quiet.clock)).await
        });
        let Self { admin_file, grpc_addr, plain_addr, .. } = self;
        Ok(Served { grpc_addr, plain_addr, bundle_addr, admin_file, front, stop, tasks })
    }
}

fn tls_routes(ca: &Arc<Ca>, agents: Agents, reflection: bool) -> Result<Routes, ListenError> {
    let istio = IstioCertificateServiceServer::new(IstioCertificates::new(Arc::clone(ca)));
    let agents = AgentServiceServer::new(agents);
    let downstreams = DownstreamServiceServer::new(DownstreamCalls::new(Arc::clone(ca)));
    let peers = PeerServiceServer::new(PeerCalls::new(Arc::clone(ca)));
    let routes = Routes::new(istio.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(peers.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(agents.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(downstreams.max_decoding_message_size(MESSAGE_BYTES_MAX));
    if !reflection {
        return Ok(routes);
    }
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
    };
    // Tools speak one of the two versions.
    Ok(routes.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?))
}

#[async_trait]
impl Front for ServerFront {
    fn serve_as(&self, identity: ServerIdentity) -> Result<(), NotServed> {
        self.tls.renew(serving(&identity)).map_err(|error| NotServed(error.to_string()))?;
        self.identity.send_replace(Some(Arc::new(identity)));
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.readiness()()
    }

    async fn set_ready(&self, ready: bool) {
        let ready = ready && !self.departure.is_under_way();
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
            BanServiceServer::<Bans>::NAME,
            CrlServiceServer::<Crls>::NAME,
            WaiverServiceServer::<Waivers>::NAME,
            FederationServiceServer::<Federations>::NAME,
            TokenServiceServer::<Tokens>::NAME,
            ReplicaServiceServer::<Replicas>::NAME,
            DownstreamServiceServer::<DownstreamCalls>::NAME,
            DownstreamAdminServiceServer::<DownstreamAdmin>::NAME,
            PeerServiceServer::<PeerCalls>::NAME,
        ] {
            self.health.set_service_status(service, status).await;
        }
        self.ready.send_replace(ready);
    }
}

#[cfg(test)]
mod tests;
