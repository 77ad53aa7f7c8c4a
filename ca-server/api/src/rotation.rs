//! `banyan.admin.v1.RotationService`: rotations, relying parties and the journal, for the callers of the admin API.

use std::sync::Arc;
use std::time::Duration;

use auth::refusal::{Reason, Refusal, echoed};
use futures::stream::BoxStream;
use plugins::Description;
use proto::banyan::admin::v1::rotation_service_server::RotationService;
use proto::banyan::admin::v1::{
    AddRelyingPartyRequest, AttestRootRequest, ConfirmRelyingPartyRequest, DecideRotationRequest,
    GetRotationRequest, JournalEntry, ListRelyingPartiesRequest, ListRelyingPartiesResponse,
    PruneRootsRequest, PruneRootsResponse, ReadJournalRequest, ReadJournalResponse, RelyingParty,
    RemoveRelyingPartyRequest, RemoveRelyingPartyResponse, Root as RootMessage, Rotation,
    RuleRootRequest, RuleRootResponse, StartRotationRequest, StartRotationResponse, Verb,
    WatchRotationRequest,
};
use rotation::{AuthorityName, Cause, Event, Mode, RequestId, State};
use rotation_driver::{EvidenceSource as _, StoreError, SubmitError, Word};
use tonic::{Request, Response, Status};
use trust::{Cohort, RootId};

use crate::admin::Operators;
use crate::call::Call;
use crate::cohorts;
use crate::page;
use crate::prune;
use crate::relying_parties;
use crate::ruling;
use crate::watcher::{self, Watched};
use crate::wire;
use crate::words::{self, invalid};
use control::ca::Ca;
use control::drift;
use control::explain;
use control::forecast::{self, Asked, Forecast};
use control::target;

/// How often a watcher is told of what changes without a change of the record.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Rotations {
    ca: Arc<Ca>,
    operators: Operators,
    defaults: Arc<Defaults>,
}

/// What a request for a rotation leaves open.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Who makes the new root.
    pub authority: String,
    /// Authorities that there are.
    pub authorities: Vec<String>,
    /// Who lets it sign.
    pub mode: Mode,
    /// For whom it signs first, if not for everybody at once.
    pub canary: Option<Cohort>,
}

impl Rotations {
    pub(crate) const fn new(ca: Arc<Ca>, operators: Operators, defaults: Arc<Defaults>) -> Self {
        Self { ca, operators, defaults }
    }

    /// The authority of this name, or the configured one.
    fn authority(&self, name: &str) -> Result<AuthorityName, Refusal> {
        let authority = match name {
            "" => self.defaults.authority.as_str(),
            name if self.defaults.authorities.iter().any(|known| known == name) => name,
            name => {
                let known = self.defaults.authorities.join(", ");
                let text = format!("there is no authority \"{}\"", echoed(name));
                let advice = format!("name one of these: {known}");
                return Err(Refusal::advised(Reason::RequestInvalid, text, &advice));
            }
        };
        AuthorityName::parse(authority).map_err(|error| invalid(error.to_string()))
    }

    fn event(&self, message: &StartRotationRequest) -> Result<Event, Refusal> {
        let authority = self.authority(&message.authority)?;
        let mode = match message.mode.as_str() {
            "" => self.defaults.mode,
            "auto" => Mode::Auto,
            "manual" => Mode::Manual,
            "standby" => Mode::Standby,
            other => {
                let other = echoed(other);
                return Err(invalid(format!("\"{other}\" is no mode: auto, manual or standby")));
            }
        };
        let stage_again = match message.stage_again.as_slice() {
            [] => None,
            bytes => Some(
                RootId::from_bytes(bytes)
                    .ok_or_else(|| invalid("`stage_again` is no SHA-256".to_owned()))?,
            ),
        };
        let request_id = request_id(&message.request_id)?;
        let cause = control::causes::Cause::of(&request_id);
        if cause != control::causes::Cause::Operator {
            return Err(invalid(format!(
                "request id {request_id} stands for a rotation that a server begins by itself (cause: {}): name another one",
                cause.name()
            )));
        }
        let canary = {
            let usual = self.defaults.canary.as_ref();
            let wanted = cohorts::Wanted { mode, authority: &authority, usual };
            cohorts::asked(&self.ca, &message.canary, wanted)?
        };
        Ok(Event::RotationRequested { request_id, authority, mode, stage_again, canary })
    }

    async fn start(
        &self,
        message: &StartRotationRequest,
        by: &str,
    ) -> Result<StartRotationResponse, Refusal> {
        let event = self.event(message)?;
        self.nothing_new_above(&event)?;
        if message.dry_run {
            let state = self.ca.driver.state();
            rotation::step(&state, &event, self.ca.clock.now(), &self.ca.policy)
                .map_err(|refusal| words::refused(&refusal))?;
            let obstacles = target::obstacles(&self.ca, &state, &event).await;
            let target = self.target(&event);
            let asked = Asked {
                target: target.as_ref(),
                mode: mode(&event),
                canary: cohorts::of(&event),
                blocked: !obstacles.is_empty(),
            };
            let Forecast { said, outlook } = forecast::of(&self.ca, &state, &asked);
            let rotation = Some(wire::rotation(explain::look(&self.ca).await));
            return Ok(StartRotationResponse {
                rotation,
                forecast: said,
                obstacles,
                meaning: self.meaning(&event),
                outlook: Some(wire::outlook(&outlook)),
            });
        }
        let (meaning, word) =
            (self.meaning(&event), words::word(&message.by, &message.reason, by)?);
        self.submit(event, word).await?;
        let rotation = Some(wire::rotation(explain::look(&self.ca).await));
        Ok(StartRotationResponse { rotation, meaning, ..StartRotationResponse::default() })
    }

    fn target(&self, event: &Event) -> Option<Description> {
        let Event::RotationRequested { authority, .. } = event else { return None };
        self.ca.authorities.get(authority.as_str()).map(|authority| authority.describe())
    }

    fn meaning(&self, event: &Event) -> String {
        match event {
            Event::RotationRequested { stage_again: Some(root), .. } => {
                drift::meaning(&self.ca.driver.state(), *root)
            }
            _ => String::new(),
        }
    }

    /// A rotation to a root of the upstream CA begins there.
    fn nothing_new_above(&self, event: &Event) -> Result<(), Refusal> {
        let (state, upstreams) = (self.ca.driver.state(), &self.ca.upstreams);
        let Event::RotationRequested { request_id, authority, .. } = event else { return Ok(()) };
        let Some(upstream) = upstreams.upstream(authority.as_str()) else { return Ok(()) };
        let known = state.done.contains(request_id) || state.phase.rotation().is_some();
        if known || !upstream.new_roots(&state).is_empty() {
            return Ok(());
        }
        let text =
            "the upstream CA has no new root: start the rotation there, and it is followed here";
        Err(Refusal::new(Reason::RotationRefused, text))
    }

    /// What follows the upstream CA is not decided here.
    fn not_followed(&self, verb: Verb) -> Result<(), Refusal> {
        let state = self.ca.driver.state();
        match self.ca.upstreams.followed(&state) {
            Some(authority) if matches!(verb, Verb::Activate | Verb::Abort | Verb::Rollback) => {
                let phase = state.phase.name();
                let text = format!(
                    "refused while {phase}: this rotation follows the upstream CA (authority {authority})"
                );
                Err(Refusal::advised(Reason::RotationRefused, text, "do it there"))
            }
            _ => Ok(()),
        }
    }

    async fn decide(&self, message: &DecideRotationRequest, by: &str) -> Result<Rotation, Refusal> {
        let request_id = request_id(&message.request_id)?;
        self.not_followed(message.verb())?;
        let event = match Verb::try_from(message.verb) {
            Ok(Verb::Activate) => {
                let evidence = self.ca.evidence.read(&self.ca.driver.state()).await;
                let evidence = evidence
                    .map_err(|error| Refusal::new(Reason::RecordUnavailable, error.to_string()))?;
                Event::ActivateRequested { request_id, evidence }
            }
            Ok(Verb::Widen) => {
                let cohort = cohorts::parsed(&message.cohort, self.ca.id.trust_domain())?;
                Event::CanaryWidened { request_id, cohort }
            }
            Ok(Verb::Hold) => Event::HoldRequested { request_id },
            Ok(Verb::Resume) => {
                self.accepts(message)?;
                Event::ResumeRequested { request_id }
            }
            Ok(Verb::Abort) => Event::AbortRequested { request_id },
            Ok(Verb::Rollback) => Event::RollbackRequested { request_id },
            Ok(Verb::Unspecified) | Err(_) => {
                return Err(invalid(
                    "name a verb: activate, widen, hold, resume, abort or rollback".to_owned(),
                ));
            }
        };
        self.submit(event, words::word(&message.by, &message.reason, by)?).await?;
        Ok(wire::rotation(explain::look(&self.ca).await))
    }

    /// Who goes on despite what holds a canary says so by name.
    fn accepts(&self, message: &DecideRotationRequest) -> Result<(), Refusal> {
        let state = self.ca.driver.state();
        let trouble = state.phase.canary().and_then(|canary| canary.trouble);
        let named = !message.by.is_empty() && !message.reason.is_empty();
        let Some(trouble) = trouble.filter(|_| !named) else { return Ok(()) };
        let text = format!("the canary is held since {}", trouble.in_words());
        let advice = "mend it and say who goes on, and why: `banyan rotate resume --by NAME --reason TEXT`; or take it back with \
                      `banyan rotate rollback`";
        Err(Refusal::advised(Reason::RotationRefused, text, advice))
    }

    async fn submit(&self, event: Event, word: Word) -> Result<Arc<State>, Refusal> {
        let submitted = self.ca.driver.submit_as(event, word).await;
        match submitted {
            Ok(state) => Ok(state),
            Err(SubmitError::Refused(refusal)) => {
                let names = match refusal.cause {
                    Cause::GateClosed { .. } => explain::named_holders(&self.ca).await,
                    _ => String::new(),
                };
                Err(words::refused_by(&refusal, &names))
            }
            Err(error) => Err(words::not_submitted(&error)),
        }
    }

    async fn journal(&self, message: &ReadJournalRequest) -> Result<ReadJournalResponse, Refusal> {
        let limit = page::limit(message.limit);
        // The record first: entries that come meanwhile belong to the next reading.
        let state = self.ca.driver.state();
        let read = self.ca.driver.journal(message.from, limit.saturating_add(1)).await;
        let mut entries = read.map_err(|error: StoreError| {
            Refusal::new(Reason::RecordUnavailable, error.to_string())
        })?;
        let fits = page::fitting(entries.iter().map(|(_, entry)| entry.len())).min(limit);
        let more = entries.len() > fits;
        entries.truncate(fits);
        let record = match more {
            true => Vec::new(),
            false => serde_json::to_vec(state.as_ref())
                .map_err(|error| Refusal::new(Reason::InternalDefect, error.to_string()))?,
        };
        let entries =
            entries.into_iter().map(|(index, entry)| JournalEntry { index, entry }).collect();
        Ok(ReadJournalResponse { entries, more, record })
    }

    /// Judges the caller, then does what it asks for, in its name.
    async fn answer<M, A>(
        &self,
        request: Request<M>,
        work: impl AsyncFnOnce(&Self, M, &str) -> Result<A, Refusal>,
    ) -> Result<Response<A>, Status> {
        let (mut call, message) = Call::met(&self.ca, request).await;
        let caller = self.operators.allow(&mut call).map_err(|refusal| call.refuse(refusal))?;
        let answered = work(self, message, &caller).await;
        answered.map(Response::new).map_err(|refusal| call.refuse(refusal))
    }
}

#[tonic::async_trait]
impl RotationService for Rotations {
    async fn start_rotation(
        &self,
        request: Request<StartRotationRequest>,
    ) -> Result<Response<StartRotationResponse>, Status> {
        self.answer(request, async |this, message, by| this.start(&message, by).await).await
    }

    async fn decide_rotation(
        &self,
        request: Request<DecideRotationRequest>,
    ) -> Result<Response<Rotation>, Status> {
        self.answer(request, async |this, message, by| this.decide(&message, by).await).await
    }

    async fn get_rotation(
        &self,
        request: Request<GetRotationRequest>,
    ) -> Result<Response<Rotation>, Status> {
        self.answer(request, async |this, _, _| Ok(wire::rotation(explain::look(&this.ca).await)))
            .await
    }

    type WatchRotationStream = BoxStream<'static, Result<Rotation, Status>>;

    async fn watch_rotation(
        &self,
        request: Request<WatchRotationRequest>,
    ) -> Result<Response<Self::WatchRotationStream>, Status> {
        let (mut call, _) = Call::met(&self.ca, request).await;
        self.operators.allow(&mut call).map_err(|refusal| call.refuse(refusal))?;
        let ending = call.peer.as_ref().map(|peer| peer.ending.clone()).unwrap_or_default();
        let watched = WatchedRotation { call, operators: self.operators.clone(), last: None };
        Ok(Response::new(watcher::watch(watched, self.ca.driver.changes(), ending, WATCH_EVERY)))
    }

    async fn list_relying_parties(
        &self,
        request: Request<ListRelyingPartiesRequest>,
    ) -> Result<Response<ListRelyingPartiesResponse>, Status> {
        self.answer(request, async |this, message, _| {
            let rows = this
                .ca
                .registry
                .relying_parties()
                .into_iter()
                .filter(|(name, _)| *name > message.after);
            let rows = rows.map(relying_parties::shown).collect();
            let (relying_parties, next) =
                page::cut_messages(rows, message.limit, |last: &RelyingParty| last.name.clone());
            Ok(ListRelyingPartiesResponse { relying_parties, next: next.unwrap_or_default() })
        })
        .await
    }

    async fn add_relying_party(
        &self,
        request: Request<AddRelyingPartyRequest>,
    ) -> Result<Response<RelyingParty>, Status> {
        self.answer(request, async |this, message, by| {
            relying_parties::add(&this.ca, message, by).await
        })
        .await
    }

    async fn confirm_relying_party(
        &self,
        request: Request<ConfirmRelyingPartyRequest>,
    ) -> Result<Response<RelyingParty>, Status> {
        self.answer(request, async |this, message, by| {
            relying_parties::confirm(&this.ca, message, by).await
        })
        .await
    }

    async fn remove_relying_party(
        &self,
        request: Request<RemoveRelyingPartyRequest>,
    ) -> Result<Response<RemoveRelyingPartyResponse>, Status> {
        self.answer(request, async |this, message, by| {
            relying_parties::remove(&this.ca, message, by)
                .await
                .map(|()| RemoveRelyingPartyResponse {})
        })
        .await
    }

    async fn attest_root(
        &self,
        request: Request<AttestRootRequest>,
    ) -> Result<Response<RootMessage>, Status> {
        self.answer(request, async |this, message, by| {
            relying_parties::attest(&this.ca, message, by).await
        })
        .await
    }

    async fn prune_roots(
        &self,
        request: Request<PruneRootsRequest>,
    ) -> Result<Response<PruneRootsResponse>, Status> {
        self.answer(request, async |this, message, by| prune::prune(&this.ca, message, by).await)
            .await
    }

    async fn rule_root(
        &self,
        request: Request<RuleRootRequest>,
    ) -> Result<Response<RuleRootResponse>, Status> {
        self.answer(request, async |this, message, by| {
            let authority = this.authority(&message.authority)?;
            ruling::rule(&this.ca, message, authority, by).await
        })
        .await
    }

    async fn read_journal(
        &self,
        request: Request<ReadJournalRequest>,
    ) -> Result<Response<ReadJournalResponse>, Status> {
        self.answer(request, async |this, message, _| this.journal(&message).await).await
    }
}

/// A watched rotation.
struct WatchedRotation {
    call: Call,
    operators: Operators,
    last: Option<Rotation>,
}

impl Watched for WatchedRotation {
    type Told = Rotation;

    async fn judge(&mut self) -> Result<(), Refusal> {
        self.call.meet().await;
        self.operators.allow(&mut self.call).map(drop)
    }

    fn refuse(&self, refusal: Refusal) -> Status {
        self.call.refuse(refusal)
    }

    async fn look(&mut self, _: Arc<State>) -> Option<Rotation> {
        let rotation = wire::rotation(explain::look(&self.call.ca).await);
        let news = self.last.as_ref() != Some(&rotation);
        news.then(|| self.last.insert(rotation).clone())
    }
}

fn request_id(text: &str) -> Result<RequestId, Refusal> {
    RequestId::parse(text).map_err(|error| invalid(format!("the request id: {error}")))
}

/// Who lets the new root sign, of what was asked for.
const fn mode(event: &Event) -> Mode {
    match event {
        Event::RotationRequested { mode, .. } => *mode,
        _ => Mode::Auto,
    }
}
