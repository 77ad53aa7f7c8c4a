//! `banyan.agent.v1.AgentService`: what agents call.

use std::collections::BTreeSet;
use std::sync::Arc;

use auth::authn::cluster::{agent_of_node, impersonated};
use auth::authz::{Asked, Registration, requested_ttl};
use auth::refusal::{Reason, Refusal, echoed};
use futures::stream::BoxStream;
use ledger::Word;
use proto::banyan::agent::v1::agent_service_server::AgentService;
use proto::banyan::agent::v1::{
    AgentMessage, GetBundleRequest, GetBundleResponse, IssueProbeRequest, IssueResponse,
    IssueWorkloadRequest, RegisterRequest, RenewAgentRequest, ServerMessage,
};
use registry::Newcomer;
use tonic::{Request, Response, Status, Streaming};
use transport::Departure;
use trust::csr::ParsedCsr;
use trust::{BundleDigest, Sequence, SpiffeId};

use crate::call::Call;
use crate::uplink::{self, probed};
use crate::wire;
use control::ca::Ca;
use control::seen::Stored;

/// Bytes of changes in one answer, which anybody may ask for: the rest comes in further ones.
const WAY_BYTES: usize = 64 * 1024;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Agents {
    ca: Arc<Ca>,
    departure: Departure,
}

impl Agents {
    pub(crate) const fn new(ca: Arc<Ca>, departure: Departure) -> Self {
        Self { ca, departure }
    }

    fn bundle(&self, digest: &[u8]) -> Result<GetBundleResponse, Refusal> {
        self.ca.replication.may_release()?;
        let present = self.ca.cell.load();
        let wanted = BundleDigest::from_bytes(digest);
        if !digest.is_empty() && wanted.is_none() {
            return Err(Refusal::new(
                Reason::RequestInvalid,
                "a bundle digest has 32 bytes, or none",
            ));
        }
        let Some(wanted) = wanted.filter(|wanted| *wanted != present.bundle().digest()) else {
            let bundle = Some(wire::bundle(present.bundle()));
            return Ok(GetBundleResponse { bundle, ..GetBundleResponse::default() });
        };
        let way = self.ca.history.way_from(&wanted, WAY_BYTES).ok_or_else(|| {
            let text = "no bundle with this digest is known here: make a new join token";
            Refusal::new(Reason::BundleUnknown, text)
        })?;
        let transitions = way
            .changes
            .iter()
            .map(|(bundle, transition)| wire::transition(bundle, transition))
            .collect();
        Ok(GetBundleResponse { bundle: Some(wire::bundle(&way.from)), transitions, more: way.more })
    }

    async fn register(
        &self,
        call: &mut Call,
        message: RegisterRequest,
    ) -> Result<IssueResponse, Refusal> {
        let csr = ParsedCsr::from_der(&message.csr)?;
        let snapshot = self.ca.cell.load();
        let caller = call.authenticate(&snapshot)?;
        let csr = csr.verify()?;
        let (now, authorizer) = (self.ca.clock.now(), &self.ca.authorizer);
        let registration = match message.for_node {
            true => {
                let granted = agent_of_node(self.ca.clusters.as_ref(), &caller)?;
                authorizer.register_of_node(granted, csr, &snapshot)?
            }
            false => authorizer.register(&caller, csr, now, &snapshot)?,
        };
        let Registration { request, agent, identities, token, caller: shown } = registration;
        let stored = Stored::new(message.stored_sequence, &message.stored_digest);
        let request = request.with_word(self.ca.word_of(&agent, stored, &snapshot)?);
        self.ca.may_admit()?;
        let spki = request.public_key().hash();
        match token {
            Some(token) => self.ca.registry.redeem(token, spki, now).await?,
            None => {
                let identities = BTreeSet::from_iter(identities);
                let newcomer = Newcomer { name: agent.clone(), spki, identities, caller: shown };
                self.ca.registry.register(newcomer, now).await?;
            }
        }
        let leaf = call.issue(&request, snapshot).await?;
        if let Some(left_out) = self.ca.hush.may_say("registered", &agent, self.ca.clock.uptime()) {
            let (build, key) = (echoed(&message.build), spki.short());
            tracing::info!(agent, build, %key, left_out, "agent registered");
        }
        Ok(wire::issued(&leaf))
    }

    async fn renew(
        &self,
        call: &mut Call,
        message: RenewAgentRequest,
    ) -> Result<IssueResponse, Refusal> {
        let csr = ParsedCsr::from_der(&message.csr)?;
        let snapshot = self.ca.cell.load();
        let caller = call.authenticate_returning(&snapshot)?;
        let request = self.ca.authorizer.renew_agent(&caller, csr.verify()?, &snapshot)?;
        let stored = Stored::new(message.stored_sequence, &message.stored_digest);
        let agent = request.agent().unwrap_or_default().to_owned();
        let request = request.with_word(self.ca.word_of(&agent, stored, &snapshot)?);
        Ok(wire::issued(&call.issue(&request, snapshot).await?))
    }

    async fn issue(
        &self,
        call: &mut Call,
        message: IssueWorkloadRequest,
    ) -> Result<IssueResponse, Refusal> {
        let csr = ParsedCsr::from_der(&message.csr)?;
        let snapshot = self.ca.cell.load();
        let caller = call.authenticate(&snapshot)?;
        let csr = csr.verify()?;
        let identity = named(&message.spiffe_id)?;
        let ttl = requested_ttl(message.validity_seconds);
        let (asked, authorizer) = (Asked { csr, ttl }, &self.ca.authorizer);
        let request = match caller.token() {
            // What the agent of a node may have is what runs there now.
            Some(_) => {
                let (clusters, domain) =
                    (self.ca.clusters.as_ref(), snapshot.bundle().trust_domain());
                let granted = impersonated(clusters, &caller, identity.as_str(), domain)?;
                authorizer.behind_agent_of_node(&caller, granted, asked, &snapshot)?
            }
            None => authorizer.behind_agent(&caller, identity, asked, &snapshot)?,
        };
        let stored = Stored::new(message.stored_sequence, &message.stored_digest);
        let agent = request.agent().unwrap_or_default().to_owned();
        let word = self.ca.word_of(&agent, stored, &snapshot)?;
        let word = match (word, message.only_to_trusting, message.listening) {
            (_, false, _) => Word::OwnTrust,
            (Word::Trusting(trusting), true, Some(listening)) => {
                let present = snapshot.bundle().sequence();
                let seen = probed(listening.outcome, Sequence(listening.sequence), present);
                Word::Listening { trusting, seen }
            }
            (word, true, _) => word,
        };
        let request = request.with_word(word);
        Ok(wire::issued(&call.issue(&request, snapshot).await?))
    }

    /// A short leaf of the root that shall sign, for the agent itself. The agent of a node has no listeners.
    async fn probe(
        &self,
        call: &mut Call,
        message: IssueProbeRequest,
    ) -> Result<IssueResponse, Refusal> {
        let csr = ParsedCsr::from_der(&message.csr)?;
        let snapshot = self.ca.cell.load();
        let caller = call.authenticate(&snapshot)?;
        let csr = csr.verify()?;
        let identity = named(&message.spiffe_id)?;
        let asked = Asked { csr, ttl: None };
        let request = self.ca.authorizer.behind_agent(&caller, identity, asked, &snapshot)?;
        Ok(wire::issued(&call.issue_probe(request, Sequence(message.sequence)).await?))
    }
}

/// The identity that an agent asks for.
fn named(text: &str) -> Result<SpiffeId, Refusal> {
    SpiffeId::parse(text).map_err(|error| {
        let text = format!("\"{}\" is no SPIFFE id: {error}", echoed(text));
        Refusal::new(Reason::RequestInvalid, text)
    })
}

#[tonic::async_trait]
impl AgentService for Agents {
    async fn get_bundle(
        &self,
        request: Request<GetBundleRequest>,
    ) -> Result<Response<GetBundleResponse>, Status> {
        let (call, message) = Call::of(&self.ca, request);
        self.bundle(&message.digest).map(Response::new).map_err(|refusal| call.refuse(refusal))
    }

    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<IssueResponse>, Status> {
        let (mut call, message) = Call::met(&self.ca, request).await;
        let answer = self.register(&mut call, message).await;
        answer.map(Response::new).map_err(|refusal| call.refuse(refusal))
    }

    async fn renew_agent(
        &self,
        request: Request<RenewAgentRequest>,
    ) -> Result<Response<IssueResponse>, Status> {
        let (mut call, message) = Call::met(&self.ca, request).await;
        let answer = self.renew(&mut call, message).await;
        answer.map(Response::new).map_err(|refusal| call.refuse(refusal))
    }

    async fn issue_workload(
        &self,
        request: Request<IssueWorkloadRequest>,
    ) -> Result<Response<IssueResponse>, Status> {
        let (mut call, message) = Call::met(&self.ca, request).await;
        let answer = self.issue(&mut call, message).await;
        answer.map(Response::new).map_err(|refusal| call.refuse(refusal))
    }

    async fn issue_probe(
        &self,
        request: Request<IssueProbeRequest>,
    ) -> Result<Response<IssueResponse>, Status> {
        let (mut call, message) = Call::met(&self.ca, request).await;
        let answer = self.probe(&mut call, message).await;
        answer.map(Response::new).map_err(|refusal| call.refuse(refusal))
    }

    type ConnectStream = BoxStream<'static, Result<ServerMessage, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (call, messages) = Call::met(&self.ca, request).await;
        uplink::open(call, messages, self.departure.watch()).map(Response::new)
    }
}
