//! `banyan.admin.v1.StateService`: a record that is older than the mesh, and the way on, for the callers of the admin API.

use std::sync::Arc;

use auth::authz::AGENT_NAME_LEN_MAX;
use auth::refusal::{Reason, Refusal};
use futures::stream::BoxStream;
use proto::banyan::admin::v1::state_service_server::StateService;
use proto::banyan::admin::v1::{
    BackupPart, BackupStateRequest, ContinueStateRequest, DismissAgentWordRequest,
    HeedAgentWordRequest, RecordState, RecoverStateRequest, ShowStateRequest, Sighting,
};
use rotation::{Event, RequestId, State};
use rotation_driver::Word;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};
use trust::{Sequence, Timestamp};

use crate::admin::Operators;
use crate::backup;
use crate::call::Call;
use crate::words::{full_word, not_submitted, word};
use control::ca::Ca;
use control::seen;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct States {
    ca: Arc<Ca>,
    operators: Operators,
    /// One backup at a time: each has the state in memory.
    backing_up: Arc<Semaphore>,
}

impl States {
    pub(crate) fn new(ca: Arc<Ca>, operators: Operators) -> Self {
        Self { ca, operators, backing_up: Arc::new(Semaphore::new(1)) }
    }

    async fn go_on(
        &self,
        message: ContinueStateRequest,
        caller: &str,
    ) -> Result<RecordState, Refusal> {
        let word = full_word(&message.by, &message.reason, caller)?;
        let above = Sequence(message.above);
        let (request_id, waits) = (request_id(&message.request_id)?, !message.now);
        let reason = message.reason;
        self.submit(Event::ContinueRequested { request_id, above, reason, waits }, word).await
    }

    async fn dismiss(
        &self,
        message: DismissAgentWordRequest,
        caller: &str,
    ) -> Result<RecordState, Refusal> {
        let word = full_word(&message.by, &message.reason, caller)?;
        let (request_id, agent) = (request_id(&message.request_id)?, agent(message.agent)?);
        let reason = message.reason;
        self.submit(Event::SightingDismissed { request_id, agent, reason }, word).await
    }

    async fn heed(
        &self,
        message: HeedAgentWordRequest,
        caller: &str,
    ) -> Result<RecordState, Refusal> {
        let (request_id, agent) = (request_id(&message.request_id)?, agent(message.agent)?);
        let word = word(&message.by, &message.reason, caller)?;
        self.submit(Event::SightingHeeded { request_id, agent }, word).await
    }

    /// What was released after the backup counts as full; servers that run keep their segments.
    async fn recover(
        &self,
        message: RecoverStateRequest,
        caller: &str,
    ) -> Result<RecordState, Refusal> {
        let word = full_word(&message.by, &message.reason, caller)?;
        let (request_id, reason) = (request_id(&message.request_id)?, message.reason);
        let live = self.ca.live_segments();
        self.submit(Event::RecoveryRequested { request_id, reason, live }, word).await
    }

    async fn submit(&self, event: Event, word: Word) -> Result<RecordState, Refusal> {
        match self.ca.driver.submit_as(event, word).await {
            Ok(state) => Ok(self.shown(&state)),
            Err(error) => Err(not_submitted(&error)),
        }
    }

    fn shown(&self, state: &State) -> RecordState {
        let sighting = |(agent, seen): (&String, &rotation::Sighting)| Sighting {
            agent: agent.clone(),
            sequence: seen.sequence.0,
            digest: seen.digest.map(|digest| digest.as_bytes().to_vec()).unwrap_or_default(),
            since: seen.since.as_secs(),
            connected: self.ca.sessions.find(agent).is_some_and(|session| session.streams > 0),
        };
        let digest = seen::latest_digest(state);
        RecordState {
            sequence: state.sequence.0,
            bundle_digest: digest.map(|digest| digest.as_bytes().to_vec()).unwrap_or_default(),
            sightings: state.seen.open.iter().map(sighting).collect(),
            dismissed: state.seen.dismissed.iter().cloned().collect(),
            explained: state.seen.explained.0,
            roots: state.bundle().keys().map(|root| root.as_bytes().to_vec()).collect(),
            lost_until: self.lost_until(state).as_secs(),
            unknown_until: state
                .lost_rows_until(self.ca.clock.now(), &self.ca.policy)
                .map_or(0, Timestamp::as_secs),
        }
    }

    /// When every leaf that was issued after the backup has ended; once the record has gone on, when gates count it so.
    fn lost_until(&self, state: &State) -> Timestamp {
        let (policy, now) = (&self.ca.policy, self.ca.clock.now());
        let counted = || now.plus(policy.leaf_lifetime_max).plus(policy.skew * 2);
        let heard = state.seen.lost_leaves_until(policy);
        heard.or_else(|| state.lost_rows_until(now, policy)).unwrap_or_else(counted)
    }
}

#[tonic::async_trait]
impl StateService for States {
    async fn show_state(
        &self,
        request: Request<ShowStateRequest>,
    ) -> Result<Response<RecordState>, Status> {
        self.operators
            .answer(&self.ca, request, async |_, _| Ok(self.shown(&self.ca.driver.state())))
            .await
    }

    async fn continue_state(
        &self,
        request: Request<ContinueStateRequest>,
    ) -> Result<Response<RecordState>, Status> {
        self.operators
            .answer(&self.ca, request, async |message, by| self.go_on(message, by).await)
            .await
    }

    async fn dismiss_agent_word(
        &self,
        request: Request<DismissAgentWordRequest>,
    ) -> Result<Response<RecordState>, Status> {
        self.operators
            .answer(&self.ca, request, async |message, by| self.dismiss(message, by).await)
            .await
    }

    async fn heed_agent_word(
        &self,
        request: Request<HeedAgentWordRequest>,
    ) -> Result<Response<RecordState>, Status> {
        self.operators
            .answer(&self.ca, request, async |message, by| self.heed(message, by).await)
            .await
    }

    async fn recover_state(
        &self,
        request: Request<RecoverStateRequest>,
    ) -> Result<Response<RecordState>, Status> {
        self.operators
            .answer(&self.ca, request, async |message, by| self.recover(message, by).await)
            .await
    }

    type BackupStateStream = BoxStream<'static, Result<BackupPart, Status>>;

    async fn backup_state(
        &self,
        request: Request<BackupStateRequest>,
    ) -> Result<Response<Self::BackupStateStream>, Status> {
        let (mut call, message) = Call::of(&self.ca, request);
        self.operators.allow(&mut call).map_err(|refusal| call.refuse(refusal))?;
        // Sealed keys and the books of authorities do not leave this machine by the network.
        if call.peer.as_ref().and_then(|peer| peer.uid).is_none() {
            let text = "a backup is given at the admin socket alone: run `banyan state backup` on the server's machine";
            return Err(call.refuse(Refusal::new(Reason::CallerNotAllowed, text)));
        }
        let one = Arc::clone(&self.backing_up).try_acquire_owned();
        let one = one.map_err(|_| {
            let text = "another backup is being made: wait until it is there";
            call.refuse(Refusal::new(Reason::Overloaded, text))
        })?;
        Ok(Response::new(backup::parts(call, !message.without_keys, one)))
    }
}

fn request_id(text: &str) -> Result<RequestId, Refusal> {
    RequestId::parse(text).map_err(|error| invalid(format!("the request id: {error}")))
}

fn agent(name: String) -> Result<String, Refusal> {
    match name.is_empty() || name.len() > AGENT_NAME_LEN_MAX {
        true => Err(invalid(format!("an agent's name has 1 to {AGENT_NAME_LEN_MAX} bytes"))),
        false => Ok(name),
    }
}

fn invalid(text: String) -> Refusal {
    Refusal::new(Reason::RequestInvalid, text)
}
