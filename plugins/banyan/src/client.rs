//! The authority: calls to the upstream CA.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use plugins::call::shown;
use plugins::{
    AuthorityDeps, CallContext, Description, DownstreamReport, Health, IssuerChain, IssuerRequest,
    Outcome, PluginError, RootAuthority, RootSet, Ticket, UpstreamCa, UpstreamState,
};
use proto::banyan::downstream::v1 as wire;
use proto::banyan::downstream::v1::downstream_service_client::DownstreamServiceClient;
use rustls_pki_types::CertificateDer;
use tokio::sync::Mutex;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::StatusExt as _;
use trust::{Root, Timestamp};

use crate::accepted::{Accepted, malformed};
use crate::channel::{connect, first_contact, token};
use crate::config::Settings;

type Client = DownstreamServiceClient<Channel>;

/// Longest answer that is taken.
const MESSAGE_MAX: usize = 1024 * 1024 + 64 * 1024;
/// How often what was said is stored again after a failure, when what is there was read.
const STORES_AGAIN: u32 = 2;
/// How long the first message of a stream may take.
const FIRST_WITHIN: Duration = Duration::from_secs(10);
/// Reason of a refusal that says when what stands above the issuer ends.
const OUTLIVES: &str = "ISSUER_OUTLIVES";
/// Wait where the upstream CA says to wait and not how long.
const RETRY_DEFAULT: Duration = Duration::from_secs(2);

/// An upstream CA.
pub struct BanyanAuthority {
    settings: Settings,
    deps: AuthorityDeps,
    /// What it said last; read from the state at the first use.
    accepted: Mutex<Option<Accepted>>,
    /// The connection; dropped when it broke, and when other roots count.
    client: Mutex<Option<Client>>,
    /// The stream of states that is waited at.
    states: Mutex<Option<Streaming<wire::UpstreamState>>>,
}

impl BanyanAuthority {
    pub(crate) fn new(settings: Settings, deps: AuthorityDeps) -> Self {
        let (accepted, client, states) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { settings, deps, accepted, client, states }
    }

    async fn known(&self) -> Result<Accepted, PluginError> {
        let mut accepted = self.accepted.lock().await;
        if let Some(known) = accepted.as_ref() {
            return Ok(known.clone());
        }
        let known = Accepted::load(self.deps.state.as_ref()).await?;
        *accepted = Some(known.clone());
        Ok(known)
    }

    async fn client(&self) -> Result<Client, PluginError> {
        let known = self.known().await?;
        let mut client = self.client.lock().await;
        if let Some(client) = client.as_ref() {
            return Ok(client.clone());
        }
        let file = first_contact(&self.settings.ca_file)?;
        let (roots, with_file) = known.trusted(&file.digest);
        let mut trusted: Vec<_> = roots.iter().cloned().map(CertificateDer::from).collect();
        trusted.extend(if with_file { file.roots } else { Vec::new() });
        let channel = connect(&self.settings, trusted).await?;
        let opened = Client::new(channel).max_decoding_message_size(MESSAGE_MAX);
        *client = Some(opened.clone());
        Ok(opened)
    }

    fn request<M>(&self, message: M) -> Result<Request<M>, PluginError> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", token(&self.settings.token_file)?);
        Ok(request)
    }

    /// Makes one call within its deadline. A connection that broke is opened anew by the next call.
    async fn call<M, A>(
        &self,
        deadline: Duration,
        message: M,
        method: impl AsyncFnOnce(&mut Client, Request<M>) -> Result<Response<A>, Status>,
    ) -> Result<A, PluginError> {
        let late = || PluginError::Transient {
            detail: format!("the upstream CA did not answer within {} s", deadline.as_secs_f32()),
        };
        let work = async {
            let request = self.request(message)?;
            let mut client = self.client().await?;
            match method(&mut client, request).await {
                Ok(answer) => Ok(answer.into_inner()),
                Err(status) => Err(self.failed(&status).await),
            }
        };
        tokio::time::timeout(deadline, work).await.map_err(|_| late())?
    }

    async fn failed(&self, status: &Status) -> PluginError {
        if matches!(
            status.code(),
            Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled
        ) {
            *self.client.lock().await = None;
        }
        error(status)
    }

    async fn open(&self) -> Result<Streaming<wire::UpstreamState>, PluginError> {
        self.call(FIRST_WITHIN, wire::WatchRootsRequest {}, async |c, m| c.watch_roots(m).await)
            .await
    }

    /// Checks and keeps what was said. It counts for nothing before it is durable. Other servers of this CA hear and keep the same:
    /// whoever comes second finds it there.
    async fn accept(&self, told: &wire::UpstreamState) -> Result<UpstreamState, PluginError> {
        let file = first_contact(&self.settings.ca_file)?.digest;
        let mut stores = 0;
        loop {
            self.known().await?;
            let mut accepted = self.accepted.lock().await;
            let known = accepted.clone().unwrap_or_default();
            let (next, upstream) = known.after(told, &self.deps.trust_domain, &file)?;
            if next == known {
                return Ok(upstream);
            }
            // Read again after a failure: what is on the disk is unknown then.
            *accepted = None;
            match next.store(self.deps.state.as_ref()).await {
                Ok(()) => {}
                Err(_) if stores < STORES_AGAIN => {
                    stores += 1;
                    continue;
                }
                Err(error) => return Err(error),
            }
            let other_roots = next.roots().roots != known.roots().roots;
            *accepted = Some(next);
            drop(accepted);
            if other_roots {
                // Later connections are judged by the new roots; what is under way goes on.
                *self.client.lock().await = None;
            }
            return Ok(upstream);
        }
    }

    async fn now(&self) -> Result<UpstreamState, PluginError> {
        let mut states = self.open().await?;
        let first = tokio::time::timeout(FIRST_WITHIN, states.message()).await;
        let late = || PluginError::Transient {
            detail: "the upstream CA says nothing of its roots".to_owned(),
        };
        match first.map_err(|_| late())? {
            Ok(Some(told)) => self.accept(&told).await,
            Ok(None) => Err(late()),
            Err(status) => Err(self.failed(&status).await),
        }
    }
}

impl fmt::Debug for BanyanAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BanyanAuthority")
            .field("name", &self.deps.name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl RootAuthority for BanyanAuthority {
    fn describe(&self) -> Description {
        Description::new(self.deps.name.clone(), "banyan", env!("CARGO_PKG_VERSION")).shared()
    }

    async fn check(&self, context: &CallContext) -> Health {
        let asked = tokio::time::timeout(context.deadline, self.now()).await;
        match asked {
            Ok(Ok(upstream)) => {
                let root = |der: &Vec<u8>| Root::parse(der).ok();
                let ends = upstream
                    .roots
                    .iter()
                    .filter_map(root)
                    .map(|root| root.certificate().validity().not_after());
                Health::ok().until(ends.min())
            }
            Ok(Err(error)) => Health::down(error.to_string()),
            Err(_) => Health::down("the upstream CA does not answer in time"),
        }
    }

    async fn roots(&self, context: &CallContext) -> Result<RootSet, PluginError> {
        let late = || PluginError::Transient {
            detail: "the upstream CA does not answer in time".to_owned(),
        };
        tokio::time::timeout(context.deadline, self.now()).await.map_err(|_| late())??;
        Ok(self.known().await?.roots())
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
            ttl_seconds: i64::try_from(request.ttl.as_secs()).unwrap_or(i64::MAX),
            path_len: u32::from(request.path_len),
        };
        let answer =
            self.call(context.deadline, message, async |c, m| c.sign_issuer(m).await).await?;
        if answer.chain.is_empty() {
            // The same request again gets the answer, so there is no ticket to keep.
            let seconds = u64::try_from(answer.retry_after_seconds).unwrap_or_default().max(1);
            return Err(PluginError::RateLimited { retry_after: Duration::from_secs(seconds) });
        }
        Ok(Outcome::Ready(IssuerChain::new(answer.chain)))
    }

    async fn poll(&self, _: &CallContext, _: &Ticket) -> Result<Outcome<IssuerChain>, PluginError> {
        Err(PluginError::Denied {
            reason: "this authority gives no tickets: repeat the request".to_owned(),
        })
    }

    fn upstream(&self) -> Option<&dyn UpstreamCa> {
        Some(self)
    }
}

#[async_trait]
impl UpstreamCa for BanyanAuthority {
    async fn state(&self, seen: Option<u64>) -> Result<UpstreamState, PluginError> {
        let Some(seen) = seen else { return self.now().await };
        let mut states = self.states.lock().await;
        loop {
            let open = match states.as_mut() {
                Some(open) => open,
                None => states.insert(self.open().await?),
            };
            match open.message().await {
                Ok(Some(told)) if told.generation == seen => {}
                Ok(Some(told)) => return self.accept(&told).await,
                Ok(None) => {
                    *states = None;
                    let detail = "the upstream CA ended the stream of its roots".to_owned();
                    return Err(PluginError::Transient { detail });
                }
                Err(status) => {
                    *states = None;
                    return Err(self.failed(&status).await);
                }
            }
        }
    }

    async fn report(
        &self,
        context: &CallContext,
        report: &DownstreamReport,
    ) -> Result<(), PluginError> {
        let message = wire::DownstreamReport {
            seen_generation: report.seen_generation,
            applied_sequence: report.applied_sequence,
            unused: report.unused.iter().map(|id| id.as_bytes().to_vec()).collect(),
            waits_for: report.waits_for.clone(),
        };
        self.call(context.deadline, message, async |c, m| c.report(m).await).await.map(drop)
    }
}

/// What a refusal of the upstream CA means to the caller.
fn error(status: &Status) -> PluginError {
    let detail = shown(status.message());
    if let Some(outlives) = outlives(status) {
        return outlives;
    }
    match status.code() {
        Code::OutOfRange if detail.contains("message length too large") => malformed(&detail),
        Code::Internal if detail.contains("failed to decode") => malformed(&detail),
        Code::ResourceExhausted => {
            let told = status.get_details_retry_info().and_then(|info| info.retry_delay);
            PluginError::RateLimited { retry_after: told.unwrap_or(RETRY_DEFAULT) }
        }
        Code::Unavailable => PluginError::AuthorityDown { detail },
        Code::Unauthenticated => {
            PluginError::Misconfigured { field: "token_file".to_owned(), detail }
        }
        Code::PermissionDenied
        | Code::NotFound
        | Code::FailedPrecondition
        | Code::InvalidArgument => PluginError::Denied { reason: detail },
        Code::Unimplemented => {
            let detail = "the server above knows no downstream CAs: it is no Banyan, or an old one"
                .to_owned();
            PluginError::Permanent { detail }
        }
        _ => PluginError::Transient { detail },
    }
}

/// A refusal that says when what stands above the issuer ends.
fn outlives(status: &Status) -> Option<PluginError> {
    let info = status.get_details_error_info()?;
    if status.code() != Code::FailedPrecondition || info.reason != OUTLIVES {
        return None;
    }
    let ends = info.metadata.get("ends")?.parse().ok().map(Timestamp::from_secs)?;
    let above = info.metadata.get("above").map(|above| shown(above)).unwrap_or_default();
    Some(PluginError::Outlives { above, ends })
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_refusal_for_an_issuer_that_outlives_what_is_above_says_when_that_ends() {
        let metadata =
            [("ends", "7"), ("above", "root\u{1b} a")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let details = ErrorDetails::with_error_info(OUTLIVES, "banyan", metadata);
        let status = Status::with_error_details(Code::FailedPrecondition, "why", details);
        let ends = Timestamp::from_secs(7);
        assert_eq!(error(&status), PluginError::Outlives { above: "root  a".to_owned(), ends });
    }

    #[test]
    fn refusals_say_what_to_do_next() {
        let of = |code| error(&Status::new(code, "why\n\u{1b}"));
        assert!(matches!(of(Code::ResourceExhausted), PluginError::RateLimited { .. }));
        assert!(
            matches!(of(Code::FailedPrecondition), PluginError::Denied { reason } if reason == "why  ")
        );
        assert!(matches!(of(Code::Unavailable), PluginError::AuthorityDown { .. }));
        assert!(
            matches!(of(Code::Unauthenticated), PluginError::Misconfigured { field, .. } if field == "token_file")
        );
        assert!(matches!(of(Code::Unimplemented), PluginError::Permanent { .. }));
        assert!(of(Code::Internal).may_be_repeated());
    }
}
