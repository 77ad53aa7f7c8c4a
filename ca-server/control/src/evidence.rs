//! What gates rest on, read from the ledger and from what relying parties confirmed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ledger::{Aggregates, EvidenceClass, Ledger, Required, RowKind, Standing};
use registry::{AgentRegistry, AttestedRow};
use rotation::evidence::RelyingParties;
use rotation::{
    CohortSeen, Contents, Effect, Evidence, Policy, RootEntry, SegmentId, SegmentState, Share,
    State, Trouble,
};
use rotation_driver::{EvidenceSource, NoEvidence};
use trust::{Clock, ClockDiverged, Generation, RootId, Sequence, Timestamp};

use crate::canary::CanaryWatch;
use crate::counts::Counts;
use crate::hierarchy::{Downstreams, Upstreams};
use crate::probing::{self, ProbePolicy};
use crate::replication::Replication;

/// Reads the evidence of one replica.
#[derive(Debug)]
pub struct EvidenceReader {
    ledger: Arc<Ledger>,
    registry: AgentRegistry,
    clock: Arc<dyn Clock>,
    settings: EvidenceSettings,
    /// Longest lives of leaves that others issue, by authority.
    foreign_leaf_max: BTreeMap<String, Duration>,
    downstreams: Arc<Downstreams>,
    upstreams: Upstreams,
    policy: Policy,
    /// The segment that this process writes.
    segment: SegmentId,
    replication: Arc<Replication>,
    canary: CanaryWatch,
    /// The bundle in force, and when that was first seen.
    in_force: Mutex<(Sequence, Timestamp)>,
}

/// What the configuration says of evidence.
#[derive(Clone, Copy, Debug)]
pub struct EvidenceSettings {
    /// The class that the trust gate asks for leaves behind agents.
    pub agent: EvidenceClass,
    /// How long a phase may last before somebody should look.
    pub alarm_after: Duration,
    /// How long after the end of its certificate an agent may still come back.
    pub return_within: Duration,
    /// Time after which the trust of holders with trust of their own is assumed.
    pub own_trust_after: Option<Duration>,
    /// When holders with listeners must be seen to verify the root that shall sign.
    pub probe: ProbePolicy,
}

impl EvidenceSettings {
    const fn required(&self, kind: RowKind) -> EvidenceClass {
        match kind {
            RowKind::AgentHeld => self.agent,
            RowKind::AgentIdentity | RowKind::Own => EvidenceClass::Applied,
            // Their trust is in the reply that the leaf was in.
            RowKind::CsrOnly => EvidenceClass::Delivered,
            // What a channel proves is asked of the channel, which is a relying party.
            RowKind::ChannelTrusted => EvidenceClass::Sent,
            // Nobody asks about those.
            RowKind::Probe => EvidenceClass::Assumed,
        }
    }
}

/// Rows that are not known to trust a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unproven {
    /// Those whose word or end is waited for.
    pub lacking: ledger::Tally,
    /// Those of holders with trust of their own that nobody has confirmed.
    pub own_trust: rotation::evidence::Tally,
    /// Those of holders that acknowledged the bundle and cannot verify the root that shall sign.
    pub unable: u64,
    /// Those of holders with trust of their own that a relying party's word stands for: they count as proven.
    pub confirmed: u64,
    /// Those that a waiver says not to wait for.
    pub waived: u64,
}

impl Unproven {
    /// How many keep the gate closed.
    pub const fn rows(&self) -> u64 {
        self.lacking.rows + self.own_trust.count + self.unable
    }
}

/// What a reader is made of.
pub struct Parts {
    /// Rows of leaves.
    pub ledger: Arc<Ledger>,
    /// Who is registered.
    pub registry: AgentRegistry,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What the configuration says of it.
    pub settings: EvidenceSettings,
    /// Longest lives of leaves that others issue, by authority.
    pub foreign_leaf_max: BTreeMap<String, Duration>,
    /// CAs that issue under a root of this one.
    pub downstreams: Arc<Downstreams>,
    /// CAs under whose roots this one issues.
    pub upstreams: Upstreams,
    /// The limits of the machine.
    pub policy: Policy,
    /// The segment that this process writes.
    pub segment: SegmentId,
    /// The other servers of this CA.
    pub replication: Arc<Replication>,
}

impl EvidenceReader {
    /// Reads from these.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            ledger,
            registry,
            clock,
            settings,
            foreign_leaf_max,
            downstreams,
            upstreams,
            policy,
            segment,
            replication,
        } = parts;
        let in_force = Mutex::new((Sequence(0), Timestamp::default()));
        Self {
            ledger,
            registry,
            clock,
            settings,
            foreign_leaf_max,
            downstreams,
            upstreams,
            policy,
            segment,
            replication,
            canary: CanaryWatch::default(),
            in_force,
        }
    }

    /// The class of evidence that the trust gate asks for leaves of this kind.
    pub const fn required(&self, kind: RowKind) -> EvidenceClass {
        self.settings.required(kind)
    }

    /// What the gate of a state asks for leaves of this kind.
    pub fn asked(&self, state: &State, kind: RowKind) -> Required {
        Required { class: self.required(kind), probe: self.asks_probe(state) }
    }

    /// Whether the gate of a state asks that proxies were seen to verify the root that shall sign.
    pub fn asks_probe(&self, state: &State) -> bool {
        probing::wanted(state, self.settings.probe).is_some()
    }

    /// When that is asked.
    pub const fn probe_policy(&self) -> ProbePolicy {
        self.settings.probe
    }

    /// How long a phase may last before somebody should look.
    pub const fn alarm_after(&self) -> Duration {
        self.settings.alarm_after
    }

    /// How long after the end of its certificate an agent may still come back.
    pub const fn return_within(&self) -> Duration {
        self.settings.return_within
    }

    /// When the bundle of `state` was first seen in force by this process; `None` while it is not. Staleness bounds
    /// begin then, so a restart makes them longer, never shorter.
    pub fn in_force_since(&self, state: &State) -> Option<Timestamp> {
        let published = |effect: &Effect| matches!(effect, Effect::PublishBundle { .. });
        if state.pending.iter().any(|pending| published(&pending.effect)) {
            return None;
        }
        // Counted from a time that is not known it might be over too early. Another replica may have served the former bundle
        // until its lease was over.
        let now = self.clock.agreed().ok()?.wall.plus(self.replication.lease_length);
        let mut known = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != state.sequence {
            *known = (state.sequence, now);
        }
        Some(known.1)
    }

    /// Longest life of a leaf that others issue under roots of this authority, as configured.
    pub fn foreign_leaf_max(&self, authority: &str) -> Option<Duration> {
        self.foreign_leaf_max.get(authority).copied()
    }

    /// What was said of others who issue under a root, and the latest end of any leaf of theirs; `None` while nobody
    /// attested that they stopped, or no longest life is configured.
    pub fn foreign(&self, root: &RootId, entry: &RootEntry) -> Option<(AttestedRow, Timestamp)> {
        if entry.exclusive {
            return None;
        }
        let longest = self.foreign_leaf_max(entry.authority.as_str())?;
        let word = self.registry.attested(root)?;
        // No leaf is of use after its root.
        let until = word.since.plus(longest).min(entry.not_after);
        Some((word, until))
    }

    /// The rows that are not known to trust the bundle of a state, which is in force since a time.
    pub fn unproven(&self, state: &State, in_force_since: Option<Timestamp>) -> Unproven {
        self.unproven_of(&self.counts(), state, in_force_since)
    }

    /// What the rows of this server and of all others say whose reports count, and the segments that this covers, each with
    /// the generation at which it was sealed.
    fn counts_of(&self, state: &State) -> (Counts, BTreeMap<SegmentId, Generation>) {
        let (mut read, mut counts) = self.own_report(state);
        for seen in self.replication.reports_that_count().values() {
            counts.join(&seen.report.counts);
            read.extend(seen.report.read.iter().map(|(id, sealed)| (id.clone(), *sealed)));
        }
        (counts, read)
    }

    fn counts(&self) -> Counts {
        let mut counts = self.own_counts();
        for seen in self.replication.reports_that_count().values() {
            counts.join(&seen.report.counts);
        }
        counts
    }

    /// What this server has to report: its segments as far as they are sealed, and what their rows say.
    pub fn own_report(&self, state: &State) -> (BTreeMap<SegmentId, Generation>, Counts) {
        // Seals first, rows after: what a seal covers is in the rows that are read now.
        let read = seals(state, &self.segment);
        (read, self.own_counts())
    }

    /// What the rows of this replica say.
    pub fn own_counts(&self) -> Counts {
        self.ledger.set_waivers(&self.registry.waived(self.clock.now()));
        let counts = Counts::of(&self.ledger, &self.registry.coverage());
        Counts { cohort: self.canary.seen(), ..counts }
    }

    /// What this server sees of the cohort of a canary.
    pub const fn canary(&self) -> &CanaryWatch {
        &self.canary
    }

    /// What all servers see of it.
    pub fn cohort(&self) -> Option<CohortSeen> {
        self.counts().cohort
    }

    /// The rows of all replicas, as far as they are known.
    pub fn rows(&self) -> Aggregates {
        self.counts().rows
    }

    /// As [`unproven`](Self::unproven), of these rows.
    fn unproven_of(
        &self,
        counts: &Counts,
        state: &State,
        in_force_since: Option<Timestamp>,
    ) -> Unproven {
        let (sequence, probe) = (state.sequence, self.asks_probe(state));
        let coverage = self.registry.coverage();
        let Counts { rows, covered, .. } = counts;
        let required = |kind| Required { class: self.required(kind), probe };
        let lacks = |row: &Standing| row.is_unproven(sequence, required(row.kind));
        let unable = |row: &Standing| probe && row.is_unable(sequence);
        let own = rows.tally(|row| row.own_trust && !row.waived && lacks(row));
        let assumed =
            in_force_since.or_else(|| self.settings.own_trust_after.map(|_| self.clock.now()));
        let assumed =
            assumed.zip(self.settings.own_trust_after).map(|(since, after)| since.plus(after));
        let mut unproven = Unproven {
            lacking: rows.tally(|row| !row.own_trust && !row.waived && lacks(row) && !unable(row)),
            unable: rows.tally(|row| !row.waived && unable(row)).rows,
            own_trust: rotation::evidence::Tally {
                count: own.rows,
                latest: assumed.filter(|_| own.rows > 0),
            },
            confirmed: 0,
            waived: rows.tally(|row| row.waived && lacks(row)).rows,
        };
        for (covers, rows) in covered {
            let count = rows.tally(|row| row.own_trust && !row.waived && lacks(row)).rows;
            if count > 0 && coverage.all_have(covers, sequence) {
                unproven.confirmed += count;
                unproven.own_trust.count = unproven.own_trust.count.saturating_sub(count);
            }
        }
        if unproven.own_trust.count == 0 {
            unproven.own_trust.latest = None;
        }
        unproven
    }

    /// Time after which the trust of holders with trust of their own is assumed.
    pub const fn own_trust_after(&self) -> Option<Duration> {
        self.settings.own_trust_after
    }

    /// The same for what is told to a neighbor: whether everybody *here* has the bundle. What neighbors confirmed of it is not asked
    /// for, or two that rotate at a time would wait for each other.
    ///
    /// # Errors
    /// As [`read`](EvidenceSource::read).
    pub async fn read_here(&self, state: &State) -> Result<Evidence, NoEvidence> {
        let mut evidence = self.read(state).await?;
        let since = self.in_force_since(state).unwrap_or(evidence.at);
        let here = self.registry.unconfirmed_here(evidence.sequence, since);
        evidence.relying_parties = self.with_downstreams(here, evidence.sequence, evidence.at);
        Ok(evidence)
    }

    fn with_downstreams(
        &self,
        mut parties: RelyingParties,
        sequence: Sequence,
        at: Timestamp,
    ) -> RelyingParties {
        let downstreams = self.downstreams.unproven(sequence, &self.policy, at);
        parties.bounded.count += downstreams.count;
        parties.bounded.latest = parties.bounded.latest.max(downstreams.latest);
        parties
    }

    fn foreign_ends(&self, state: &State) -> BTreeMap<RootId, Timestamp> {
        let end =
            |(root, entry): (&RootId, &RootEntry)| Some((*root, self.foreign(root, entry)?.1));
        state.roots.iter().filter_map(end).collect()
    }

    /// A replica that runs is not over, whatever its bounds say: it was held up. Its segment is sealed as soon as its
    /// requests are gone, and until then nothing is said that would close it.
    fn would_close_itself(&self, state: &State) -> bool {
        let Some(since) = state.phase.decided_at() else { return false };
        let Some(own) = state.segments.get(&self.segment) else { return false };
        let now = self.clock.now();
        let unsealed =
            !matches!(own.state, SegmentState::Sealed { generation } if generation >= since);
        unsealed && own.bounds.values().any(|bound| self.policy.has_passed(*bound, now))
    }
}

#[async_trait]
impl EvidenceSource for EvidenceReader {
    async fn read(&self, state: &State) -> Result<Evidence, NoEvidence> {
        let unclear = |diverged: ClockDiverged| NoEvidence { reason: diverged.to_string() };
        self.clock.agreed().map_err(unclear)?;
        if self.would_close_itself(state) {
            let reason = "requests of this server began before the change and are not over yet";
            return Err(NoEvidence { reason: reason.to_owned() });
        }
        if self.replication.is_fenced() {
            let reason = "the wall clock of this replica disagrees with those of the others";
            return Err(NoEvidence { reason: reason.to_owned() });
        }
        // Who has to be waited for another server may have written down.
        let unread = |error: stores::ReadError| NoEvidence { reason: error.to_string() };
        self.registry.read_evidence().await.map_err(unread)?;
        let (counts, read) = self.counts_of(state);
        let in_force_since = self.in_force_since(state);
        let sequence = state.sequence;
        let unproven = self.unproven_of(&counts, state, in_force_since);
        let probe = self.asks_probe(state);
        let required = |kind| Required { class: self.required(kind), probe };
        let lacks = |row: &Standing| row.is_unproven(sequence, required(row.kind));
        let waived = counts.waived.tally(lacks).rows + unproven.waived;
        let cohort = state.phase.canary().and(counts.cohort).map(|seen| {
            // Whoever is unable counts as far as there are so many in the cohort.
            let unable = Share { bad: unproven.unable, of: seen.all().max(unproven.unable) };
            CohortSeen { trouble: Trouble { unable, ..seen.trouble }, ..seen }
        });
        let rows = counts.rows;
        let let_go = self.upstreams.let_go(state);
        // Taken when the reading is over, and what has ended has ended by both clocks, and by those of the other servers.
        let at = self.clock.agreed().map_err(unclear)?.earlier;
        let at = at.minus(self.replication.furthest_behind());
        let uptime = self.clock.uptime();
        let mut live = live(&rows);
        self.downstreams.add_live(&mut live, state, &self.policy, at);
        let relying_parties = self.registry.unconfirmed(sequence, in_force_since.unwrap_or(at));
        let relying_parties = self.with_downstreams(relying_parties, sequence, at);
        Ok(Evidence {
            at,
            uptime,
            sequence,
            unproven: tally(unproven.lacking),
            own_trust: unproven.own_trust,
            unable: unproven.unable,
            waived,
            live,
            read,
            relying_parties,
            foreign: self.foreign_ends(state),
            let_go,
            observer: Some(self.segment.clone()),
            draining: self.replication.going(),
            cohort,
        })
    }
}

/// The segments whose rows are in this process's ledger: the one that it writes, as far as it is sealed, and former ones
/// that were read to their ends when it started.
fn seals(state: &State, own: &SegmentId) -> BTreeMap<SegmentId, Generation> {
    let Some(me) = state.segments.get(own).map(|segment| &segment.replica) else {
        return BTreeMap::new();
    };
    let sealed = |(id, segment): (&SegmentId, &rotation::Segment)| match segment.state {
        SegmentState::Sealed { generation } if id == own => Some((id.clone(), generation)),
        SegmentState::Closed(Contents::Read) => Some((id.clone(), state.generation)),
        SegmentState::Open | SegmentState::Sealed { .. } | SegmentState::Closed(_) => None,
    };
    state.segments_of(me).filter_map(sealed).collect()
}

fn live(rows: &Aggregates) -> BTreeMap<RootId, rotation::evidence::Tally> {
    let roots: Vec<RootId> = rows.groups().map(|(standing, _)| standing.root).collect();
    roots.into_iter().map(|root| (root, tally(rows.under(&root)))).collect()
}

fn tally(rows: ledger::Tally) -> rotation::evidence::Tally {
    rotation::evidence::Tally { count: rows.rows, latest: rows.latest_not_after }
}
