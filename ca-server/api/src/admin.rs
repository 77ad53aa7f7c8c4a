//! `banyan.admin.v1.AdminService`: what operators' verbs call.
//!
//! On the Unix socket the kernel says who calls: the server's own user, root, and configured users may. On the TLS port
//! only workloads with a configured identity may, and without one nobody.

use std::sync::Arc;

use auth::authn::CallerKind;
use auth::refusal::{Reason, Refusal};
use proto::banyan::admin::v1::admin_service_server::AdminService;
use proto::banyan::admin::v1::{
    AcceptClockRequest, AcceptClockResponse, CreateTokenRequest, CreateTokenResponse,
    ListRootsRequest, ListRootsResponse, StatusRequest, StatusResponse,
};
use tonic::{Request, Response, Status};
use trust::{RootId, SpiffeId};

use crate::call::Call;
use crate::{page, wire};
use control::ca::Ca;
use control::{roots, status};

/// Roots in one answer: each brings its certificate and its issuers.
const ROOTS_PAGE_MAX: usize = 100;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    ca: Arc<Ca>,
    operators: Operators,
}

/// Who may operate a CA.
#[derive(Clone, Debug, Default)]
pub struct OperatorSettings {
    /// Users of the admin socket besides the server's own and root.
    pub uids: Vec<u32>,
    /// Identities on the TLS port.
    pub identities: Vec<SpiffeId>,
}

/// Lets operators through.
#[derive(Clone, Debug)]
pub(crate) struct Operators(Arc<OperatorSettings>);

impl Operators {
    pub(crate) const fn new(allowed: Arc<OperatorSettings>) -> Self {
        Self(allowed)
    }

    /// Lets operators through, and answers with the caller's name as the journal shall have it.
    pub(crate) fn allow(&self, call: &mut Call) -> Result<String, Refusal> {
        let denied = |text: &str| Err(Refusal::new(Reason::CallerNotAllowed, text));
        if let Some(uid) = call.peer.as_ref().and_then(|peer| peer.uid) {
            let own = rustix::process::geteuid().as_raw();
            let allowed = uid == own || uid == 0 || self.0.uids.contains(&uid);
            return if allowed {
                Ok(format!("uid {uid}"))
            } else {
                denied("this user is not in [admin] uids of the configuration")
            };
        }
        let snapshot = call.ca.cell.load();
        let caller = call.authenticate(&snapshot)?;
        match caller.kind() {
            CallerKind::Workload { .. } if caller.unmatched().is_some() => {
                let text = "the server that issued this certificate does not answer whether it did, and an operator's has to be \
                            known: retry, or ask on the admin socket";
                Err(Refusal::new(Reason::CertificateUnconfirmed, text))
            }
            CallerKind::Workload { identity, .. } if self.0.identities.contains(identity) => {
                Ok(identity.to_string())
            }
            _ => denied("this caller is not in [admin] identities of the configuration"),
        }
    }

    /// Judges the caller, then does what it asks for, in its name.
    pub(crate) async fn answer<M, A>(
        &self,
        ca: &Arc<Ca>,
        request: Request<M>,
        work: impl AsyncFnOnce(M, &str) -> Result<A, Refusal>,
    ) -> Result<Response<A>, Status> {
        let (mut call, message) = Call::met(ca, request).await;
        let caller = self.allow(&mut call).map_err(|refusal| call.refuse(refusal))?;
        let answered = work(message, &caller).await;
        answered.map(Response::new).map_err(|refusal| call.refuse(refusal))
    }
}

impl Admin {
    pub(crate) const fn new(ca: Arc<Ca>, operators: Operators) -> Self {
        Self { ca, operators }
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |_, _| Ok(wire::status(status::of(&self.ca))))
            .await
    }

    async fn list_roots(
        &self,
        request: Request<ListRootsRequest>,
    ) -> Result<Response<ListRootsResponse>, Status> {
        let (mut call, message) = Call::met(&self.ca, request).await;
        self.operators.allow(&mut call).map_err(|refusal| call.refuse(refusal))?;
        let limit = page::limit(message.limit).min(ROOTS_PAGE_MAX);
        let mut roots = roots::after(&self.ca, RootId::from_bytes(&message.after), limit + 1);
        let more = roots.len() > limit;
        roots.truncate(limit);
        let next = roots
            .last()
            .filter(|_| more)
            .map(|last| last.id.as_bytes().to_vec())
            .unwrap_or_default();
        Ok(Response::new(ListRootsResponse {
            roots: roots.into_iter().map(wire::root).collect(),
            next,
        }))
    }

    async fn accept_clock(
        &self,
        request: Request<AcceptClockRequest>,
    ) -> Result<Response<AcceptClockResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |asked, by| {
                crate::clock::accept(&self.ca, asked, by).await
            })
            .await
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |asked, by| {
                crate::join::create(&self.ca, asked, by).await
            })
            .await
    }
}
