//! The one function that moves the machine.

mod advice;
mod bootstrap;
mod further;
mod horizon;
mod issuer;
mod passage;
mod segment;
mod sighting;
mod staging;
mod verbs;

use std::collections::BTreeMap;

use trust::{RootId, Sequence, Timestamp};

use crate::{
    AuthorityName, Cause, Effect, Event, PendingEffect, Phase, Policy, PreparedRoot, Refusal, RequestId,
    RootEntry, RootState, State,
};

pub use advice::legal;

/// What an event leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transition {
    /// The state after it: one generation later, or the same state when the event changed nothing.
    pub next: State,
    /// What this event decided to do; all of it is in `next.pending` too.
    pub effects: Vec<Effect>,
}

impl Transition {
    /// Whether there is something to store. An event that was done before changes nothing.
    pub fn changes(&self, former: &State) -> bool {
        self.next.generation != former.generation
    }
}

/// Takes `event` in `state` at the time `now`.
///
/// The same event again, in a state that has it done already, changes nothing and is no refusal.
///
/// # Errors
/// A [`Refusal`] that says why the event is not legal here and what would make it so. Nothing changes then.
pub fn step(
    state: &State,
    event: &Event,
    now: Timestamp,
    policy: &Policy,
) -> Result<Transition, Box<Refusal>> {
    match decide(state, event, now, policy) {
        Ok(Some(draft)) => Ok(Transition { next: draft.state, effects: draft.effects }),
        Ok(None) => Ok(Transition { next: state.clone(), effects: Vec::new() }),
        Err(cause) => {
            let advice = advice::Place { state, now, policy }.advice(event, &cause);
            Err(Box::new(Refusal::new(state, event, cause, advice)))
        }
    }
}

fn decide(state: &State, event: &Event, now: Timestamp, policy: &Policy) -> Decision {
    match event {
        Event::BootstrapRequested { request_id, authority } => {
            bootstrap::requested(state, request_id, authority, now)
        }
        Event::RootPrepared { request_id, root } => root_prepared(state, request_id, root, now),
        Event::IssuerRenewalRequested { request_id, root, replaces } => {
            issuer::renewal_requested(state, (request_id, *replaces), *root, now)
        }
        Event::IssuerRenewalCancelled { request_id, root } => {
            issuer::renewal_cancelled(state, request_id, *root, now)
        }
        Event::IssuerSigned { request_id, issuer } => issuer::signed(state, request_id, issuer, now),
        Event::BundlePublished { sequence } => bundle_published(state, *sequence, now),
        Event::SignerSwitched { root, issuer } => issuer::switched(state, *root, *issuer),
        Event::SegmentOpened { replica, segment, read } => {
            segment::opened(state, &segment::Opened { replica, segment, read }, now, policy)
        }
        Event::SegmentSealed { segment, generation } => segment::sealed(state, segment, *generation),
        Event::SegmentClosed { segment, contents } => segment::closed(state, segment, *contents),
        Event::HorizonRequested { root, segment, until } => {
            horizon::requested(state, &horizon::Request { root, segment, until: *until }, now, policy)
        }
        Event::RotationRequested { request_id, authority, mode, stage_again } => {
            let (mode, stage_again) = (*mode, *stage_again);
            staging::requested(state, &staging::Request { request_id, authority, mode, stage_again }, now)
        }
        Event::EvidenceReported { evidence } => passage::evidence_reported(state, evidence, now, policy),
        Event::ActivateRequested { request_id, evidence } => {
            verbs::activate(state, (request_id, evidence), now, policy)
        }
        Event::HoldRequested { request_id } => verbs::hold(state, request_id, now),
        Event::ResumeRequested { request_id } => verbs::resume(state, request_id, now),
        Event::AbortRequested { request_id } => verbs::abort(state, request_id, now),
        Event::RollbackRequested { request_id } => verbs::rollback(state, request_id, now, policy),
        Event::ClockAccepted { .. } | Event::OperatorActed { .. } => Ok(None),
        Event::BundleSighted { agent, sequence, digest } => {
            sighting::seen(state, &sighting::Word { agent, sequence: *sequence, digest: *digest }, now)
        }
        Event::ContinueRequested { request_id, above, waits, .. } => {
            let request = sighting::GoOn { request_id, above: *above, waits: *waits };
            sighting::go_on(state, &request, now, policy)
        }
        Event::SightingDismissed { request_id, agent, .. } => {
            sighting::dismissed(state, (request_id, agent), now)
        }
        Event::SightingHeeded { request_id, agent } => sighting::heeded(state, (request_id, agent)),
        Event::FurtherRootsAdded { authority, roots, named } => {
            further::added(state, &further::Told { authority, roots, named }, now)
        }
        Event::FurtherRootsRemoved { authority, roots } => further::removed(state, authority, roots),
        Event::DriverStarted => passage::driver_started(state),
    }
}

/// What an event comes to: a draft of the next state, nothing to change, or a reason to refuse.
type Decision = Result<Option<Draft>, Cause>;

/// A next state in the making.
struct Draft {
    state: State,
    effects: Vec<Effect>,
}

impl Draft {
    fn after(former: &State) -> Self {
        let mut state = former.clone();
        state.generation = former.generation.next();
        Self { state, effects: Vec::new() }
    }

    /// Decides an effect: it stays owed until [`Self::settle`] finds its result.
    fn owe(&mut self, effect: Effect) {
        self.state.pending.push(PendingEffect { generation: self.state.generation, effect: effect.clone() });
        self.effects.push(effect);
    }

    /// Strikes out the pending effects that are done or overtaken.
    fn settle(&mut self, is_done: impl Fn(&Effect) -> bool) {
        self.state.pending.retain(|pending| !is_done(&pending.effect));
    }
}

/// A bundle that is out ends the wait for itself and for every former one.
fn bundle_published(state: &State, sequence: Sequence, now: Timestamp) -> Decision {
    if sequence > state.sequence {
        return Err(Cause::UnknownBundle { sequence, latest: state.sequence });
    }
    let settled =
        |effect: &Effect| matches!(effect, Effect::PublishBundle { sequence: owed } if *owed <= sequence);
    if !state.pending.iter().any(|pending| settled(&pending.effect)) {
        return Ok(None);
    }
    let mut draft = Draft::after(state);
    draft.settle(settled);
    bootstrap::bundle_is_out(&mut draft, now);
    staging::go_on(&mut draft, now);
    Ok(Some(draft))
}

/// A root for whoever asked for one: the bootstrap or the rotation.
fn root_prepared(state: &State, request_id: &RequestId, root: &PreparedRoot, now: Timestamp) -> Decision {
    match &state.phase {
        Phase::Bootstrapping(bootstrap) if bootstrap.request_id == *request_id => {
            bootstrap::root_prepared(state, bootstrap, root, now)
        }
        Phase::Staging(staging) if staging.rotation.request_id == *request_id => {
            staging::root_prepared(state, staging, root, now)
        }
        phase => {
            let under_way = phase.rotation().is_some_and(|rotation| rotation.request_id == *request_id);
            let was_asked = under_way || state.done.contains(request_id);
            if was_asked && state.roots.contains_key(&root.id) {
                return Ok(None);
            }
            Err(Cause::NotAsked { request_id: request_id.clone() })
        }
    }
}

/// The authority may say the same again, and nothing else.
fn answered_before(request_id: &RequestId, former: RootId, root: &PreparedRoot) -> Decision {
    if former == root.id {
        return Ok(None);
    }
    Err(Cause::AnsweredOtherwise { request_id: request_id.clone(), former: former.to_string() })
}

/// Takes a new root into the record, untrusted, and has its first issuer signed.
fn stage(
    draft: &mut Draft,
    (request_id, authority): (&RequestId, &AuthorityName),
    root: &PreparedRoot,
    now: Timestamp,
) -> Result<(), Cause> {
    if root.not_after <= now {
        return Err(Cause::Expired { not_after: root.not_after });
    }
    let named = draft.state.phase.rotation().and_then(|rotation| rotation.stage_again) == Some(root.id);
    let former = draft.state.roots.get(&root.id);
    if former.is_some_and(|former| !former.may_return(named)) {
        return Err(Cause::RootKnown { root: root.id });
    }
    let entry = staged(root, authority.clone(), former);
    draft.state.roots.insert(root.id, entry);
    draft.settle(|effect| matches!(effect, Effect::StageRoot { request_id: owed, .. } if owed == request_id));
    let (request_id, authority) = (request_id.clone(), authority.clone());
    draft.owe(Effect::RequestIssuer { request_id, authority, root: root.id });
    Ok(())
}

/// A root that comes back keeps its horizon, which never goes back; it gets an issuer of its own as any other.
fn staged(root: &PreparedRoot, authority: AuthorityName, former: Option<&RootEntry>) -> RootEntry {
    let horizon = former.and_then(|former| former.horizon);
    RootEntry {
        state: RootState::Staged,
        tainted: false,
        authority,
        exclusive: root.exclusive,
        der: root.der.clone(),
        not_after: root.not_after,
        horizon,
        staged_horizon: horizon,
        issuers: BTreeMap::new(),
        active_issuer: None,
        renewal: None,
        renewal_cancelled_at: None,
    }
}
