//! Which advice goes with a refusal. Nothing is advised that the machine would refuse: each verb is tried first.

use trust::{RootId, Sequence, Timestamp};

use super::decide::decide;
use crate::advice::{Advice, Saying, Verb, Wait};
use crate::{
    AuthorityName, Cause, Event, Evidence, Mode, Phase, Policy, RequestId, Rotation, State,
};

/// Where something was refused.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) state: &'a State,
    pub(super) now: Timestamp,
    pub(super) policy: &'a Policy,
}

/// The verbs of a rotation that would change something now. Without evidence an activation that waits for a gate is not
/// among them.
pub fn legal(
    state: &State,
    evidence: Option<&Evidence>,
    now: Timestamp,
    policy: &Policy,
) -> Vec<Verb> {
    let place = Place { state, now, policy };
    let all = [
        Verb::Start,
        Verb::Activate,
        Verb::Widen,
        Verb::Hold,
        Verb::Resume,
        Verb::Abort,
        Verb::Rollback,
    ];
    all.into_iter().filter(|verb| place.takes(verb, evidence)).collect()
}

impl Place<'_> {
    /// What can be done in the place of `event`.
    pub(super) fn advice(&self, event: &Event, cause: &Cause) -> Advice {
        let with = |wait: Option<Wait>, verbs: Vec<Verb>| Advice { wait, verbs: self.taken(verbs) };
        match cause {
            Cause::AlreadyBootstrapped => with(None, vec![Verb::Start]),
            Cause::BootstrapUnderWay { .. } | Cause::NotBootstrapped => {
                with(Some(Wait::Bootstrap), Vec::new())
            }
            Cause::NoRotation => match self.state.signing_root() {
                Some(_) => with(None, self.and_unblocked(vec![Verb::Start])),
                None => with(Some(Wait::Bootstrap), Vec::new()),
            },
            Cause::RotationUnderWay { .. } => {
                with(self.wait(), self.and_unblocked(vec![Verb::Abort, Verb::Rollback]))
            }
            Cause::Held { .. } => with(None, vec![self.resuming()]),
            Cause::FormerRootLeft => with(self.wait(), self.unblocking()),
            Cause::TooLateToAbort | Cause::MayHaveSigned => {
                with(self.wait(), self.and_unblocked(vec![Verb::Rollback]))
            }
            Cause::NothingToRollBack => with(self.wait(), self.and_unblocked(vec![Verb::Abort])),
            Cause::RolledBackBefore => with(self.wait(), self.and_unblocked(vec![Verb::Activate])),
            Cause::NothingToActivate | Cause::LifeTooShort { .. } | Cause::NoCanary { .. } => {
                with(self.wait(), self.and_unblocked(Vec::new()))
            }
            Cause::GateClosed { opens_at_latest, .. } => {
                let wait = opens_at_latest.map(|at| Wait::TrustGate { at_latest: Some(at) });
                with(wait, vec![Verb::Abort])
            }
            Cause::BundleUnknown { .. } | Cause::NotAbove { .. } => with(None, self.unblocking()),
            Cause::LostLeavesMayLive { above, .. } => {
                with(None, vec![Verb::Continue { above: *above, now: true }])
            }
            Cause::TooManyDismissed => {
                let first = self.state.seen.dismissed.first().cloned();
                with(None, first.map(|agent| Verb::Heed { agent }).into_iter().collect())
            }
            Cause::RootKnown { .. } => with(None, vec![Verb::Abort]),
            Cause::Distrusted { root } => {
                with(self.wait(), self.and_unblocked(vec![Verb::TrustAgain { root: *root }]))
            }
            Cause::NotReplaced { .. } => with(None, self.unblocking()),
            Cause::RenewalUnderWay { .. } => {
                with(Some(Wait::Renewal), self.of_renewal(event).map_or_else(Vec::new, Vec::from))
            }
            // Here the event itself must be made otherwise, or only a defect leads to it.
            Cause::RequestIdReused { .. }
            | Cause::NotAsked { .. }
            | Cause::AnsweredOtherwise { .. }
            | Cause::OtherRoot { .. }
            | Cause::Expired { .. }
            | Cause::OutlivesRoot { .. }
            | Cause::NoChain
            | Cause::NoRenewal { .. }
            | Cause::RootMayNotSign { .. }
            | Cause::UnknownRoot { .. }
            | Cause::UnknownBundle { .. }
            | Cause::UnknownIssuer { .. }
            | Cause::UnknownSegment { .. }
            | Cause::SegmentTaken { .. }
            | Cause::SegmentClosed { .. }
            | Cause::GenerationAhead { .. }
            | Cause::HorizonTooFar { .. }
            | Cause::EvidenceAhead { .. }
            | Cause::EvidenceStale { .. }
            | Cause::NotDismissed { .. }
            | Cause::WithdrawnBefore { .. }
            | Cause::NeverSigned { .. }
            | Cause::BundleChanges { .. }
            | Cause::TooManyFurther
            | Cause::NotRetired { .. }
            | Cause::StillCounts { .. }
            | Cause::NeverForgotten { .. }
            | Cause::UnknownReplica { .. }
            | Cause::NotStandby { .. }
            | Cause::StandbyMayHaveSigned { .. }
            | Cause::NotDistrusted { .. }
            | Cause::CohortNarrower { .. }
            | Cause::NamedByOthers { .. }
            | Cause::LastSigner { .. } => Advice::default(),
        }
    }

    /// What the rotation comes to by itself; nothing while somebody must say a word first.
    fn wait(&self) -> Option<Wait> {
        let rotation = self.state.phase.rotation()?;
        if self.is_blocked(rotation) {
            return None;
        }
        let before_switch = match &self.state.phase {
            Phase::Staging(_) | Phase::Distributing(_) | Phase::Canary(_) => true,
            Phase::Draining(_) | Phase::Withdrawing(_) => false,
            Phase::Uninitialised | Phase::Bootstrapping(_) | Phase::Steady(_) => return None,
        };
        match (before_switch, rotation.mode) {
            (true, Mode::Manual) => Some(Wait::TrustGate { at_latest: None }),
            (true, Mode::Auto | Mode::Standby) | (false, _) => Some(Wait::Rotation),
        }
    }

    fn is_blocked(&self, rotation: &Rotation) -> bool {
        rotation.held_since.is_some() || self.state.seen.highest().is_some()
    }

    /// Words that let a rotation go on that waits for one.
    fn unblocking(&self) -> Vec<Verb> {
        let mut verbs = Vec::new();
        if self.state.phase.rotation().is_some_and(|rotation| rotation.held_since.is_some()) {
            verbs.push(self.resuming());
        }
        if let Some((agent, seen)) = self.state.seen.highest() {
            verbs.push(self.going_on(seen.sequence.max(self.state.sequence)));
            verbs.push(Verb::Dismiss { agent: agent.clone() });
        }
        verbs
    }

    /// What ends a hold.
    fn resuming(&self) -> Verb {
        match self.state.phase.canary().and_then(|canary| canary.trouble.as_ref()) {
            Some(_) => Verb::Accept,
            None => Verb::Resume,
        }
    }

    /// Going on, at once only if it cannot be otherwise.
    fn going_on(&self, above: Sequence) -> Verb {
        let waiting = Verb::Continue { above, now: false };
        if self.takes(&waiting, None) { waiting } else { Verb::Continue { above, now: true } }
    }

    fn and_unblocked(&self, first: Vec<Verb>) -> Vec<Verb> {
        first.into_iter().chain(self.unblocking()).collect()
    }

    fn of_renewal(&self, event: &Event) -> Option<[Verb; 2]> {
        let (root, replica): (RootId, _) = match event {
            Event::IssuerRenewalRequested { root, replica, .. }
            | Event::IssuerRenewalCancelled { root, replica, .. } => (*root, replica),
            _ => return None,
        };
        let [renews, cancels] = [replica.clone(), replica.clone()];
        Some([
            Verb::RenewIssuer { root, replica: renews },
            Verb::CancelRenewal { root, replica: cancels },
        ])
    }

    fn taken(&self, mut verbs: Vec<Verb>) -> Vec<Verb> {
        verbs.retain(|verb| self.takes(verb, None));
        verbs
    }

    /// Whether the verb would change something.
    fn takes(&self, verb: &Verb, evidence: Option<&Evidence>) -> bool {
        let (Ok(request_id), Ok(authority)) =
            (RequestId::parse("would-this-be-legal"), AuthorityName::parse("any"))
        else {
            return false;
        };
        // After a rollback no evidence is asked for.
        let none = Evidence::of_nothing(self.now, self.state.sequence);
        let forward = matches!(&self.state.phase, Phase::Draining(phase) if phase.rolled_back);
        let evidence = evidence.or_else(|| forward.then_some(&none));
        let saying = Saying { request_id: &request_id, authority: &authority, evidence };
        let Some(event) = verb.event(&saying) else { return false };
        decide(self.state, &event, self.now, self.policy).is_ok_and(|draft| draft.is_some())
    }
}
