//! The plugin's side, for plugins in Rust: serves any authority.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use plugins::{
    CallContext, CrossSignRequest, IssuerRequest, KeySpec, Outcome, PluginError, RequestId,
    RootAuthority, StageRequest, Ticket,
};
use proto::banyan::plugin::v1 as wire;
use proto::banyan::plugin::v1::root_authority_service_server::{
    RootAuthorityService, RootAuthorityServiceServer,
};
use tonic::{Request, Response, Status};
use trust::{RootId, TrustDomain};

use crate::version::PROTOCOL_VERSION;
use crate::wire::{MESSAGE_MAX, health_message, issuer_message, pending, set_message, status};

/// The deadline of calls whose caller says none.
const DEADLINE: Duration = Duration::from_secs(30);

/// Serves an authority as a plugin.
#[derive(Clone, Debug)]
pub struct PluginService(Arc<dyn RootAuthority>);

impl PluginService {
    /// The service of an authority, for a tonic server.
    pub fn server(authority: Arc<dyn RootAuthority>) -> RootAuthorityServiceServer<Self> {
        RootAuthorityServiceServer::new(Self(authority)).max_decoding_message_size(MESSAGE_MAX)
    }

    fn capabilities(&self) -> Vec<String> {
        let shown = [
            ("stage", self.0.staging().is_some()),
            ("watch", self.0.watching().is_some()),
            ("cross-sign", self.0.cross_signing().is_some()),
            ("retire", self.0.retiring().is_some()),
            ("withdraw", self.0.withdrawing().is_some()),
        ];
        shown.iter().filter(|(_, can)| *can).map(|(name, _)| (*name).to_owned()).collect()
    }
}

fn context(request_id: &str) -> Result<CallContext, Status> {
    let id = RequestId::parse(request_id)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(CallContext::new(id, DEADLINE))
}

fn look() -> Result<CallContext, Status> {
    context("look")
}

fn root(bytes: &[u8]) -> Result<RootId, Status> {
    RootId::from_bytes(bytes)
        .ok_or_else(|| Status::invalid_argument("a root is named by its SHA-256"))
}

fn domain(text: &str) -> Result<TrustDomain, Status> {
    TrustDomain::parse(text).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn duration(seconds: i64) -> Result<Duration, Status> {
    let seconds =
        u64::try_from(seconds).map_err(|_| Status::invalid_argument("a time is negative"))?;
    Ok(Duration::from_secs(seconds))
}

fn lacks(capability: &str) -> Status {
    Status::unimplemented(format!("this plugin cannot {capability}; its handshake says so"))
}

fn refused(error: PluginError) -> Status {
    status(&error)
}

#[tonic::async_trait]
impl RootAuthorityService for PluginService {
    async fn handshake(
        &self,
        request: Request<wire::HandshakeRequest>,
    ) -> Result<Response<wire::HandshakeResponse>, Status> {
        if !request.get_ref().versions.contains(&PROTOCOL_VERSION) {
            let text = format!("this plugin speaks version {PROTOCOL_VERSION} of the protocol");
            return Err(Status::failed_precondition(text));
        }
        let described = self.0.describe();
        Ok(Response::new(wire::HandshakeResponse {
            version: PROTOCOL_VERSION,
            name: described.plugin,
            plugin_version: described.version,
            capabilities: self.capabilities(),
            shared: !described.exclusive,
        }))
    }

    async fn check(
        &self,
        _request: Request<wire::CheckRequest>,
    ) -> Result<Response<wire::CheckResponse>, Status> {
        Ok(Response::new(health_message(self.0.check(&look()?).await)))
    }

    async fn roots(
        &self,
        _request: Request<wire::RootsRequest>,
    ) -> Result<Response<wire::RootSet>, Status> {
        Ok(Response::new(set_message(self.0.roots(&look()?).await.map_err(refused)?)))
    }

    async fn sign_issuer(
        &self,
        request: Request<wire::SignIssuerRequest>,
    ) -> Result<Response<wire::SignIssuerResponse>, Status> {
        let message = request.into_inner();
        let path_len = u8::try_from(message.path_len)
            .map_err(|_| Status::invalid_argument("a path length is at most 255"))?;
        let (trust_domain, ttl) = (domain(&message.trust_domain)?, duration(message.ttl_seconds)?);
        let asked = IssuerRequest::new(root(&message.root)?, message.csr, trust_domain, ttl);
        let context = context(&message.request_id)?;
        let answer = self.0.sign_issuer(&context, &asked.with_path_len(path_len)).await;
        Ok(Response::new(issuer_message(answer.map_err(refused)?)))
    }

    async fn poll(
        &self,
        request: Request<wire::PollRequest>,
    ) -> Result<Response<wire::SignIssuerResponse>, Status> {
        let wire::PollRequest { request_id, ticket } = request.into_inner();
        let answer = self.0.poll(&context(&request_id)?, &Ticket::new(ticket)).await;
        Ok(Response::new(issuer_message(answer.map_err(refused)?)))
    }

    async fn stage_root(
        &self,
        request: Request<wire::StageRootRequest>,
    ) -> Result<Response<wire::StageRootResponse>, Status> {
        use wire::stage_root_response::Outcome as Wire;
        let message = request.into_inner();
        let staging = self.0.staging().ok_or_else(|| lacks("stage roots"))?;
        let key = KeySpec::from_name(&message.key_type)
            .ok_or_else(|| Status::invalid_argument("key_type is p256, p384 or ed25519"))?;
        let (trust_domain, lifetime) =
            (domain(&message.trust_domain)?, duration(message.lifetime_seconds)?);
        let asked = StageRequest::new(trust_domain, lifetime, key);
        let outcome =
            match staging.stage(&context(&message.request_id)?, &asked).await.map_err(refused)? {
                Outcome::Ready(der) => Wire::Root(der),
                Outcome::Pending { ticket, retry_after } => {
                    Wire::Pending(pending(&ticket, retry_after))
                }
            };
        Ok(Response::new(wire::StageRootResponse { outcome: Some(outcome) }))
    }

    async fn activate_root(
        &self,
        request: Request<wire::ActivateRootRequest>,
    ) -> Result<Response<wire::ActivateRootResponse>, Status> {
        let message = request.into_inner();
        let staging = self.0.staging().ok_or_else(|| lacks("stage roots"))?;
        let done = staging.activate(&context(&message.request_id)?, &root(&message.root)?).await;
        done.map(|()| Response::new(wire::ActivateRootResponse {})).map_err(refused)
    }

    type WatchRootsStream = BoxStream<'static, Result<wire::RootSet, Status>>;

    async fn watch_roots(
        &self,
        _request: Request<wire::WatchRootsRequest>,
    ) -> Result<Response<Self::WatchRootsStream>, Status> {
        if self.0.watching().is_none() {
            return Err(lacks("watch its roots"));
        }
        let authority = Arc::clone(&self.0);
        let sets = stream::unfold((authority, None), |(authority, seen)| async move {
            let next = match seen {
                None => authority.roots(&look().ok()?).await,
                Some(seen) => authority.watching()?.changed(seen).await,
            };
            match next {
                Ok(set) => {
                    let generation = set.generation;
                    Some((Ok(set_message(set)), (authority, Some(generation))))
                }
                Err(error) => Some((Err(status(&error)), (authority, seen))),
            }
        });
        Ok(Response::new(sets.boxed()))
    }

    async fn cross_sign(
        &self,
        request: Request<wire::CrossSignRequest>,
    ) -> Result<Response<wire::CrossSignResponse>, Status> {
        use wire::cross_sign_response::Outcome as Wire;
        let message = request.into_inner();
        let signs = self.0.cross_signing().ok_or_else(|| lacks("cross-sign"))?;
        let (signer, ttl) = (root(&message.signer)?, duration(message.ttl_seconds)?);
        let asked = CrossSignRequest::new(signer, message.other_root, ttl);
        let outcome = match signs
            .cross_sign(&context(&message.request_id)?, &asked)
            .await
            .map_err(refused)?
        {
            Outcome::Ready(der) => Wire::Certificate(der),
            Outcome::Pending { ticket, retry_after } => {
                Wire::Pending(pending(&ticket, retry_after))
            }
        };
        Ok(Response::new(wire::CrossSignResponse { outcome: Some(outcome) }))
    }

    async fn retire_root(
        &self,
        request: Request<wire::RetireRootRequest>,
    ) -> Result<Response<wire::RetireRootResponse>, Status> {
        let message = request.into_inner();
        let retires = self.0.retiring().ok_or_else(|| lacks("retire roots"))?;
        let done = retires.retire(&context(&message.request_id)?, &root(&message.root)?).await;
        done.map(|()| Response::new(wire::RetireRootResponse {})).map_err(refused)
    }

    async fn open_requests(
        &self,
        _request: Request<wire::OpenRequestsRequest>,
    ) -> Result<Response<wire::OpenRequestsResponse>, Status> {
        let withdraws = self.0.withdrawing().ok_or_else(|| lacks("withdraw requests"))?;
        let open = withdraws.open_requests(&look()?).await.map_err(refused)?;
        let request_ids = open.iter().map(ToString::to_string).collect();
        Ok(Response::new(wire::OpenRequestsResponse { request_ids }))
    }

    async fn withdraw_request(
        &self,
        request: Request<wire::WithdrawRequestRequest>,
    ) -> Result<Response<wire::WithdrawRequestResponse>, Status> {
        let withdraws = self.0.withdrawing().ok_or_else(|| lacks("withdraw requests"))?;
        let context = context(&request.get_ref().request_id)?;
        let done = withdraws.withdraw(&context, &context.request_id).await;
        done.map(|()| Response::new(wire::WithdrawRequestResponse {})).map_err(refused)
    }
}
