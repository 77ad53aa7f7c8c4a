//! The three gates of a rotation, as pure functions of record, report and policy.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trust::{Generation, RootId, Timestamp};

use super::report::Evidence;
use super::words::{
    endless, holders, leaves, limited, own_trust, relying_parties, rounded_up, shown, unable,
};
use crate::codec;
use crate::{
    Contents, Distributing, Draining, Effect, Observer, Phase, Policy, ReplicaName, Segment,
    SegmentId, SegmentState, State, Withdrawing,
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
    /// No leaf is alive under the root that shall go.
    Leaves,
    /// Nobody trusts the root that has gone.
    Converged,
}

/// One thing that keeps a gate closed. Each `until` is the time at which it counts as over, by everybody's clock.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// Requests are still served from before the change.
    #[error("the change is not in force yet: {effect} is under way")]
    NotInForce {
        /// Name of the effect that is under way.
        effect: String,
    },
    /// A segment may hold rows that are not known.
    #[error("segment {segment} is not sealed and read since the change, until {until}")]
    Segment {
        /// The segment.
        segment: SegmentId,
        /// The last of its bounds that matters here.
        #[serde(with = "codec::seconds")]
        until: Timestamp,
    },
    /// A replica could not go on issuing under the root that shall sign.
    #[error("replica {replica} has no issuer under root {} yet, until {until}", root.short())]
    Issuer {
        /// The replica.
        replica: ReplicaName,
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// When it counts as gone, or is waited for no longer: then the root signs without it.
        #[serde(with = "codec::seconds")]
        until: Timestamp,
    },
    /// Holders of leaves have not applied the bundle.
    #[error("{} not applied the bundle, until {}", holders(*count), shown(*until))]
    Unproven {
        /// How many leaves.
        count: u64,
        /// The latest end among them.
        #[serde(with = "codec::optional_seconds")]
        until: Option<Timestamp>,
    },
    /// Holders take their leaves from agents, and their trust from elsewhere.
    #[error("{}, which nobody has confirmed{}", own_trust(*count), endless(*until))]
    OwnTrust {
        /// How many leaves.
        count: u64,
        /// When policy assumes their trust, or the gate gives up on them; `None` if neither is ever so.
        #[serde(with = "codec::optional_seconds")]
        until: Option<Timestamp>,
    },
    /// Proxies acknowledged the bundle and cannot verify what the new root signs.
    #[error("{}, and no time ends that", unable(*count))]
    Unable {
        /// How many leaves.
        count: u64,
    },
    /// Relying parties have not confirmed the bundle, and their staleness bounds are not over.
    #[error("{} not confirmed the bundle, until {}", relying_parties(*count, ["has", "have"]), shown(*until))]
    // Journals have the first name of this hold.
    #[serde(rename = "subscribers")]
    RelyingParties {
        /// How many.
        count: u64,
        /// The latest of their bounds.
        #[serde(with = "codec::optional_seconds")]
        until: Option<Timestamp>,
    },
    /// Relying parties that have no staleness bound have not confirmed.
    #[error("{} must confirm the bundle by name{}", relying_parties(*count, ["", ""]).trim_end(), limited(*until))]
    // Journals have the first name of this hold.
    #[serde(rename = "unbounded_subscribers")]
    UnboundedRelyingParties {
        /// How many.
        count: u64,
        /// When the gate gives up on them; `None` if it never does. Entries of former releases have none.
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            with = "codec::optional_seconds"
        )]
        until: Option<Timestamp>,
    },
    /// Leaves live under the root that shall go.
    #[error("{} alive under root {}, until {}", leaves(*count), root.short(), shown(*until))]
    Live {
        /// How many.
        count: u64,
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// The latest end among them.
        #[serde(with = "codec::optional_seconds")]
        until: Option<Timestamp>,
    },
    /// Others issue under the root too: what is known of their leaves is somebody's word that they stopped, and the longest
    /// life that a leaf of theirs has.
    #[error("leaves may be alive under root {}, which others share, until {}", root.short(), shown(*until))]
    Shared {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// The last end of their leaves, as was attested; `None` if nobody attested.
        #[serde(with = "codec::optional_seconds")]
        until: Option<Timestamp>,
    },
    /// Everything else is met; handshakes that began before may still be in flight.
    #[error("handshakes in flight, for {} s more", rounded_up(*left))]
    Settling {
        /// How long.
        left: Duration,
    },
}

/// The gate that the present phase ends at, if it ends at one.
pub fn gate(state: &State, evidence: &Evidence, policy: &Policy) -> Option<Gate> {
    match &state.phase {
        Phase::Distributing(phase) => Some(trust_gate(state, phase, evidence, policy)),
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
    let mut judge = Judge::of(evidence, policy, None);
    judge.in_force(state, |effect| matches!(effect, Effect::PublishBundle { .. }));
    judge.trust(state, phase.bundle.generation);
    judge.issuers(state, phase);
    judge.settled(GateName::Trust, Settling::of(phase.settling, phase.observer.as_ref()))
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
    if evidence.at <= deadline {
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
        self.holds.iter().all(|hold| matches!(hold, Hold::Settling { .. }))
    }
}

impl Withdrawing {
    /// When the converged gate gives up on whoever has not taken the bundle.
    pub fn gives_up_at(&self, policy: &Policy) -> Timestamp {
        self.since.plus(policy.withdrawal_max)
    }
}

impl Hold {
    /// What somebody can do about what no time ends; `None` for what ends by itself.
    pub fn way(&self) -> Option<String> {
        if !matches!(self.until(), Until::Never) {
            return None;
        }
        Some(match self {
            Self::Shared { root, .. } => format!(
                "once nobody else issues under root {0} any more, say so with `banyan root attest {0} --by NAME`",
                root.short()
            ),
            Self::OwnTrust { .. } => "let those holders take their roots from their agents, or cover them with `banyan \
                                      relying-party add NAME --covers SPIFFE_ID` and confirm for them with `banyan \
                                      relying-party confirm NAME`; those that a relying party covers already wait for \
                                      its word, and `banyan rotate explain` names it"
                .to_owned(),
            Self::Unable { .. } => "`banyan rotate explain` names them: replace each of those proxies by a version that verifies \
                                    the new algorithm, and the gate goes on by itself; or give the rotation up with `banyan \
                                    rotate abort`; or go on without them with `banyan waiver add NAME --covers SPIFFE_ID --lasts 7d \
                                    --reason TEXT --force`, and they break when the new root signs"
                .to_owned(),
            _ => "confirm each relying party that has the bundle with `banyan relying-party confirm NAME`, and remove one \
                  that is gone with `banyan relying-party remove NAME`; one named kubernetes/CHANNEL confirms by itself, \
                  and /readyz of `banyan kubernetes` says what it waits for; one named ca/NAME is a neighbor, and `banyan \
                  downstream list` says what that one waits for"
                .to_owned(),
        })
    }

    /// When it ends by itself at the latest.
    fn until(&self) -> Until {
        match self {
            Self::NotInForce { .. } | Self::Settling { .. } => Until::Soon,
            Self::Segment { until, .. } | Self::Issuer { until, .. } => Until::At(*until),
            Self::Unable { .. } => Until::Never,
            Self::Unproven { until, .. }
            | Self::OwnTrust { until, .. }
            | Self::RelyingParties { until, .. }
            | Self::UnboundedRelyingParties { until, .. }
            | Self::Live { until, .. }
            | Self::Shared { until, .. } => until.map_or(Until::Never, Until::At),
        }
    }
}

impl fmt::Display for GateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trust => "trust",
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

enum Until {
    /// Work of this process, or the settle time, which is added anyway.
    Soon,
    At(Timestamp),
    Never,
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
    fn issuers(&mut self, state: &State, phase: &Distributing) {
        let Some(entry) = state.roots.get(&phase.to) else { return };
        let last = self.policy.horizon_limit(phase.since, Timestamp::MAX);
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
                self.holds.push(Hold::Issuer { replica, root: phase.to, until });
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
