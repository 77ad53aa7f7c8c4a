//! The three gates of a rotation, as pure functions of record, report and policy.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trust::{Generation, RootId, Timestamp};

use super::holds::{Hold, Until};
use super::report::Evidence;
use crate::{
    Canary, Contents, Distributing, Draining, Effect, Observer, Phase, Policy, Segment, SegmentId,
    SegmentState, State, Withdrawing,
};

/// What a gate comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gate {
    /// Which one.
    pub name: GateName,
    /// What keeps it closed; empty when it is open.
    pub holds: Vec<Hold>,
    /// When it opens by itself, whatever else happens; `None` when only somebody's word can open it. It is in the past
    /// when only work of this process is awaited.
    pub opens_at_latest: Option<Timestamp>,
    /// Segments that still might take rows and count as over because their bounds have passed. Whoever lets `settle`
    /// begin on this judgement closes them in the same write.
    pub rests_on: BTreeSet<SegmentId>,
}

/// The gates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateName {
    /// Everybody trusts the root that shall sign.
    Trust,
    /// Everybody still does, and those for whom it signs first are well.
    Canary,
    /// No leaf is alive under the root that shall go.
    Leaves,
    /// Nobody trusts the root that has gone.
    Converged,
}

/// The gate that the present phase ends at, if it ends at one.
pub fn gate(state: &State, evidence: &Evidence, policy: &Policy) -> Option<Gate> {
    match &state.phase {
        Phase::Distributing(phase) => Some(trust_gate(state, phase, evidence, policy)),
        Phase::Canary(phase) => Some(canary_gate(state, phase, evidence, policy)),
        Phase::Draining(phase) => Some(leaf_gate(state, phase, evidence, policy)),
        Phase::Withdrawing(phase) => Some(converged_gate(state, phase, evidence, policy)),
        Phase::Uninitialised | Phase::Bootstrapping(_) | Phase::Steady(_) | Phase::Staging(_) => {
            None
        }
    }
}

/// The trust gate: whoever may meet a leaf of the new root trusts it.
///
/// `evidence` must be about the bundle of the phase.
pub fn trust_gate(
    state: &State,
    phase: &Distributing,
    evidence: &Evidence,
    policy: &Policy,
) -> Gate {
    let waits = Waits { decided: phase.bundle.generation, to: phase.to, since: phase.since };
    let judge = waits.judged(state, evidence, policy);
    judge.settled(GateName::Trust, Settling::of(phase.settling, phase.observer.as_ref()))
}

/// The same while the new root signs for a cohort: whoever relies on the bundle may have come since.
///
/// `evidence` must be about the bundle of the phase.
pub fn trust_gate_again(
    state: &State,
    phase: &Canary,
    evidence: &Evidence,
    policy: &Policy,
) -> Gate {
    let waits = Waits { decided: phase.bundle.generation, to: phase.to, since: phase.since };
    let judge = waits.judged(state, evidence, policy);
    judge.settled(GateName::Canary, Settling::of(phase.settling, phase.observer.as_ref()))
}

/// The gate of a canary: the trust gate again, and a cohort that was seen to be well for long enough.
///
/// `evidence` must be about the bundle of the phase.
pub fn canary_gate(state: &State, phase: &Canary, evidence: &Evidence, policy: &Policy) -> Gate {
    let mut gate = trust_gate_again(state, phase, evidence, policy);
    let seen = evidence.cohort.unwrap_or_default();
    if !seen.is_telling() {
        gate.holds.push(Hold::Cohort { taken: seen.taken, all: seen.all() });
        gate.opens_at_latest = None;
        return gate;
    }
    let counted = phase.observer.as_ref().map(|by| &by.segment) == evidence.observer.as_ref();
    let began = phase.observing.filter(|_| counted);
    let since = began.map_or(Duration::ZERO, |began| evidence.uptime.saturating_sub(began));
    let left = policy.canary_observe.saturating_sub(since);
    if began.is_none() || !left.is_zero() {
        gate.holds.push(Hold::Observing { left });
        let at = evidence.at.plus(left.saturating_add(Duration::from_millis(999)));
        gate.opens_at_latest = gate.opens_at_latest.map(|latest| latest.max(at));
    }
    gate
}

/// What keeps it from being known that everybody trusts the present bundle, whose roots in question came at `since`. Nothing
/// settles here: that is left to whoever asks.
///
/// `evidence` must be about the present bundle.
pub fn not_everybody_trusts(
    state: &State,
    since: Generation,
    evidence: &Evidence,
    policy: &Policy,
) -> Vec<Hold> {
    let mut judge = Judge::of(evidence, policy, None);
    judge.in_force(state, |effect| matches!(effect, Effect::PublishBundle { .. }));
    judge.trust(state, since);
    judge.holds
}

/// The leaf gate: no leaf under the root that shall go is alive, and none can come.
pub fn leaf_gate(state: &State, phase: &Draining, evidence: &Evidence, policy: &Policy) -> Gate {
    let mut judge = Judge::of(evidence, policy, None);
    judge.in_force(state, |effect| matches!(effect, Effect::SwitchSigner { .. }));
    judge.segments(state, phase.switched, |segment| segment.bounds.get(&phase.from).copied());
    judge.live(state, phase.from);
    judge.settled(GateName::Leaves, Settling::of(phase.settling, phase.observer.as_ref()))
}

/// The last gate: nobody trusts the root that has gone, as far as it can be known before a deadline. No connection
/// depends on it.
///
/// `evidence` must be about the bundle of the phase.
pub fn converged_gate(
    state: &State,
    phase: &Withdrawing,
    evidence: &Evidence,
    policy: &Policy,
) -> Gate {
    let deadline = phase.gives_up_at(policy);
    let mut judge = Judge::of(evidence, policy, Some(deadline));
    judge.in_force(state, |effect| matches!(effect, Effect::PublishBundle { .. }));
    if evidence.at < deadline {
        judge.trust(state, phase.bundle.generation);
    }
    let latest = judge.latest().map_or(deadline, |latest| latest.min(deadline));
    Gate {
        name: GateName::Converged,
        holds: judge.holds,
        opens_at_latest: Some(latest),
        // A bound that comes back after this gate costs nobody a connection.
        rests_on: BTreeSet::new(),
    }
}

impl Gate {
    /// Whether it is open.
    pub const fn is_open(&self) -> bool {
        self.holds.is_empty()
    }

    /// Whether it is open but for handshakes in flight.
    pub fn is_met(&self) -> bool {
        self.holds.iter().all(|hold| matches!(hold, Hold::Settling { .. } | Hold::Observing { .. }))
    }
}

impl GateName {
    /// Whether the new root comes to sign behind it, so that with mode `manual` somebody has to say so.
    pub const fn waits_for_activation(self) -> bool {
        match self {
            Self::Trust | Self::Canary => true,
            Self::Leaves | Self::Converged => false,
        }
    }
}

impl Withdrawing {
    /// When the converged gate gives up on whoever has not taken the bundle.
    pub fn gives_up_at(&self, policy: &Policy) -> Timestamp {
        self.since.plus(policy.withdrawal_max)
    }
}

impl fmt::Display for GateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trust => "trust",
            Self::Canary => "canary",
            Self::Leaves => "leaf",
            Self::Converged => "converged",
        })
    }
}

/// A settle time that has begun.
#[derive(Clone, Copy)]
struct Settling<'a> {
    began: Duration,
    /// Whose uptime that is.
    observer: Option<&'a Observer>,
}

impl<'a> Settling<'a> {
    fn of(began: Option<Duration>, observer: Option<&'a Observer>) -> Option<Self> {
        began.map(|began| Self { began, observer })
    }

    /// What is left of it. Whoever reports on another uptime has the wall clocks, which differ by twice the skew at most.
    fn left(self, evidence: &Evidence, policy: &Policy) -> Duration {
        match self.observer {
            Some(by) if evidence.observer.as_ref() != Some(&by.segment) => policy
                .settle
                .saturating_add(policy.skew.saturating_mul(2))
                .saturating_sub(evidence.at.since(by.since)),
            None if evidence.observer.is_some() => policy.settle,
            _ => policy.settle.saturating_sub(evidence.uptime.saturating_sub(self.began)),
        }
    }
}

/// What the trust gate is about.
#[derive(Clone, Copy)]
struct Waits {
    /// When the bundle of both roots was decided.
    decided: Generation,
    /// The root that shall sign.
    to: RootId,
    /// When the phase began.
    since: Timestamp,
}

impl Waits {
    fn judged<'a>(self, state: &State, evidence: &'a Evidence, policy: &'a Policy) -> Judge<'a> {
        let mut judge = Judge::of(evidence, policy, None);
        judge.in_force(state, |effect| matches!(effect, Effect::PublishBundle { .. }));
        judge.trust(state, self.decided);
        judge.issuers(state, self);
        judge
    }
}

/// Collects what holds a gate.
struct Judge<'a> {
    evidence: &'a Evidence,
    policy: &'a Policy,
    /// When the gate gives up on everybody, if it does.
    deadline: Option<Timestamp>,
    holds: Vec<Hold>,
    rests_on: BTreeSet<SegmentId>,
}

impl<'a> Judge<'a> {
    const fn of(evidence: &'a Evidence, policy: &'a Policy, deadline: Option<Timestamp>) -> Self {
        Self { evidence, policy, deadline, holds: Vec::new(), rests_on: BTreeSet::new() }
    }
    fn has_passed(&self, end: Option<Timestamp>) -> bool {
        end.is_some_and(|end| self.policy.has_passed(end, self.evidence.at))
    }

    /// When an end counts as passed: what is said of it is the time until which it is waited for.
    fn counted(&self, end: Option<Timestamp>) -> Option<Timestamp> {
        let ends = end.map(|end| self.policy.over_at(end)).into_iter().chain(self.deadline);
        ends.min()
    }

    fn in_force(&mut self, state: &State, wanted: impl Fn(&Effect) -> bool) {
        let owed = state.pending.iter().find(|pending| wanted(&pending.effect));
        self.holds
            .extend(owed.map(|owed| Hold::NotInForce { effect: owed.effect.name().to_owned() }));
    }

    /// The conditions of the trust gate and of the converged gate for a bundle that was decided at `since`.
    fn trust(&mut self, state: &State, since: Generation) {
        self.segments(state, since, Segment::last_bound);
        let rows = self.evidence.unproven;
        if rows.count > 0 && !self.has_passed(rows.latest) {
            self.holds.push(Hold::Unproven { count: rows.count, until: self.counted(rows.latest) });
        }
        let own = self.evidence.own_trust;
        if !own.is_empty() && !self.has_passed(own.latest) {
            self.holds.push(Hold::OwnTrust { count: own.count, until: self.counted(own.latest) });
        }
        // No connection depends on the gate with a deadline.
        if self.evidence.unable > 0 && self.deadline.is_none() {
            self.holds.push(Hold::Unable { count: self.evidence.unable });
        }
        let relying_parties = self.evidence.relying_parties;
        if relying_parties.bounded.count > 0 && !self.has_passed(relying_parties.bounded.latest) {
            let (count, until) =
                (relying_parties.bounded.count, self.counted(relying_parties.bounded.latest));
            self.holds.push(Hold::RelyingParties { count, until });
        }
        if relying_parties.unbounded > 0 {
            let (count, until) = (relying_parties.unbounded, self.counted(None));
            self.holds.push(Hold::UnboundedRelyingParties { count, until });
        }
    }

    /// Every segment that may have released under a snapshot older than `since` is read to the end, or over.
    fn segments(
        &mut self,
        state: &State,
        since: Generation,
        bound: impl Fn(&Segment) -> Option<Timestamp>,
    ) {
        for (id, segment) in &state.segments {
            // Without a bound it released nothing; a first one from now on comes with a snapshot younger than
            // `since`, or not at all under a root that drains.
            let Some(until) = bound(segment) else { continue };
            if self.is_read(id, segment, since) {
                continue;
            }
            if !self.has_passed(Some(until)) {
                let until = self.counted(Some(until)).unwrap_or(until);
                self.holds.push(Hold::Segment { segment: id.clone(), until });
            } else if !segment.is_closed() {
                self.rests_on.insert(id.clone());
            }
        }
    }

    /// Every replica that issues now is able to go on when the new root signs. It is waited for as long as its segment counts,
    /// and never for longer than the longest leaf of before this phase: a replica that gets no issuer, for whatever reason of
    /// its own, does not keep all the others from ending the rotation.
    fn issuers(&mut self, state: &State, waits: Waits) {
        let Some(entry) = state.roots.get(&waits.to) else { return };
        let last = self.policy.horizon_limit(waits.since, Timestamp::MAX);
        for replica in state.live_replicas() {
            if entry.signer_for(replica).is_some() || self.evidence.draining.contains(replica) {
                continue;
            }
            let open = state.segments_of(replica).filter(|(_, segment)| !segment.is_closed());
            let Some(bound) = open.filter_map(|(_, segment)| segment.last_bound()).max() else {
                continue;
            };
            let until = bound.min(last);
            if !self.has_passed(Some(until)) {
                let (replica, until) = (replica.clone(), self.policy.over_at(until));
                self.holds.push(Hold::Issuer { replica, root: waits.to, until });
            }
        }
    }

    fn is_read(&self, id: &SegmentId, segment: &Segment, since: Generation) -> bool {
        let read = self.evidence.read.get(id);
        match segment.state {
            SegmentState::Open | SegmentState::Closed(Contents::Unread) => false,
            SegmentState::Sealed { generation } => {
                generation >= since && read.is_some_and(|read| *read >= since)
            }
            SegmentState::Closed(Contents::Read) => read.is_some(),
        }
    }

    fn live(&mut self, state: &State, root: RootId) {
        let entry = state.roots.get(&root);
        let horizon = entry.and_then(|entry| entry.horizon);
        let alone =
            entry.is_some_and(|entry| entry.exclusive) || self.evidence.let_go.contains(&root);
        let foreign = self.evidence.foreign.get(&root).copied();
        if !alone && !self.has_passed(foreign) {
            self.holds.push(Hold::Shared { root, until: self.counted(foreign) });
        }
        // Our own rows are read, whoever else issues under the root.
        if let Some(rows) = self.evidence.live.get(&root).filter(|rows| rows.count > 0)
            && !self.has_passed(rows.latest.or(horizon))
        {
            let until = self.counted(rows.latest.or(horizon));
            self.holds.push(Hold::Live { count: rows.count, root, until });
        }
    }

    /// The last of the ends that are waited for, by everybody's clock.
    fn latest(&self) -> Option<Timestamp> {
        self.holds.iter().try_fold(self.evidence.at, |latest, hold| match hold.until() {
            Until::Soon => Some(latest),
            Until::At(end) => Some(latest.max(end)),
            Until::Never => None,
        })
    }

    fn settled(mut self, name: GateName, settling: Option<Settling<'_>>) -> Gate {
        let left = match settling.filter(|_| self.holds.is_empty()) {
            Some(settling) => settling.left(self.evidence, self.policy),
            None => self.policy.settle,
        };
        // Rounded up: wall-clock times are whole seconds here.
        let rounded = left.saturating_add(Duration::from_millis(999));
        let opens_at_latest = self.latest().map(|latest| latest.plus(rounded));
        if settling.is_none() || !left.is_zero() {
            self.holds.push(Hold::Settling { left });
        }
        Gate { name, holds: self.holds, opens_at_latest, rests_on: self.rests_on }
    }
}
