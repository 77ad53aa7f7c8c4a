//! `banyan.admin.v1.AdminService`: what operators' verbs call.
//!
//! On the Unix socket the kernel says who calls: the server's own user, root, and configured users may. On the TLS port
//! only workloads with a configured identity may, and without one nobody.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proto::banyan::admin::v1::admin_service_server::AdminService;
use proto::banyan::admin::v1::{
    AcceptClockRequest, AcceptClockResponse, CreateTokenRequest, CreateTokenResponse, ListRootsRequest,
    ListRootsResponse, StatusRequest, StatusResponse,
};
use tonic::{Request, Response, Status};
use trust::join_token::{JoinSecret, JoinToken};
use trust::{RootId, SpiffeId};

use super::call::Call;
use super::page;
use crate::admin::{roots_after, status};
use crate::authn::CallerKind;
use crate::authz::AGENT_NAME_LEN_MAX;
use crate::ca::Ca;
use crate::config::AdminConfig;
use crate::refusal::{Reason, Refusal, echoed};
use crate::registry::TokenRow;

/// Life of a token whose request asks for none, and the longest life.
const TOKEN_TTL_DEFAULT: Duration = Duration::from_secs(3_600);
const TOKEN_TTL_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Roots in one answer: each brings its certificate and its issuers.
const ROOTS_PAGE_MAX: usize = 100;
/// Identities in one token.
const IDENTITIES_MAX: usize = 256;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    ca: Arc<Ca>,
    operators: Operators,
}

/// Who may operate this CA.
#[derive(Clone, Debug)]
pub(crate) struct Operators(Arc<AdminConfig>);

impl Operators {
    pub(crate) const fn new(allowed: Arc<AdminConfig>) -> Self {
        Self(allowed)
    }

    /// Lets operators through, and answers with the caller's name as the journal shall have it.
    pub(super) fn allow(&self, call: &mut Call) -> Result<String, Refusal> {
        let denied = |text: &str| Err(Refusal::new(Reason::CallerNotAllowed, text));
        if let Some(uid) = call.peer.as_ref().and_then(|peer| peer.uid) {
            let own = rustix::process::geteuid().as_raw();
            let allowed = uid == own || uid == 0 || self.0.uids().contains(&uid);
            return if allowed {
                Ok(format!("uid {uid}"))
            } else {
                denied("this user is not in [admin] uids of the configuration")
            };
        }
        let snapshot = call.ca.cell.load();
        match call.authenticate(&snapshot)?.kind() {
            CallerKind::Workload { identity, .. } if self.0.identities().contains(identity) => {
                Ok(identity.to_string())
            }
            _ => denied("this caller is not in [admin] identities of the configuration"),
        }
    }
}

impl Admin {
    pub(crate) const fn new(ca: Arc<Ca>, operators: Operators) -> Self {
        Self { ca, operators }
    }

    async fn token(&self, message: CreateTokenRequest) -> Result<CreateTokenResponse, Refusal> {
        let invalid = |text: String| Refusal::new(Reason::RequestInvalid, text);
        let domain = self.ca.id.trust_domain();
        let agent_id = SpiffeId::agent(domain, &message.agent);
        let agent_id =
            agent_id.ok().filter(|_| message.agent.len() <= AGENT_NAME_LEN_MAX).ok_or_else(|| {
                invalid(format!(
                    "\"{}\" is no agent name: write segments of letters, digits, '.', '_', '-'",
                    echoed(&message.agent)
                ))
            })?;
        let identities = identities(&message.identities, domain)?;
        let ttl = match u64::try_from(message.ttl_seconds) {
            Ok(0) => TOKEN_TTL_DEFAULT,
            Ok(secs) if secs <= TOKEN_TTL_MAX.as_secs() => Duration::from_secs(secs),
            _ => {
                return Err(invalid(
                    "a token lives at most 7 days: ask for 604800 seconds or less".to_owned(),
                ));
            }
        };
        let now = self.ca.clock.now();
        let secret = JoinSecret::random(self.ca.randomness.as_ref());
        let (hash, expires) = (secret.hash(), now.plus(ttl));
        let digest = self.ca.cell.load().bundle().digest();
        let token = JoinToken::new(self.ca.id.clone(), digest, secret)
            .map_err(|error| Refusal::new(Reason::InternalDefect, error.to_string()))?;
        let row = TokenRow { agent: message.agent.clone(), identities, expires, used: None };
        self.ca.registry.add_token(hash, row, now).await?;
        tracing::info!(agent = message.agent, %expires, "join token made");
        Ok(CreateTokenResponse {
            token: token.encode().to_string(),
            expires_at: expires.as_secs(),
            agent_id: agent_id.to_string(),
        })
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let (mut call, _) = Call::of(&self.ca, request);
        self.operators.allow(&mut call).map_err(|refusal| call.refuse(refusal))?;
        Ok(Response::new(status(&self.ca)))
    }

    async fn list_roots(
        &self,
        request: Request<ListRootsRequest>,
    ) -> Result<Response<ListRootsResponse>, Status> {
        let (mut call, message) = Call::of(&self.ca, request);
        self.operators.allow(&mut call).map_err(|refusal| call.refuse(refusal))?;
        let limit = page::limit(message.limit).min(ROOTS_PAGE_MAX);
        let mut roots = roots_after(&self.ca, RootId::from_bytes(&message.after), limit + 1);
        let more = roots.len() > limit;
        roots.truncate(limit);
        let next = roots.last().filter(|_| more).map(|last| last.id.clone()).unwrap_or_default();
        Ok(Response::new(ListRootsResponse { roots, next }))
    }

    async fn accept_clock(
        &self,
        request: Request<AcceptClockRequest>,
    ) -> Result<Response<AcceptClockResponse>, Status> {
        let (mut call, message) = Call::of(&self.ca, request);
        let caller = self.operators.allow(&mut call).map_err(|refusal| call.refuse(refusal))?;
        let accepted = super::clock::accept(&self.ca, message, &caller).await;
        accepted.map(Response::new).map_err(|refusal| call.refuse(refusal))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let (mut call, message) = Call::of(&self.ca, request);
        self.operators.allow(&mut call).map_err(|refusal| call.refuse(refusal))?;
        self.token(message).await.map(Response::new).map_err(|refusal| call.refuse(refusal))
    }
}

fn identities(texts: &[String], domain: &trust::TrustDomain) -> Result<BTreeSet<SpiffeId>, Refusal> {
    let invalid = |text: String| Refusal::new(Reason::RequestInvalid, text);
    if texts.is_empty() || texts.len() > IDENTITIES_MAX {
        return Err(invalid("a token needs 1 to 256 identities that the agent may ask for".to_owned()));
    }
    texts
        .iter()
        .map(|text| match SpiffeId::parse(text) {
            Ok(id) if id.trust_domain() == domain && !id.is_reserved() && !id.path().is_empty() => Ok(id),
            Ok(_) => Err(invalid(format!("\"{}\" is no workload of {domain}", echoed(text)))),
            Err(error) => Err(invalid(format!("\"{}\" is no SPIFFE id: {error}", echoed(text)))),
        })
        .collect()
}
