//! A CA in process: TLS, the agent's service, and a list of misdeeds that it can be told to do.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::Stream;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use proto::banyan::agent::v1 as wire;
use proto::banyan::agent::v1::agent_message::Message as Up;
use proto::banyan::agent::v1::agent_service_server::{AgentService, AgentServiceServer};
use proto::banyan::agent::v1::server_message::Message as Down;
use rcgen::{KeyPair, SigningKey as _};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};
use trust::join_token::{JoinSecret, JoinToken};
use trust::transition::{Statement, Transition};
use trust::{Bundle, Clock, SeededRandomness, SpiffeId};

use super::tls::tls;
use super::{Pki, to_wire};
use crate::key::PrivateKey;

/// What the CA does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Misdeed {
    #[default]
    None,
    /// Replies with an empty bundle.
    EmptyBundle,
    /// Signs another key than the one asked for.
    OtherKey,
    /// Names somebody else.
    OtherIdentity,
    /// Replies with the first bundle, whatever was streamed since.
    OlderBundle,
    /// Knows no agent: refuses every renewal.
    Forgetful,
    /// Answers nothing but UNAVAILABLE.
    Away,
    /// Has removed the agent, until it comes with a token that was not used.
    Removed,
    /// Has banned the agent.
    Banned,
}

/// The CA's state, which tests read and change.
pub(crate) struct Desk {
    pub(crate) signer: Arc<Pki>,
    pub(crate) bundle: Bundle,
    first_bundle: Bundle,
    /// The bundle before the present one, and the word that leads from it.
    former: Option<(Bundle, Transition)>,
    pub(crate) leaf_ttl: Duration,
    pub(crate) agent_ttl: Duration,
    pub(crate) misdeed: Misdeed,
    pub(crate) heard: Vec<Up>,
    pub(crate) registered: u32,
    pub(crate) renewed: u32,
    /// Requests for leaves of workloads that were answered with a leaf: whether they came with a promise.
    pub(crate) promises: Vec<bool>,
    /// Requests that were refused because the bundle was not stored.
    pub(crate) behind: u32,
    /// Tokens that an agent registered with.
    used: std::collections::BTreeSet<String>,
    /// Calls for leaves, and whatever came of them.
    pub(crate) asked: u32,
    /// The root that shall sign, while probes of it are allowed.
    pub(crate) next: Option<Arc<Pki>>,
    /// What was said of listeners with each request for a leaf.
    pub(crate) listening: Vec<Option<wire::Listening>>,
    streams: Vec<mpsc::UnboundedSender<Result<wire::ServerMessage, Status>>>,
}

/// A running CA.
pub(crate) struct FakeCa {
    pub(crate) address: SocketAddr,
    pub(crate) id: SpiffeId,
    desk: Arc<Mutex<Desk>>,
    tasks: JoinSet<()>,
    clock: Arc<dyn Clock>,
    key: PrivateKey,
    signer: (KeyPair, Vec<Vec<u8>>),
    tls: Arc<Mutex<Arc<ServerConfig>>>,
}

#[derive(Clone)]
struct Service {
    desk: Arc<Mutex<Desk>>,
    clock: Arc<dyn Clock>,
}

impl FakeCa {
    pub(crate) async fn start(clock: Arc<dyn Clock>) -> Self {
        Self::start_as(clock, "spiffe://example.org/banyan/ca/ca-1").await
    }

    /// A CA that shows this identity.
    pub(crate) async fn start_as(clock: Arc<dyn Clock>, id: &str) -> Self {
        Self::start_under(clock, id, Arc::new(Pki::new("first"))).await
    }

    /// Another server under the same root, with another identity and a desk of its own.
    pub(crate) async fn beside(&self, id: &str) -> Self {
        let signer = Arc::clone(&self.desk().signer);
        Self::start_under(Arc::clone(&self.clock), id, signer).await
    }

    async fn start_under(clock: Arc<dyn Clock>, id: &str, signer: Arc<Pki>) -> Self {
        let id = SpiffeId::parse(id).unwrap();
        let key = PrivateKey::generate().unwrap();
        let year = Duration::from_secs(86_400 * 300);
        let chain = signer.leaf(&key.request(None).unwrap(), &id, clock.now(), year);
        let desk = Desk {
            bundle: signer.bundle(1),
            first_bundle: signer.bundle(1),
            former: None,
            signer,
            leaf_ttl: Duration::from_secs(3600),
            agent_ttl: Duration::from_secs(86_400),
            misdeed: Misdeed::None,
            heard: Vec::new(),
            registered: 0,
            renewed: 0,
            promises: Vec::new(),
            behind: 0,
            used: Default::default(),
            asked: 0,
            next: None,
            listening: Vec::new(),
            streams: Vec::new(),
        };
        let desk = Arc::new(Mutex::new(desk));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let signer = (KeyPair::from_pem(&key.pem()).unwrap(), chain);
        let tasks = JoinSet::new();
        let tls = Arc::new(Mutex::new(Arc::new(tls(&key, &signer.1))));
        let mut ca = Self { address, id, desk, tasks, clock, key, signer, tls };
        ca.serve(listener);
        ca
    }

    fn serve(&mut self, listener: TcpListener) {
        let (desk, clock) = (Arc::clone(&self.desk), Arc::clone(&self.clock));
        let tls = Arc::clone(&self.tls);
        self.tasks.spawn(serve(listener, tls, Service { desk, clock }));
    }

    /// Shows a certificate under this root from the next connection on.
    pub(crate) fn present_under(&self, signer: &Pki) {
        let (csr, year) = (self.key.request(None).unwrap(), Duration::from_secs(86_400 * 300));
        let chain = signer.leaf(&csr, &self.id, self.clock.now(), year);
        *self.tls.lock().unwrap() = Arc::new(tls(&self.key, &chain));
    }

    /// Listens again where it did before it was stopped.
    pub(crate) async fn resume(&mut self) {
        self.serve(TcpListener::bind(self.address).await.unwrap());
    }

    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token that pins the present bundle.
    pub(crate) fn token(&self) -> String {
        self.numbered_token(1)
    }

    /// The token of this number; each differs.
    pub(crate) fn numbered_token(&self, number: u64) -> String {
        let secret = JoinSecret::random(&SeededRandomness::new(number));
        let token = JoinToken::new(self.id.clone(), self.desk().bundle.digest(), secret).unwrap();
        token.encode().to_string()
    }

    /// Puts a bundle in force and streams it.
    pub(crate) fn publish(&self, bundle: Bundle) {
        let mut desk = self.desk();
        let message = Down::Bundle(to_wire(&bundle));
        desk.bundle = bundle;
        desk.tell(&message);
    }

    /// Puts a bundle in force by a change that this CA signs, of which the streams do not hear.
    pub(crate) fn publish_unheard(&self, bundle: Bundle) {
        let mut desk = self.desk();
        let statement = Statement::between(&desk.bundle, &bundle, self.clock.now()).encode();
        let (key, chain) = &self.signer;
        let signature = key.sign(&statement).unwrap();
        let former = std::mem::replace(&mut desk.bundle, bundle);
        desk.former = Some((former, Transition { statement, signature, chain: chain.clone() }));
    }

    /// Streams anything.
    pub(crate) fn tell(&self, message: &Down) {
        self.desk().tell(message);
    }

    /// Ends every stream.
    pub(crate) fn hang_up(&self) {
        self.desk().streams.clear();
    }

    pub(crate) fn stop(&mut self) {
        self.hang_up();
        self.tasks.abort_all();
    }
}

impl Desk {
    fn tell(&mut self, message: &Down) {
        let message = wire::ServerMessage {
            message: Some(message.clone()),
            ..wire::ServerMessage::default()
        };
        self.streams.retain(|stream| stream.send(Ok(message.clone())).is_ok());
    }

    /// As the real one: who is not registered, or banned, is told so by the reason.
    fn judge_agent(&self) -> Result<(), Status> {
        match self.misdeed {
            Misdeed::Removed => Err(refused("AGENT_UNKNOWN", "no such agent")),
            Misdeed::Banned => Err(refused("AGENT_BANNED", "an operator banned this agent")),
            _ => Ok(()),
        }
    }

    /// As the real one: no leaf born at a bundle that the agent has not stored.
    fn judge_stored(&mut self, sequence: u64, digest: &[u8]) -> Result<(), Status> {
        let present = &self.bundle;
        if sequence < present.sequence().0 {
            self.behind += 1;
            return Err(Status::aborted("store the bundle first"));
        }
        match sequence == present.sequence().0 && digest != present.digest().as_bytes().as_slice() {
            true => Err(Status::failed_precondition("another bundle")),
            false => Ok(()),
        }
    }

    fn reply(&self, chain: Vec<Vec<u8>>) -> wire::IssueResponse {
        let bundle = match self.misdeed {
            Misdeed::EmptyBundle => wire::Bundle { roots: Vec::new(), ..to_wire(&self.bundle) },
            Misdeed::OlderBundle => to_wire(&self.first_bundle),
            _ => to_wire(&self.bundle),
        };
        wire::IssueResponse { chain, bundle: Some(bundle) }
    }

    /// How often a stream began.
    pub(crate) fn hellos(&self) -> usize {
        self.heard.iter().filter(|message| matches!(message, Up::Hello(_))).count()
    }

    /// Streams that are up.
    pub(crate) fn streams(&self) -> usize {
        self.streams.len()
    }
}

impl Service {
    fn desk(&self) -> Result<MutexGuard<'_, Desk>, Status> {
        let desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        match desk.misdeed {
            Misdeed::Away => Err(Status::unavailable("away")),
            _ => Ok(desk),
        }
    }
}

#[tonic::async_trait]
impl AgentService for Service {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<wire::ServerMessage, Status>> + Send>>;

    async fn get_bundle(
        &self,
        request: Request<wire::GetBundleRequest>,
    ) -> Result<Response<wire::GetBundleResponse>, Status> {
        assert!(
            request.metadata().get("authorization").is_none(),
            "no secret before the CA is known"
        );
        let desk = self.desk()?;
        let present = to_wire(&desk.bundle);
        let former = desk.former.as_ref();
        let asked = |former: &&(Bundle, Transition)| {
            former.0.digest().as_bytes().as_slice() == request.get_ref().digest
        };
        let Some((from, word)) = former.filter(asked) else {
            let answer = wire::GetBundleResponse {
                bundle: Some(present),
                ..wire::GetBundleResponse::default()
            };
            return Ok(Response::new(answer));
        };
        let change = wire::Transition {
            bundle: Some(present),
            statement: word.statement.clone(),
            signature: word.signature.clone(),
            issuer_chain: word.chain.clone(),
        };
        let (bundle, transitions) = (Some(to_wire(from)), vec![change]);
        let answer = wire::GetBundleResponse { bundle, transitions, more: false };
        Ok(Response::new(answer))
    }

    async fn register(
        &self,
        request: Request<wire::RegisterRequest>,
    ) -> Result<Response<wire::IssueResponse>, Status> {
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let bearer = header.and_then(|text| text.strip_prefix("Bearer "));
        let bearer = bearer.ok_or_else(|| Status::unauthenticated("no token"))?.to_owned();
        let id = SpiffeId::parse("spiffe://example.org/banyan/agent/host-1").unwrap();
        let mut desk = self.desk()?;
        desk.judge_stored(request.get_ref().stored_sequence, &request.get_ref().stored_digest)?;
        if desk.misdeed == Misdeed::Banned {
            return Err(refused("AGENT_BANNED", "an operator banned this agent"));
        }
        if desk.misdeed == Misdeed::Removed {
            if desk.used.contains(&bearer) {
                return Err(refused("JOIN_TOKEN_USED", "the join token was used before"));
            }
            desk.misdeed = Misdeed::None;
        }
        desk.used.insert(bearer);
        desk.registered += 1;
        let chain = desk.signer.leaf(&request.get_ref().csr, &id, self.clock.now(), desk.agent_ttl);
        Ok(Response::new(desk.reply(chain)))
    }

    async fn renew_agent(
        &self,
        request: Request<wire::RenewAgentRequest>,
    ) -> Result<Response<wire::IssueResponse>, Status> {
        let id = SpiffeId::parse("spiffe://example.org/banyan/agent/host-1").unwrap();
        let mut desk = self.desk()?;
        if desk.misdeed == Misdeed::Forgetful {
            return Err(Status::permission_denied("no such agent"));
        }
        desk.judge_agent()?;
        desk.judge_stored(request.get_ref().stored_sequence, &request.get_ref().stored_digest)?;
        desk.renewed += 1;
        let chain = desk.signer.leaf(&request.get_ref().csr, &id, self.clock.now(), desk.agent_ttl);
        Ok(Response::new(desk.reply(chain)))
    }

    async fn issue_workload(
        &self,
        request: Request<wire::IssueWorkloadRequest>,
    ) -> Result<Response<wire::IssueResponse>, Status> {
        let request = request.into_inner();
        let mut desk = self.desk()?;
        desk.asked += 1;
        desk.judge_agent()?;
        desk.judge_stored(request.stored_sequence, &request.stored_digest)?;
        desk.promises.push(request.only_to_trusting);
        desk.listening.push(request.listening);
        let wanted = match desk.misdeed {
            Misdeed::OtherIdentity => "spiffe://example.org/ns/a/sa/somebody-else",
            _ => &request.spiffe_id,
        };
        let csr = match desk.misdeed {
            Misdeed::OtherKey => PrivateKey::generate().unwrap().request(None).unwrap(),
            _ => request.csr,
        };
        let chain = desk.signer.leaf(
            &csr,
            &SpiffeId::parse(wanted).unwrap(),
            self.clock.now(),
            desk.leaf_ttl,
        );
        Ok(Response::new(desk.reply(chain)))
    }

    async fn issue_probe(
        &self,
        request: Request<wire::IssueProbeRequest>,
    ) -> Result<Response<wire::IssueResponse>, Status> {
        let desk = self.desk()?;
        let next = desk.next.as_ref().ok_or_else(|| Status::failed_precondition("no probe"))?;
        let request = request.into_inner();
        let id = SpiffeId::parse(&request.spiffe_id).unwrap();
        let chain = next.leaf(&request.csr, &id, self.clock.now(), Duration::from_secs(300));
        Ok(Response::new(desk.reply(chain)))
    }

    async fn connect(
        &self,
        request: Request<Streaming<wire::AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (to, from) = mpsc::unbounded_channel();
        // A strong one would keep the stream up that the test hangs up.
        let hung_up = to.downgrade();
        {
            let mut desk = self.desk()?;
            desk.judge_agent()?;
            let bundle = Down::Bundle(to_wire(&desk.bundle));
            // A stream that is just made takes a message.
            let _ = to.send(Ok(wire::ServerMessage {
                message: Some(bundle),
                ..wire::ServerMessage::default()
            }));
            desk.streams.push(to);
        }
        let (service, mut inbound) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                let mut desk = service.desk.lock().unwrap_or_else(PoisonError::into_inner);
                desk.heard.extend(message.message);
            }
            let mut desk = service.desk.lock().unwrap_or_else(PoisonError::into_inner);
            let hung_up = hung_up.upgrade();
            desk.streams
                .retain(|stream| !hung_up.as_ref().is_some_and(|gone| stream.same_channel(gone)));
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(from))))
    }
}

fn refused(reason: &str, text: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, "banyan", std::collections::HashMap::new());
    Status::with_error_details(tonic::Code::PermissionDenied, text, details)
}

async fn serve(listener: TcpListener, config: Arc<Mutex<Arc<ServerConfig>>>, service: Service) {
    let routes = tonic::service::Routes::new(AgentServiceServer::new(service)).prepare();
    let mut connections = JoinSet::new();
    loop {
        let Ok((tcp, _)) = listener.accept().await else { return };
        let acceptor = TlsAcceptor::from(Arc::clone(&config.lock().unwrap()));
        let routes = routes.clone();
        connections.spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            let server = auto::Builder::new(TokioExecutor::new());
            // A connection that breaks is the client's to notice.
            let _ =
                server.serve_connection(TokioIo::new(tls), TowerToHyperService::new(routes)).await;
        });
    }
}
