//! Which function takes which event.

use trust::{Sequence, Timestamp};

use super::draft::{Decision, Draft};
use super::root::Prepared;
use super::{
    bootstrap, distrust, further, horizon, issuer, passage, prune, recovery, replica, segment,
    sighting, staging, standby, verbs,
};
use crate::{Cause, Effect, Event, Phase, Policy, RequestId, State};

/// What `event` comes to in `state`. Where it ends what was under way, a distrusted root that is left is taken up.
pub(super) fn decide(state: &State, event: &Event, now: Timestamp, policy: &Policy) -> Decision {
    let mut decision = taken(state, event, now, policy);
    if let Ok(Some(draft)) = &mut decision
        && !state.phase.is_steady()
    {
        distrust::at_rest(draft, now);
    }
    decision
}

fn taken(state: &State, event: &Event, now: Timestamp, policy: &Policy) -> Decision {
    match event {
        Event::BootstrapRequested { request_id, authority } => {
            bootstrap::requested(state, request_id, authority, now)
        }
        Event::RootPrepared { request_id, root, replica } => {
            root_prepared(state, request_id, Prepared { root, replica: replica.as_ref() }, now)
        }
        Event::IssuerRenewalRequested { request_id, root, replica, replaces } => {
            let (root, replica, replaces) = (*root, replica.as_ref(), *replaces);
            let asked = issuer::Renewal { request_id, root, replica, replaces };
            issuer::renewal_requested(state, &asked, now)
        }
        Event::IssuerRenewalCancelled { request_id, root, replica } => {
            issuer::renewal_cancelled(state, request_id, *root, replica.as_ref(), now)
        }
        Event::IssuerSigned { request_id, issuer } => {
            issuer::signed(state, request_id, issuer, now)
        }
        Event::BundlePublished { sequence } => bundle_published(state, *sequence, now),
        Event::SignerSwitched { root, issuer } => issuer::switched(state, *root, *issuer),
        Event::SegmentOpened { replica, segment, read } => {
            segment::opened(state, &segment::Opened { replica, segment, read }, now, policy)
        }
        Event::SegmentSealed { segment, generation } => {
            segment::sealed(state, segment, *generation)
        }
        Event::SegmentClosed { segment, contents } => segment::closed(state, segment, *contents),
        Event::HorizonRequested { root, segment, until } => horizon::requested(
            state,
            &horizon::Request { root, segment, until: *until },
            now,
            policy,
        ),
        Event::ProbesRequested { root, until } => {
            horizon::probes_requested(state, *root, *until, now, policy)
        }
        Event::RotationRequested { request_id, authority, mode, stage_again, canary } => {
            let (mode, stage_again, canary) = (*mode, *stage_again, canary.as_ref());
            staging::requested(
                state,
                &staging::Request { request_id, authority, mode, stage_again, canary },
                now,
            )
        }
        Event::EvidenceReported { evidence } => {
            passage::evidence_reported(state, evidence, now, policy)
        }
        Event::ActivateRequested { request_id, evidence } => {
            verbs::activate(state, request_id, evidence, now, policy)
        }
        Event::CanaryWidened { request_id, cohort } => verbs::widened(state, request_id, cohort),
        Event::HoldRequested { request_id } => verbs::hold(state, request_id, now),
        Event::ResumeRequested { request_id } => verbs::resume(state, request_id, now),
        Event::AbortRequested { request_id } => verbs::abort(state, request_id, now),
        Event::RollbackRequested { request_id } => verbs::rollback(state, request_id, now, policy),
        Event::ClockAccepted { .. } | Event::OperatorActed { .. } => Ok(None),
        Event::BundleSighted { agent, sequence, digest } => sighting::seen(
            state,
            &sighting::Word { agent, sequence: *sequence, digest: *digest },
            now,
        ),
        Event::ContinueRequested { request_id, above, waits, .. } => {
            let request = sighting::GoOn { request_id, above: *above, waits: *waits };
            sighting::go_on(state, &request, now, policy)
        }
        Event::RecoveryRequested { request_id, live, .. } => {
            recovery::requested(state, &recovery::Request { request_id, live }, now, policy)
        }
        Event::SightingDismissed { request_id, agent, .. } => {
            sighting::dismissed(state, request_id, agent, now)
        }
        Event::SightingHeeded { request_id, agent } => sighting::heeded(state, request_id, agent),
        Event::FurtherRootsAdded { authority, roots, named } => {
            further::added(state, &further::Told { authority, roots, named }, now)
        }
        Event::FurtherRootsRemoved { authority, roots } => {
            further::removed(state, authority, roots)
        }
        Event::PruneRequested { request_id, roots } => {
            prune::requested(state, request_id, roots, now, policy)
        }
        Event::ReplicaRemoved { request_id, replica } => {
            replica::removed(state, request_id, replica)
        }
        Event::StandbyPromoted { request_id, root, mode } => {
            standby::promoted(state, request_id, *root, *mode, now)
        }
        Event::StandbyDropped { request_id, root } => {
            standby::dropped(state, request_id, *root, now, policy)
        }
        Event::RootDistrusted { request_id, root, authority, by, reason } => {
            let told = distrust::Told { request_id, root: *root, authority, by, reason };
            distrust::distrusted(state, &told, now, policy)
        }
        Event::RootTrustedAgain { request_id, root, .. } => {
            distrust::trusted_again(state, request_id, *root)
        }
        Event::DistrustedRootCut { request_id, root, by, reason } => {
            let word = distrust::Word { request_id, root: *root, by, reason };
            distrust::cut(state, &word, now)
        }
        Event::DriverStarted => passage::driver_started(state),
    }
}

/// A bundle that is out ends the wait for itself and for every former one.
fn bundle_published(state: &State, sequence: Sequence, now: Timestamp) -> Decision {
    if sequence > state.sequence {
        return Err(Cause::UnknownBundle { sequence, latest: state.sequence });
    }
    let settled = |effect: &Effect| matches!(effect, Effect::PublishBundle { sequence: owed } if *owed <= sequence);
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
fn root_prepared(
    state: &State,
    request_id: &RequestId,
    prepared: Prepared<'_>,
    now: Timestamp,
) -> Decision {
    match &state.phase {
        Phase::Bootstrapping(bootstrap) if bootstrap.request_id == *request_id => {
            bootstrap::root_prepared(state, bootstrap, prepared, now)
        }
        Phase::Staging(staging) if staging.rotation.request_id == *request_id => {
            staging::root_prepared(state, staging, prepared, now)
        }
        phase => {
            let under_way =
                phase.rotation().is_some_and(|rotation| rotation.request_id == *request_id);
            let was_asked = under_way || state.done.contains(request_id);
            if was_asked && state.roots.contains_key(&prepared.root.id) {
                return Ok(None);
            }
            Err(Cause::NotAsked { request_id: request_id.clone() })
        }
    }
}
