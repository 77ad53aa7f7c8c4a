//! `banyan.agent.v1.AgentService`: what agents call.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::BoxStream;
use proto::banyan::agent::v1::agent_service_server::AgentService;
use proto::banyan::agent::v1::{
    AgentMessage, GetBundleRequest, GetBundleResponse, IssueResponse, IssueWorkloadRequest, RegisterRequest,
    RenewAgentRequest, ServerMessage,
};
use tonic::{Request, Response, Status, Streaming};
use trust::csr::ParsedCsr;
use trust::{BundleDigest, SpiffeId};

use super::call::Call;
use super::{uplink, wire};
use crate::authz::{Registration, requested_ttl};
use crate::ca::Ca;
use crate::refusal::{Reason, Refusal, echoed};

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Agents {
    ca: Arc<Ca>,
}

impl Agents {
    pub(crate) const fn new(ca: Arc<Ca>) -> Self {
        Self { ca }
    }

    fn bundle(&self, digest: &[u8]) -> Result<GetBundleResponse, Refusal> {
        let present = self.ca.cell.load();
        let wanted = BundleDigest::from_bytes(digest);
        if !digest.is_empty() && wanted.is_none() {
            return Err(Refusal::new(Reason::RequestInvalid, "a bundle digest has 32 bytes, or none"));
        }
        let Some(wanted) = wanted.filter(|wanted| *wanted != present.bundle().digest()) else {
            let bundle = Some(wire::bundle(present.bundle()));
            return Ok(GetBundleResponse { bundle, transitions: Vec::new() });
        };
        let (from, way) = self.ca.history.way_from(&wanted).ok_or_else(|| {
            let text = "no bundle with this digest is known here: make a new join token";
            Refusal::new(Reason::BundleUnknown, text)
        })?;
        let transitions = way.iter().map(|(bundle, vouch)| wire::transition(bundle, vouch)).collect();
        Ok(GetBundleResponse { bundle: Some(wire::bundle(&from)), transitions })
    }

    async fn register(&self, call: &mut Call, message: RegisterRequest) -> Result<IssueResponse, Refusal> {
        let csr = ParsedCsr::from_der(&message.csr)?;
        let snapshot = self.ca.cell.load();
        let caller = call.authenticate(&snapshot)?;
        let csr = csr.verify()?;
        let now = self.ca.clock.now();
        let registration = self.ca.authorizer.register(&caller, csr, now, &snapshot)?;
        let Registration { request, agent, identities, token } = registration;
        let spki = request.public_key().hash();
        match token {
            Some(token) => self.ca.registry.redeem(token, spki, now).await?,
            None => {
                let identities = BTreeSet::from_iter(identities);
                self.ca.registry.register(agent.clone(), spki, identities, now).await?;
            }
        }
        let leaf = call.issue(&request, snapshot).await?;
        tracing::info!(agent, build = echoed(&message.build), key = %spki.short(), "agent registered");
        Ok(wire::issued(&leaf))
    }

    async fn renew(&self, call: &mut Call, message: RenewAgentRequest) -> Result<IssueResponse, Refusal> {
        let csr = ParsedCsr::from_der(&message.csr)?;
        let snapshot = self.ca.cell.load();
        let caller = call.authenticate_returning(&snapshot)?;
        let request = self.ca.authorizer.renew_agent(&caller, csr.verify()?, &snapshot)?;
        Ok(wire::issued(&call.issue(&request, snapshot).await?))
    }

    async fn issue(&self, call: &mut Call, message: IssueWorkloadRequest) -> Result<IssueResponse, Refusal> {
        let csr = ParsedCsr::from_der(&message.csr)?;
        let snapshot = self.ca.cell.load();
        let caller = call.authenticate(&snapshot)?;
        let csr = csr.verify()?;
        let identity = SpiffeId::parse(&message.spiffe_id).map_err(|error| {
            let text = format!("\"{}\" is no SPIFFE id: {error}", echoed(&message.spiffe_id));
            Refusal::new(Reason::RequestInvalid, text)
        })?;
        let ttl = requested_ttl(message.validity_seconds);
        let request = self.ca.authorizer.behind_agent(&caller, identity, csr, (ttl, &snapshot))?;
        Ok(wire::issued(&call.issue(&request, snapshot).await?))
    }
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

    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<IssueResponse>, Status> {
        let (mut call, message) = Call::of(&self.ca, request);
        let answer = self.register(&mut call, message).await;
        answer.map(Response::new).map_err(|refusal| call.refuse(refusal))
    }

    async fn renew_agent(
        &self,
        request: Request<RenewAgentRequest>,
    ) -> Result<Response<IssueResponse>, Status> {
        let (mut call, message) = Call::of(&self.ca, request);
        let answer = self.renew(&mut call, message).await;
        answer.map(Response::new).map_err(|refusal| call.refuse(refusal))
    }

    async fn issue_workload(
        &self,
        request: Request<IssueWorkloadRequest>,
    ) -> Result<Response<IssueResponse>, Status> {
        let (mut call, message) = Call::of(&self.ca, request);
        let answer = self.issue(&mut call, message).await;
        answer.map(Response::new).map_err(|refusal| call.refuse(refusal))
    }

    type ConnectStream = BoxStream<'static, Result<ServerMessage, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (call, messages) = Call::of(&self.ca, request);
        uplink::open(call, messages).map(Response::new)
    }
}
