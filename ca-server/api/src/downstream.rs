//! `banyan.downstream.v1`: downstream CAs, and what operators do about them.
//!
//! An issuer of a downstream CA is counted durably before it is signed, and the record is looked at again after that: so no gate can
//! open between the look and the count.

use std::sync::Arc;
use std::time::Duration;

use auth::authn;
use auth::refusal::{Reason, Refusal, echoed};
use futures::stream::BoxStream;
use plugins::checks::{IssuerExpectation, check_issuer_answer};
use plugins::{CallContext, DownstreamReport, IssuerRequest, Outcome, PluginError, RequestId};
use proto::banyan::admin::v1::ConfirmRelyingPartyRequest;
use proto::banyan::downstream::v1 as wire;
use proto::banyan::downstream::v1::downstream_service_server::DownstreamService;
use registry::{DownstreamIssuer, NEIGHBOR_PARTY};
use rotation::State;
use tonic::{Request, Response, Status};
use trust::csr::ParsedCsr;
use trust::digest::sha256;
use trust::{PublicKey, Root, RootId, Sequence};

use crate::call::Call;
use crate::relying_parties;
use crate::watcher::{self, Watched};
use control::ca::Ca;

/// How every token of a downstream CA begins.
pub(crate) const TOKEN_PREFIX: &str = "btt1.";
/// Longest life of a downstream CA's issuer.
const TTL_MAX: Duration = Duration::from_secs(36_500 * 86_400);
/// CAs that may stand below a downstream CA's issuer.
const PATH_LEN_MAX: u32 = 8;
/// An issuer counts so much longer than it was asked for; its real end counts once it is known.
const MARGIN: Duration = Duration::from_secs(60);
/// How long an authority may take.
const SIGN_WITHIN: Duration = Duration::from_secs(30);
/// Roots in one report.
const UNUSED_MAX: usize = 64;
/// How often a watching downstream CA is judged again.
const JUDGE_EVERY: Duration = Duration::from_secs(2);

/// What downstream CAs call.
#[derive(Clone, Debug)]
pub(crate) struct DownstreamCalls {
    ca: Arc<Ca>,
}

/// A request for an issuer, parsed.
struct Parsed {
    id: String,
    request: IssuerRequest,
    key: PublicKey,
}

impl DownstreamCalls {
    pub(crate) const fn new(ca: Arc<Ca>) -> Self {
        Self { ca }
    }

    async fn sign(
        &self,
        downstream: &str,
        message: wire::SignIssuerRequest,
    ) -> Result<wire::SignIssuerResponse, Refusal> {
        let (ca, parsed) = (&self.ca, self.parsed(message)?);
        if ca.registry.is_neighbor(downstream) {
            let text = format!(
                "{downstream} is a neighbor here, and gets no issuer: `banyan downstream add` without --neighbor, under another name"
            );
            return Err(Refusal::new(Reason::CallerNotAllowed, text));
        }
        let now = ca.believed_now()?;
        let root = parsed.request.root;
        let former = ca.downstreams.downstream(downstream);
        let newcomer = former.is_none_or(|downstream| downstream.until(&ca.policy, now).is_none());
        may_sign(&ca.driver.state(), &root, newcomer)?;
        let issuer = DownstreamIssuer { root, ends: now.plus(parsed.request.ttl).plus(MARGIN) };
        let is_new =
            ca.registry.count_issuer(downstream.to_owned(), parsed.id.clone(), issuer, now).await?;
        if is_new {
            // What it reported was about itself without this issuer.
            ca.downstreams.forget(downstream);
        }
        let signed = match may_sign(&ca.driver.state(), &root, newcomer) {
            Ok(()) => self.signed(downstream, &parsed, issuer).await,
            Err(refusal) => Err(refusal),
        };
        let surely_none = |refusal: &Refusal| {
            matches!(
                refusal.reason(),
                Reason::IssuerRefused | Reason::IssuerOutlives | Reason::DownstreamWaits
            )
        };
        if is_new && signed.as_ref().err().is_some_and(surely_none) {
            ca.registry.discount_issuer(downstream.to_owned(), parsed.id).await?;
        }
        signed
    }

    /// Asks the authority of the root, under an id that belongs to the downstream CA and its request.
    async fn signed(
        &self,
        downstream: &str,
        parsed: &Parsed,
        counted: DownstreamIssuer,
    ) -> Result<wire::SignIssuerResponse, Refusal> {
        let (ca, state) = (&self.ca, self.ca.driver.state());
        let root = parsed.request.root;
        let entry = state.roots.get(&root).ok_or_else(|| unknown_root(&root))?;
        let authority = ca.authorities.get(entry.authority.as_str());
        let authority = authority.ok_or_else(|| {
            refused(format!("authority {} is not configured here", entry.authority))
        })?;
        let digest = sha256(format!("{downstream}\n{}", parsed.id).as_bytes());
        let id: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let id = RequestId::parse(&format!("tier.{id}"));
        let id = id.map_err(|error| Refusal::new(Reason::InternalDefect, error.to_string()))?;
        let context = CallContext::new(id, SIGN_WITHIN);
        let asked =
            tokio::time::timeout(SIGN_WITHIN, authority.sign_issuer(&context, &parsed.request))
                .await;
        let late = || {
            Refusal::new(Reason::AuthorityUnavailable, "the root authority did not answer in time")
        };
        let later = |wait: Duration| wire::SignIssuerResponse {
            chain: Vec::new(),
            retry_after_seconds: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX).max(1),
        };
        let answer = match asked.map_err(|_| late())? {
            Ok(Outcome::Ready(answer)) => answer,
            Ok(Outcome::Pending { retry_after, .. })
            | Err(PluginError::RateLimited { retry_after }) => {
                return Ok(later(retry_after));
            }
            Err(error) if error.may_be_repeated() => {
                return Err(Refusal::new(Reason::AuthorityUnavailable, error.to_string()));
            }
            Err(error) => return Err(never(&error)),
        };
        let announced =
            Root::parse(entry.der.as_bytes()).map_err(|error| refused(error.to_string()))?;
        let now = ca.clock.now();
        let retired = state.roots.iter().filter(|(_, entry)| entry.state.is_retired());
        let expected = IssuerExpectation {
            key: &parsed.key,
            trust_domain: &state.trust_domain,
            root,
            path_len: parsed.request.path_len,
            now,
            covers_until: now,
            announced: &[announced],
            retired: &retired.map(|(id, _)| *id).collect(),
        };
        let checked = check_issuer_answer(&answer, &expected);
        let checked = checked
            .map_err(|error| Refusal::new(Reason::AuthorityUnavailable, error.to_string()))?;
        let ends = checked.not_after();
        if ends > counted.ends {
            let issuer = DownstreamIssuer { root, ends };
            ca.registry.count_issuer(downstream.to_owned(), parsed.id.clone(), issuer, now).await?;
        }
        tracing::info!(downstream, root = %root.short(), not_after = %ends, "issuer signed for a downstream CA");
        Ok(wire::SignIssuerResponse { chain: answer.certificates, retry_after_seconds: 0 })
    }

    fn parsed(&self, message: wire::SignIssuerRequest) -> Result<Parsed, Refusal> {
        let id =
            RequestId::parse(&message.request_id).map_err(|error| invalid(error.to_string()))?;
        let domain = self.ca.id.trust_domain();
        if message.trust_domain != domain.as_str() {
            let other = echoed(&message.trust_domain);
            return Err(refused(format!(
                "this CA is of trust domain {domain}, not of \"{other}\""
            )));
        }
        let root =
            RootId::from_bytes(&message.root).ok_or_else(|| invalid("`root` is no SHA-256"))?;
        let ttl = u64::try_from(message.ttl_seconds).map(Duration::from_secs);
        let ttl = ttl.ok().filter(|ttl| !ttl.is_zero() && *ttl <= TTL_MAX);
        let ttl = ttl.ok_or_else(|| invalid("an issuer lives for 1 second to 36500 days"))?;
        let path_len = u8::try_from(message.path_len.min(PATH_LEN_MAX)).unwrap_or_default();
        if u32::from(path_len) != message.path_len {
            return Err(invalid("at most 8 CAs may stand below an issuer"));
        }
        let key =
            ParsedCsr::from_der(&message.csr).and_then(ParsedCsr::verify)?.public_key().clone();
        let request =
            IssuerRequest::new(root, message.csr, domain.clone(), ttl).with_path_len(path_len);
        Ok(Parsed { id: id.to_string(), request, key })
    }

    async fn hear(&self, downstream: &str, message: wire::DownstreamReport) -> Result<(), Refusal> {
        let (state, now) = (self.ca.driver.state(), self.ca.clock.now());
        if message.seen_generation > state.generation.0 {
            return Err(invalid(
                "the report is about a state of the future: was this server restored from a backup?",
            ));
        }
        if message.unused.len() > UNUSED_MAX
            || message.waits_for.len() > DownstreamReport::WAITS_FOR_MAX
        {
            return Err(invalid("a report names at most 64 roots and 16 that are waited for"));
        }
        let unused: Option<Vec<_>> =
            message.unused.iter().map(|id| RootId::from_bytes(id)).collect();
        let unused = unused.ok_or_else(|| invalid("`unused` names what is no SHA-256"))?;
        let plain = |text: String| {
            text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
        };
        let report = DownstreamReport::about(message.seen_generation)
            .applied(message.applied_sequence)
            .unused(unused)
            .waits_for(message.waits_for.into_iter().map(plain));
        let applied = Sequence(report.applied_sequence);
        self.ca.downstreams.tell(downstream, report, now);
        self.confirm(downstream, applied).await
    }

    /// Takes a neighbor's word that everybody there trusts a bundle, as that of a relying party.
    async fn confirm(&self, downstream: &str, applied: Sequence) -> Result<(), Refusal> {
        let name = format!("{NEIGHBOR_PARTY}{downstream}");
        let known =
            self.ca.registry.relying_parties().into_iter().find(|(known, _)| *known == name);
        if applied == Sequence(0) || known.is_none_or(|(_, row)| row.has(applied)) {
            return Ok(());
        }
        let message =
            ConfirmRelyingPartyRequest { name, sequence: applied.0, ..Default::default() };
        relying_parties::confirm(&self.ca, message, &format!("neighbor {downstream}")).await?;
        Ok(())
    }
}

/// The downstream CA that calls, if it may at this moment.
fn judge(call: &mut Call) -> Result<String, Refusal> {
    let missing = || {
        Refusal::new(Reason::CredentialMissing, "send the token of a downstream CA as bearer token")
    };
    let token = authn::bearer(&call.metadata)?.ok_or_else(missing)?;
    let found = call.ca.registry.downstream_of(&sha256(token.as_bytes()));
    let unknown = || {
        let text = "the token is of no downstream CA here: make one with `banyan downstream add`";
        Refusal::new(Reason::DownstreamTokenInvalid, text)
    };
    let name = found.ok_or_else(unknown)?;
    call.identified("downstream", &name);
    Ok(name)
}

/// What an authority will not sign as asked; one that says when what stands above ends is passed on as that, so that the downstream CA
/// below asks for what is left.
fn never(error: &PluginError) -> Refusal {
    let refused = |reason| Refusal::new(reason, error.to_string());
    match error {
        PluginError::Outlives { above, ends } => refused(Reason::IssuerOutlives)
            .with("ends", ends.as_secs().to_string())
            .with("above", above),
        _ => refused(Reason::IssuerRefused),
    }
}

/// A root that is not on its way out; and a downstream CA that has no issuer yet begins only while all roots of the bundle are old
/// friends: it begins with the one root that signs, so its members would not trust the others.
fn may_sign(state: &State, root: &RootId, newcomer: bool) -> Result<(), Refusal> {
    let entry = state.roots.get(root).ok_or_else(|| unknown_root(root))?;
    if !entry.state.stays() {
        let (root, is) = (root.short(), entry.state.as_str());
        return Err(refused(format!("root {root} is {is} here: ask under the root that signs")));
    }
    if newcomer && state.phase.trusts_both() {
        let text =
            "a rotation is under way here: a new downstream CA begins when it is over, by itself";
        return Err(Refusal::new(Reason::DownstreamWaits, text));
    }
    Ok(())
}

/// What downstream CAs are told of a record; `None` before the first root signs.
fn upstream_state(state: &State) -> Option<wire::UpstreamState> {
    let signing = state.signing_root()?;
    // A downstream CA follows the other roots one by one; these it trusts, and no more.
    let is_own = |id: &RootId| state.roots.get(id).is_some_and(|ours| ours.state.is_trusted());
    let further = state.further.iter().filter(|(id, _)| !is_own(id));
    Some(wire::UpstreamState {
        trust_domain: state.trust_domain.to_string(),
        sequence: state.sequence.0,
        roots: state.own_bundle().map(|(_, entry)| entry.der.as_bytes().to_vec()).collect(),
        signing: signing.as_bytes().to_vec(),
        generation: state.generation.0,
        further: further.map(|(_, entry)| entry.der.as_bytes().to_vec()).collect(),
    })
}

#[tonic::async_trait]
impl DownstreamService for DownstreamCalls {
    type WatchRootsStream = BoxStream<'static, Result<wire::UpstreamState, Status>>;

    async fn watch_roots(
        &self,
        request: Request<wire::WatchRootsRequest>,
    ) -> Result<Response<Self::WatchRootsStream>, Status> {
        let (mut call, _) = Call::of(&self.ca, request);
        judge(&mut call).map_err(|refusal| call.refuse(refusal))?;
        let ending = call.peer.as_ref().map(|peer| peer.ending.clone()).unwrap_or_default();
        let watched = WatchedRoots { call, last: None };
        Ok(Response::new(watcher::watch(watched, self.ca.driver.changes(), ending, JUDGE_EVERY)))
    }

    async fn sign_issuer(
        &self,
        request: Request<wire::SignIssuerRequest>,
    ) -> Result<Response<wire::SignIssuerResponse>, Status> {
        let (mut call, message) = Call::of(&self.ca, request);
        let downstream = judge(&mut call).map_err(|refusal| call.refuse(refusal))?;
        let signed = self.sign(&downstream, message).await;
        signed.map(Response::new).map_err(|refusal| call.refuse(refusal))
    }

    async fn report(
        &self,
        request: Request<wire::DownstreamReport>,
    ) -> Result<Response<wire::ReportResponse>, Status> {
        let (mut call, message) = Call::of(&self.ca, request);
        let heard = match judge(&mut call) {
            Ok(downstream) => self.hear(&downstream, message).await,
            Err(refusal) => Err(refusal),
        };
        heard
            .map(|()| Response::new(wire::ReportResponse {}))
            .map_err(|refusal| call.refuse(refusal))
    }
}

/// The roots as a downstream CA watches them.
struct WatchedRoots {
    call: Call,
    last: Option<(Sequence, RootId)>,
}

impl Watched for WatchedRoots {
    type Told = wire::UpstreamState;

    async fn judge(&mut self) -> Result<(), Refusal> {
        judge(&mut self.call).map(drop)
    }

    fn refuse(&self, refusal: Refusal) -> Status {
        self.call.refuse(refusal)
    }

    async fn look(&mut self, state: Arc<State>) -> Option<wire::UpstreamState> {
        let place = state.signing_root().map(|root| (state.sequence, root));
        let told = upstream_state(&state).filter(|_| place != self.last)?;
        self.last = place;
        Some(told)
    }
}

fn unknown_root(root: &RootId) -> Refusal {
    refused(format!("root {} is not known here: ask under the root that signs", root.short()))
}

fn refused(text: impl AsRef<str>) -> Refusal {
    Refusal::new(Reason::IssuerRefused, text)
}

pub(crate) fn invalid(text: impl AsRef<str>) -> Refusal {
    Refusal::new(Reason::RequestInvalid, text)
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;
    use trust::Timestamp;

    use super::*;

    #[test]
    fn a_refusal_for_an_issuer_that_outlives_what_is_above_is_told_apart_and_says_when_that_ends() {
        let (above, ends) = ("root \"Mesh\"".to_owned(), Timestamp::from_secs(1_800_000_000));
        let status = Status::from(never(&PluginError::Outlives { above, ends }));
        assert_eq!(status.code(), tonic::Code::FailedPrecondition);
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.reason, "ISSUER_OUTLIVES");
        let told = |name: &str| info.metadata.get(name).map(String::as_str);
        assert_eq!((told("ends"), told("above")), (Some("1800000000"), Some("root \"Mesh\"")));
        let denied = Status::from(never(&PluginError::Denied { reason: "no".to_owned() }));
        assert_eq!(denied.get_details_error_info().unwrap().reason, "ISSUER_REFUSED");
    }
}
