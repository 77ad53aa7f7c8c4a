//! The caller's side.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use plugins::call::shown;
use plugins::{
    AuthorityDeps, CallContext, CrossSign, CrossSignRequest, Description, Health, IssuerChain,
    IssuerRequest, Outcome, PluginError, RequestId, RetireRoots, RootAuthority, RootDer, RootSet,
    StageRequest, StageRoots, Ticket, WatchRoots, WithdrawRequests,
};
use proto::banyan::plugin::v1 as wire;
use proto::banyan::plugin::v1::root_authority_service_client::RootAuthorityServiceClient;
use tokio::sync::Mutex;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use trust::{RootId, TrustDomain};

use crate::channel::connect;
use crate::config::{Endpoint, Settings, TlsFiles};
use crate::supervise::Supervisor;
use crate::version::PROTOCOL_VERSION;
use crate::wire::{
    MESSAGE_MAX, error, health, issuer, later, malformed, open_requests, root_set, seconds,
};

type Client = RootAuthorityServiceClient<Channel>;

/// Longest wait for a handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// Sets of one generation that a watched plugin may send before it counts as noise.
const REPEATS_MAX: u32 = 1_000;

/// An authority in another process.
pub struct RemoteAuthority {
    name: String,
    /// What the plugin calls itself; empty without a first handshake.
    plugin: String,
    trust_domain: TrustDomain,
    endpoint: Endpoint,
    tls: Option<TlsFiles>,
    capabilities: Vec<String>,
    shared: bool,
    /// Starts the plugin where that is configured.
    supervisor: Option<Supervisor>,
    /// The connection whose handshake fits; dropped when the plugin goes away.
    client: Mutex<Option<Client>>,
}

/// Asks a plugin what it is, without any settings.
///
/// # Errors
/// When it cannot be reached, or speaks no version of the protocol that is spoken here.
pub async fn handshake(
    endpoint: &Endpoint,
    authority: &str,
    trust_domain: &TrustDomain,
) -> Result<RemoteAuthority, PluginError> {
    let mut remote = RemoteAuthority {
        name: authority.to_owned(),
        plugin: String::new(),
        trust_domain: trust_domain.clone(),
        endpoint: endpoint.clone(),
        tls: None,
        capabilities: Vec::new(),
        shared: false,
        supervisor: None,
        client: Mutex::default(),
    };
    let (client, answer) = remote.greet().await?;
    (remote.capabilities, remote.shared) = (answer.capabilities, answer.shared);
    remote.plugin = shown(&answer.name);
    remote.client = Mutex::new(Some(client));
    Ok(remote)
}

impl RemoteAuthority {
    pub(crate) fn configured(settings: Settings, deps: &AuthorityDeps) -> Self {
        let Settings { endpoint, capabilities, exclusive, tls, process } = settings;
        let socket = match &endpoint {
            Endpoint::Unix(path) => Some(path.clone()),
            Endpoint::Tls { .. } => None,
        };
        let supervisor = process.zip(socket).map(|(process, socket)| {
            Supervisor::new(deps.name.clone(), process, socket, deps.base.clone())
        });
        Self {
            name: deps.name.clone(),
            plugin: String::new(),
            trust_domain: deps.trust_domain.clone(),
            endpoint,
            tls,
            capabilities,
            shared: !exclusive,
            supervisor,
            client: Mutex::default(),
        }
    }

    /// What the plugin calls itself, when it was asked by [`handshake`].
    pub fn plugin_name(&self) -> &str {
        &self.plugin
    }

    /// What the plugin can do, as its handshake or its settings say.
    pub fn capabilities(&self) -> &[String] {
        &self.capabilities
    }

    fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|known| known == capability)
    }

    async fn greet(&self) -> Result<(Client, wire::HandshakeResponse), PluginError> {
        if let Some(supervisor) = &self.supervisor {
            supervisor.up().await.map_err(|detail| PluginError::AuthorityDown { detail })?;
        }
        let down = |detail| PluginError::AuthorityDown { detail };
        let channel = connect(&self.endpoint, self.tls.as_ref()).await.map_err(down)?;
        let mut client = Client::new(channel).max_decoding_message_size(MESSAGE_MAX);
        let request = wire::HandshakeRequest {
            versions: vec![PROTOCOL_VERSION],
            authority: self.name.clone(),
            trust_domain: self.trust_domain.to_string(),
        };
        let answer =
            within(HANDSHAKE_WITHIN, client.handshake(timed(request, HANDSHAKE_WITHIN))).await?;
        if answer.version != PROTOCOL_VERSION {
            let detail = format!(
                "the plugin speaks version {} of the protocol, and {PROTOCOL_VERSION} is spoken here; install a plugin that does",
                answer.version
            );
            return Err(PluginError::Permanent { detail });
        }
        Ok((client, answer))
    }

    /// A client whose plugin is what the settings say.
    async fn client(&self) -> Result<Client, PluginError> {
        let mut known = self.client.lock().await;
        if let Some(client) = known.as_ref() {
            return Ok(client.clone());
        }
        let (client, answer) = self.greet().await?;
        let (mut told, mut configured) = (answer.capabilities, self.capabilities.clone());
        told.sort();
        configured.sort();
        if told != configured {
            let detail = format!("the plugin can do {told:?}; write capabilities = {told:?}");
            return Err(PluginError::Misconfigured { field: "capabilities".to_owned(), detail });
        }
        if answer.shared != self.shared {
            let exclusive = !answer.shared;
            let says = if exclusive { "nobody else issues" } else { "others issue, too" };
            let detail = format!(
                "the plugin says that {says} under its roots; write exclusive = {exclusive}"
            );
            return Err(PluginError::Misconfigured { field: "exclusive".to_owned(), detail });
        }
        *known = Some(client.clone());
        Ok(client)
    }

    /// Makes one call within its deadline. A connection that broke is opened anew, with a handshake, by the next call.
    async fn call<M, A>(
        &self,
        context: &CallContext,
        message: M,
        method: impl AsyncFnOnce(&mut Client, Request<M>) -> Result<Response<A>, Status>,
    ) -> Result<A, PluginError> {
        let deadline = context.deadline;
        let late = || PluginError::Transient { detail: late(deadline) };
        let work = async {
            let mut client = self.client().await?;
            let answered = method(&mut client, timed(message, deadline)).await;
            if let Err(status) = &answered
                && matches!(status.code(), tonic::Code::Unavailable | tonic::Code::Unknown)
            {
                *self.client.lock().await = None;
            }
            answered.map(Response::into_inner).map_err(|status| match status.code() {
                tonic::Code::Cancelled | tonic::Code::DeadlineExceeded => late(),
                _ => error(&status),
            })
        };
        tokio::time::timeout(deadline, work).await.map_err(|_| late())?
    }
}

async fn within<A>(
    deadline: Duration,
    call: impl Future<Output = Result<Response<A>, Status>>,
) -> Result<A, PluginError> {
    let answered = tokio::time::timeout(deadline, call).await;
    let answered = answered.map_err(|_| PluginError::AuthorityDown { detail: late(deadline) })?;
    answered.map(Response::into_inner).map_err(|status| error(&status))
}

fn late(deadline: Duration) -> String {
    format!("the plugin did not answer within {} s", deadline.as_secs_f32())
}

fn timed<M>(message: M, deadline: Duration) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

impl fmt::Debug for RemoteAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteAuthority")
            .field("name", &self.name)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl RootAuthority for RemoteAuthority {
    fn describe(&self) -> Description {
        let described = Description::new(self.name.clone(), "remote", env!("CARGO_PKG_VERSION"))
            .at(self.endpoint.place());
        if self.shared { described.shared() } else { described }
    }

    async fn check(&self, context: &CallContext) -> Health {
        let answered =
            self.call(context, wire::CheckRequest {}, async |c, m| c.check(m).await).await;
        answered.map_or_else(|error| Health::down(error.to_string()), |answer| health(&answer))
    }

    async fn roots(&self, context: &CallContext) -> Result<RootSet, PluginError> {
        root_set(self.call(context, wire::RootsRequest {}, async |c, m| c.roots(m).await).await?)
    }

    async fn sign_issuer(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        let message = wire::SignIssuerRequest {
            request_id: context.request_id.to_string(),
            root: request.root.as_bytes().to_vec(),
            csr: request.csr_der.clone(),
            trust_domain: request.trust_domain.to_string(),
            ttl_seconds: seconds(request.ttl),
            path_len: u32::from(request.path_len),
        };
        issuer(self.call(context, message, async |c, m| c.sign_issuer(m).await).await?)
    }

    async fn poll(
        &self,
        context: &CallContext,
        ticket: &Ticket,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        let (request_id, ticket) = (context.request_id.to_string(), ticket.as_str().to_owned());
        let message = wire::PollRequest { request_id, ticket };
        issuer(self.call(context, message, async |c, m| c.poll(m).await).await?)
    }

    fn staging(&self) -> Option<&dyn StageRoots> {
        self.can("stage").then_some(self as &dyn StageRoots)
    }

    fn watching(&self) -> Option<&dyn WatchRoots> {
        self.can("watch").then_some(self as &dyn WatchRoots)
    }

    fn cross_signing(&self) -> Option<&dyn CrossSign> {
        self.can("cross-sign").then_some(self as &dyn CrossSign)
    }

    fn retiring(&self) -> Option<&dyn RetireRoots> {
        self.can("retire").then_some(self as &dyn RetireRoots)
    }

    fn withdrawing(&self) -> Option<&dyn WithdrawRequests> {
        self.can("withdraw").then_some(self as &dyn WithdrawRequests)
    }
}

#[async_trait]
impl StageRoots for RemoteAuthority {
    async fn stage(
        &self,
        context: &CallContext,
        request: &StageRequest,
    ) -> Result<Outcome<RootDer>, PluginError> {
        use wire::stage_root_response::Outcome as Wire;
        let message = wire::StageRootRequest {
            request_id: context.request_id.to_string(),
            trust_domain: request.trust_domain.to_string(),
            lifetime_seconds: seconds(request.lifetime),
            key_type: request.key.to_string(),
        };
        let answer = self.call(context, message, async |c, m| c.stage_root(m).await).await?;
        match answer.outcome {
            Some(Wire::Root(der)) => Ok(Outcome::Ready(der)),
            Some(Wire::Pending(pending)) => later(pending),
            None => Err(malformed("neither a root nor a ticket")),
        }
    }

    async fn activate(&self, context: &CallContext, root: &RootId) -> Result<(), PluginError> {
        let (request_id, root) = (context.request_id.to_string(), root.as_bytes().to_vec());
        let message = wire::ActivateRootRequest { request_id, root };
        self.call(context, message, async |c, m| c.activate_root(m).await).await.map(drop)
    }
}

#[async_trait]
impl WatchRoots for RemoteAuthority {
    async fn changed(&self, seen: u64) -> Result<RootSet, PluginError> {
        let mut client = self.client().await?;
        let opened = client.watch_roots(wire::WatchRootsRequest {}).await;
        let mut stream = opened.map_err(|status| error(&status))?.into_inner();
        for _ in 0..REPEATS_MAX {
            match stream.message().await.map_err(|status| error(&status))? {
                Some(set) if set.generation != seen => return root_set(set),
                Some(_) => {}
                None => {
                    let detail = "the plugin ended the watch of its roots".to_owned();
                    return Err(PluginError::Transient { detail });
                }
            }
        }
        Err(malformed("the watch of the roots repeats one generation without end"))
    }
}

#[async_trait]
impl CrossSign for RemoteAuthority {
    async fn cross_sign(
        &self,
        context: &CallContext,
        request: &CrossSignRequest,
    ) -> Result<Outcome<Vec<u8>>, PluginError> {
        use wire::cross_sign_response::Outcome as Wire;
        let message = wire::CrossSignRequest {
            request_id: context.request_id.to_string(),
            signer: request.signer.as_bytes().to_vec(),
            other_root: request.other_root.clone(),
            ttl_seconds: seconds(request.ttl),
        };
        let answer = self.call(context, message, async |c, m| c.cross_sign(m).await).await?;
        match answer.outcome {
            Some(Wire::Certificate(der)) => Ok(Outcome::Ready(der)),
            Some(Wire::Pending(pending)) => later(pending),
            None => Err(malformed("neither a certificate nor a ticket")),
        }
    }
}

#[async_trait]
impl RetireRoots for RemoteAuthority {
    async fn retire(&self, context: &CallContext, root: &RootId) -> Result<(), PluginError> {
        let (request_id, root) = (context.request_id.to_string(), root.as_bytes().to_vec());
        let message = wire::RetireRootRequest { request_id, root };
        self.call(context, message, async |c, m| c.retire_root(m).await).await.map(drop)
    }
}

#[async_trait]
impl WithdrawRequests for RemoteAuthority {
    async fn open_requests(&self, context: &CallContext) -> Result<Vec<RequestId>, PluginError> {
        let asked = wire::OpenRequestsRequest {};
        open_requests(self.call(context, asked, async |c, m| c.open_requests(m).await).await?)
    }

    async fn withdraw(
        &self,
        context: &CallContext,
        request_id: &RequestId,
    ) -> Result<(), PluginError> {
        let message = wire::WithdrawRequestRequest { request_id: request_id.to_string() };
        self.call(context, message, async |c, m| c.withdraw_request(m).await).await.map(drop)
    }
}
