//! `banyan.admin.v1.AuthorityService`: how root authorities are, for the callers of the admin API.

use std::sync::Arc;
use std::time::Duration;

use auth::refusal::{Reason, Refusal, echoed};
use futures::future::join_all;
use plugins::{CallContext, Health, HealthState, RequestId, RootAuthority, RootSet};
use proto::banyan::admin::v1::authority_service_server::AuthorityService;
use proto::banyan::admin::v1::{
    Authority, AuthorityRoot, DistrustIssuerRequest, DistrustIssuerResponse,
    ListAuthoritiesRequest, ListAuthoritiesResponse, RenewIssuerRequest, RenewIssuerResponse,
};
use rotation::{Event, RootState, State};
use tonic::{Request, Response, Status};
use trust::{RootId, Timestamp};

use crate::admin::Operators;
use crate::words;
use control::ca::Ca;
use control::drift::{self, Whose};
use control::further;

/// How long an authority may take to answer an operator, whose own call ends after 10 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct AuthorityLooks {
    ca: Arc<Ca>,
    operators: Operators,
    preferred: Arc<str>,
}

impl AuthorityLooks {
    /// `preferred` is the authority that makes roots unless a rotation names another.
    pub(crate) fn new(ca: Arc<Ca>, operators: Operators, preferred: &str) -> Self {
        Self { ca, operators, preferred: Arc::from(preferred) }
    }

    async fn list(&self, wanted: &str) -> Result<Vec<Authority>, Refusal> {
        let all = &self.ca.authorities;
        if !wanted.is_empty() && !all.contains_key(wanted) {
            let known: Vec<_> = all.keys().map(String::as_str).collect();
            let text = format!("there is no authority \"{}\"", echoed(wanted));
            let advice = format!("name one of these: {}", known.join(", "));
            return Err(Refusal::advised(Reason::RequestInvalid, text, &advice));
        }
        let context =
            RequestId::parse("operator-look").map(|id| CallContext::new(id, ANSWER_WITHIN));
        let context =
            context.map_err(|error| Refusal::new(Reason::InternalDefect, error.to_string()))?;
        let chosen = all.iter().filter(|(name, _)| wanted.is_empty() || *name == wanted);
        Ok(join_all(chosen.map(|(name, authority)| self.look(name, authority.as_ref(), &context)))
            .await)
    }

    /// Asks for a new issuer, or cancels what was asked.
    async fn renew(
        &self,
        message: &RenewIssuerRequest,
        by: &str,
    ) -> Result<RenewIssuerResponse, Refusal> {
        let state = self.ca.driver.state();
        let invalid = |text: &str| Refusal::new(Reason::RequestInvalid, text);
        let root = match message.root.as_slice() {
            [] => state.signing_root().ok_or_else(|| invalid("no root signs yet"))?,
            bytes => RootId::from_bytes(bytes).ok_or_else(|| invalid("`root` is no SHA-256"))?,
        };
        let request_id = rotation::RequestId::parse(&message.request_id);
        let request_id = request_id.map_err(|error| invalid(&error.to_string()))?;
        // Each replica has issuers of its own: whoever is asked is meant.
        let replica = Some(self.ca.replica.clone());
        let event = match message.cancel {
            true => Event::IssuerRenewalCancelled { request_id, root, replica },
            false => Event::IssuerRenewalRequested { request_id, root, replica, replaces: true },
        };
        let word = words::word(&message.by, &message.reason, by)?;
        let next = match self.ca.driver.submit_as(event, word).await {
            Ok(next) => next,
            Err(error) => return Err(words::not_submitted(&error)),
        };
        let authority =
            next.roots.get(&root).map(|entry| entry.authority.to_string()).unwrap_or_default();
        Ok(RenewIssuerResponse { root: root.as_bytes().to_vec(), authority })
    }

    /// What is not trusted, or no longer named, of the further roots.
    fn further(
        &self,
        state: &State,
        whose: &Whose<'_>,
        authority: &dyn RootAuthority,
        set: &RootSet,
    ) -> Vec<String> {
        if further::not_in_use(state, authority, set) {
            let text = "its further roots are trusted once a root of it has signed here";
            return vec![text.to_owned()];
        }
        // What the upkeep of authorities is doing about it, and what keeps it from that.
        let told = self.ca.authority_drift.borrow();
        told.get(whose.name).map(|told| told.further.clone()).unwrap_or_default()
    }

    async fn look(
        &self,
        name: &str,
        authority: &dyn RootAuthority,
        context: &CallContext,
    ) -> Authority {
        let began = self.ca.clock.uptime();
        let health = tokio::time::timeout(ANSWER_WITHIN, authority.check(context)).await;
        let took = self.ca.clock.uptime().saturating_sub(began);
        let late = || format!("no answer within {} s", ANSWER_WITHIN.as_secs());
        let health = health.unwrap_or_else(|_| Health::down(late()));
        let roots = tokio::time::timeout(ANSWER_WITHIN, authority.roots(context)).await;
        let state = self.ca.driver.state();
        let description = authority.describe();
        let whose = Whose { name, place: &description.place };
        let (roots, roots_error, drift) = match roots {
            Ok(Ok(set)) => {
                let drift = match authority.staging().is_some() || authority.upstream().is_some() {
                    true => None,
                    false => drift::of(&state, &whose, &self.ca.replica, &set, false),
                };
                let told = self.further(&state, &whose, authority, &set);
                let drift: Vec<_> = drift.into_iter().chain(told).collect();
                (shown(&set, &state), String::new(), drift.join("; "))
            }
            Ok(Err(error)) => (Vec::new(), error.to_string(), String::new()),
            Err(_) => (Vec::new(), late(), String::new()),
        };
        let signing = state.signing_root().and_then(|root| state.roots.get(&root));
        Authority {
            name: name.to_owned(),
            plugin: description.plugin,
            version: description.version,
            exclusive: description.exclusive,
            capabilities: capabilities(authority),
            health: health_name(&health).to_owned(),
            detail: health.detail,
            latency_micros: i64::try_from(took.as_micros()).unwrap_or(i64::MAX),
            earliest_expiry: health.earliest_expiry.map_or(0, Timestamp::as_secs),
            roots,
            roots_error,
            signs: signing.is_some_and(|root| root.authority.as_str() == name),
            preferred: *self.preferred == *name,
            drift,
            notes: further::others_draining(&state, name),
        }
    }
}

fn capabilities(authority: &dyn RootAuthority) -> Vec<String> {
    let shown = [
        ("stage", authority.staging().is_some()),
        ("watch", authority.watching().is_some()),
        ("cross-sign", authority.cross_signing().is_some()),
        ("upstream", authority.upstream().is_some()),
        ("retire", authority.retiring().is_some()),
    ];
    shown.iter().filter(|(_, can)| *can).map(|(name, _)| (*name).to_owned()).collect()
}

fn shown(set: &RootSet, state: &State) -> Vec<AuthorityRoot> {
    let root = |(der, further): (&Vec<u8>, bool)| {
        let id = RootId::of(der);
        let ours = state.roots.get(&id).map(|entry| entry.state.as_str());
        let trusted = state.further.get(&id).map(|_| RootState::Published.as_str());
        let known = if further { trusted.or(ours) } else { ours };
        AuthorityRoot {
            id: id.as_bytes().to_vec(),
            der: der.clone(),
            signing: set.signing == Some(id),
            state: known.map(str::to_owned).unwrap_or_default(),
            further,
        }
    };
    let own = set.roots.iter().map(|der| (der, false));
    own.chain(set.further.iter().map(|der| (der, true))).map(root).collect()
}

const fn health_name(health: &Health) -> &'static str {
    match health.state {
        HealthState::Ok if health.waits => "waiting",
        HealthState::Ok => "ok",
        HealthState::Degraded => "degraded",
        HealthState::Down => "down",
    }
}

#[tonic::async_trait]
impl AuthorityService for AuthorityLooks {
    async fn list_authorities(
        &self,
        request: Request<ListAuthoritiesRequest>,
    ) -> Result<Response<ListAuthoritiesResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |asked, _| {
                let authorities = self.list(&asked.name).await?;
                Ok(ListAuthoritiesResponse { authorities })
            })
            .await
    }

    async fn distrust_issuer(
        &self,
        request: Request<DistrustIssuerRequest>,
    ) -> Result<Response<DistrustIssuerResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |asked, by| {
                crate::issuer::distrust(&self.ca, asked, by).await
            })
            .await
    }

    async fn renew_issuer(
        &self,
        request: Request<RenewIssuerRequest>,
    ) -> Result<Response<RenewIssuerResponse>, Status> {
        let renew = async |asked, by: &str| self.renew(&asked, by).await;
        self.operators.answer(&self.ca, request, renew).await
    }
}
