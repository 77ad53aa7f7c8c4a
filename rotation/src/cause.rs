//! Why an event is not legal, by what would make it so.

mod legal;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use trust::{CertificateId, Cohort, Generation, RootId, Sequence, Timestamp};

use crate::codec;
use crate::evidence::{GateName, Hold};
use crate::{AuthorityName, Ending, ReplicaName, RequestId, RootState, SegmentId};

/// Why an event is not legal. Journals have the names that variants had first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A root was bootstrapped before, on another request.
    #[error("this trust domain has its root")]
    #[serde(rename = "already_founded")]
    AlreadyBootstrapped,
    /// Another bootstrap is under way.
    #[error("the bootstrap of request {request_id} is under way")]
    #[serde(rename = "founding_under_way")]
    BootstrapUnderWay {
        /// Its request.
        request_id: RequestId,
    },
    /// The request id came before with another request.
    #[error("request id {request_id} was used for another request")]
    RequestIdReused {
        /// The id.
        request_id: RequestId,
    },
    /// Nothing was asked under this request id.
    #[error("nothing was asked under request id {request_id}")]
    NotAsked {
        /// The id.
        request_id: RequestId,
    },
    /// The request was answered before, and otherwise.
    #[error("request {request_id} was answered before with {former}")]
    AnsweredOtherwise {
        /// The request.
        request_id: RequestId,
        /// What was answered first: the id of a root.
        former: String,
    },
    /// The answer names another root than the one asked about.
    #[error("the answer is for root {}, asked was root {}", answered.short(), asked.short())]
    OtherRoot {
        /// The root asked about.
        #[serde(with = "codec::text")]
        asked: RootId,
        /// The root of the answer.
        #[serde(with = "codec::text")]
        answered: RootId,
    },
    /// This root is or was ours before.
    #[error("root {} is known already", root.short())]
    RootKnown {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
    },
    /// The certificate is at its end.
    #[error("the certificate ended at {not_after}")]
    Expired {
        /// Its last second.
        #[serde(with = "codec::seconds")]
        not_after: Timestamp,
    },
    /// The issuer would outlive its root.
    #[error("the issuer ends at {not_after}, after its root")]
    OutlivesRoot {
        /// Last second of the issuer.
        #[serde(with = "codec::seconds")]
        not_after: Timestamp,
        /// Last second of the root.
        #[serde(with = "codec::seconds")]
        root_not_after: Timestamp,
    },
    /// The issuer's chain is empty.
    #[error("the issuer's chain is empty")]
    NoChain,
    /// No such root.
    #[error("root {} is unknown", root.short())]
    UnknownRoot {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
    },
    /// The root may not sign in its state.
    #[error("root {} is {}", root.short(), state.as_str())]
    RootMayNotSign {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// Its state.
        state: RootState,
    },
    /// Another renewal of the issuer is under way.
    #[error("the renewal of request {request_id} is under way")]
    RenewalUnderWay {
        /// Its request.
        request_id: RequestId,
    },
    /// No renewal of the issuer is under way.
    #[error("no renewal of the issuer under root {} is under way", root.short())]
    NoRenewal {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
    },
    /// No such bundle.
    #[error("bundle {sequence} was never decided, the latest is {latest}")]
    UnknownBundle {
        /// The sequence.
        #[serde(with = "codec::sequence")]
        sequence: Sequence,
        /// The latest.
        #[serde(with = "codec::sequence")]
        latest: Sequence,
    },
    /// No such issuer.
    #[error("issuer {} is unknown under root {}", issuer.short(), root.short())]
    UnknownIssuer {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// The issuer.
        #[serde(with = "codec::text")]
        issuer: CertificateId,
    },
    /// No such segment.
    #[error("segment {segment} is unknown")]
    UnknownSegment {
        /// The segment.
        segment: SegmentId,
    },
    /// The segment id was used before.
    #[error("segment id {segment} was used before")]
    SegmentTaken {
        /// The segment.
        segment: SegmentId,
    },
    /// The segment is closed.
    #[error("segment {segment} is closed")]
    SegmentClosed {
        /// The segment.
        segment: SegmentId,
    },
    /// A snapshot of the future.
    #[error("generation {generation} is not stored yet")]
    GenerationAhead {
        /// The generation.
        #[serde(with = "codec::generation")]
        generation: Generation,
    },
    /// The horizon would lie too far ahead.
    #[error("a horizon of {until} is too far ahead")]
    HorizonTooFar {
        /// The horizon asked for.
        #[serde(with = "codec::seconds")]
        until: Timestamp,
        /// The latest that may be asked for.
        #[serde(with = "codec::seconds")]
        limit: Timestamp,
    },
    /// No root signs yet.
    #[error("this trust domain has no root that signs")]
    #[serde(rename = "not_founded")]
    NotBootstrapped,
    /// Another rotation is under way.
    #[error("the rotation of request {request_id} {}", under_way(*ending))]
    RotationUnderWay {
        /// Its request.
        request_id: RequestId,
        /// What it comes to, if that is certain. Entries of former releases have none.
        #[serde(default, skip_serializing_if = "Ending::is_completed")]
        ending: Ending,
    },
    /// No rotation is under way.
    #[error("no rotation is under way")]
    NoRotation,
    /// The rotation is on hold.
    #[error("the rotation is on hold since {since}")]
    Held {
        /// Since when.
        #[serde(with = "codec::seconds")]
        since: Timestamp,
    },
    /// The evidence is dated after the step that is to rest on it.
    #[error("the evidence is of {at}, it is {now} now")]
    EvidenceAhead {
        /// Its date.
        #[serde(with = "codec::seconds")]
        at: Timestamp,
        /// The time of the step.
        #[serde(with = "codec::seconds")]
        now: Timestamp,
    },
    /// The evidence is about another bundle.
    #[error("the evidence is about bundle {sequence}")]
    EvidenceStale {
        /// The bundle that it is about.
        #[serde(with = "codec::sequence")]
        sequence: Sequence,
        /// The bundle that counts.
        #[serde(with = "codec::sequence")]
        wanted: Sequence,
    },
    /// The gate is closed.
    #[error("the {gate} gate is closed: {}", listed(holds))]
    GateClosed {
        /// Which one.
        gate: GateName,
        /// By what.
        holds: Vec<Hold>,
        /// When it opens by itself at the latest; `None` when only somebody's word can open it.
        #[serde(with = "codec::optional_seconds")]
        opens_at_latest: Option<Timestamp>,
    },
    /// There is no root that waits for its activation.
    #[error("no root waits for its activation")]
    NothingToActivate,
    /// Leaves of the new root may be alive, or it is the only one.
    #[error("the new root has signed")]
    TooLateToAbort,
    /// The record was restored from a backup, and the new root may have signed after that.
    #[error(
        "the new root may have signed after the backup that this state was restored from, and an abort would take trust from its \
         leaves"
    )]
    MayHaveSigned,
    /// The new root does not sign.
    #[error("the new root isn't signing; nothing to roll back")]
    NothingToRollBack,
    /// The former root has left the bundle.
    #[error("the former root has left the bundle, so nothing can be rolled back to it")]
    FormerRootLeft,
    /// It was rolled back before.
    #[error("the former root signs again already")]
    RolledBackBefore,
    /// Agents hold bundles that this record never published.
    #[error(
        "agent {agent} holds bundle {seen}, which this server never published (its latest is {latest}){}: the data \
         directory was restored from a backup that is older than the mesh", others(*agents)
    )]
    BundleUnknown {
        /// The agent with the highest sequence.
        agent: String,
        /// That sequence.
        #[serde(with = "codec::sequence")]
        seen: Sequence,
        /// The latest of this record.
        #[serde(with = "codec::sequence")]
        latest: Sequence,
        /// How many agents say such things.
        agents: usize,
    },
    /// The record cannot go on above this sequence.
    #[error("bundle {above} is no place to go on above")]
    NotAbove {
        /// What was asked for.
        #[serde(with = "codec::sequence")]
        above: Sequence,
        /// The least that is legal.
        #[serde(with = "codec::sequence")]
        least: Sequence,
    },
    /// Leaves may live that were issued after the backup, under a root that this record does not know.
    #[error(
        "leaves that were issued after the backup may live until {until}, and those under a root that came after it would be \
             refused at once"
    )]
    LostLeavesMayLive {
        /// What the record shall go on above.
        #[serde(with = "codec::sequence")]
        above: Sequence,
        /// When all of them have ended.
        #[serde(with = "codec::seconds")]
        until: Timestamp,
    },
    /// No more agents can be dismissed.
    #[error("{} agents are dismissed already", crate::DISMISSED_MAX)]
    TooManyDismissed,
    /// The word of this agent counts.
    #[error("agent {agent} is not dismissed")]
    NotDismissed {
        /// The agent.
        agent: String,
    },
    /// A root that is compromised, or was withdrawn before.
    #[error("root {} was withdrawn before, or is compromised", root.short())]
    WithdrawnBefore {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
    },
    /// No root of this authority signs here, or ever did.
    #[error("no root of authority {authority} has signed here")]
    NeverSigned {
        /// The authority.
        authority: AuthorityName,
    },
    /// Another change of the bundle is on its way.
    #[error("the bundle is being changed while {phase}")]
    BundleChanges {
        /// The phase.
        phase: String,
    },
    /// Too many further roots.
    #[error("more than {} further roots would be trusted", crate::FURTHER_ROOTS_MAX)]
    TooManyFurther,
    /// The root is no retired one.
    #[error("root {} is {}", root.short(), state.as_str())]
    NotRetired {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// Its state.
        state: RootState,
    },
    /// The root's certificate, or a leaf under it, may still be valid.
    #[error("the certificate of root {}, or a leaf under it, may still be valid by somebody's clock", root.short())]
    StillCounts {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// The first second at which neither is.
        #[serde(with = "codec::seconds")]
        from: Timestamp,
    },
    /// The root is compromised.
    #[error("root {} is marked as compromised and stays in the record, so that it never comes back", root.short())]
    NeverForgotten {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
    },
    /// The record has nothing of this replica.
    #[error("replica {replica} is unknown")]
    UnknownReplica {
        /// The replica.
        replica: ReplicaName,
    },
    /// Nobody else can sign under a root.
    #[error("no other replica can sign under root {}", root.short())]
    LastSigner {
        /// The replica.
        replica: ReplicaName,
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
    },
    /// The root is no standby root.
    #[error("root {} is {}, and no standby root", root.short(), state.as_str())]
    NotStandby {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// Its state.
        state: RootState,
    },
    /// Leaves of the standby root may live: the record was restored from a backup.
    #[error("leaves of standby root {} may live until {until}, since the record was restored from a backup", root.short())]
    StandbyMayHaveSigned {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// When the last of them is over by everybody's clock.
        #[serde(with = "codec::seconds")]
        until: Timestamp,
    },
    /// The root is distrusted.
    #[error("root {} is distrusted", root.short())]
    Distrusted {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
    },
    /// The root is not distrusted.
    #[error("root {} is not distrusted", root.short())]
    NotDistrusted {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
    },
    /// No other root signs yet.
    #[error("root {} is {} while {phase}: no other root signs in its place yet", root.short(), state.as_str())]
    NotReplaced {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// Its state.
        state: RootState,
        /// The phase.
        phase: String,
    },
    /// An authority has everybody trust the root as one of others, too.
    #[error("root {} is trusted as a further root, too, since authority {authority} names it", root.short())]
    NamedByOthers {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// The authority.
        authority: AuthorityName,
    },
    /// No canary is under way.
    #[error("no canary is under way while {phase}")]
    NoCanary {
        /// The phase.
        phase: String,
    },
    /// Some would leave the cohort of a canary.
    #[error("the cohort is {present} now, and {asked} leaves out some of that")]
    CohortNarrower {
        /// What was asked for.
        #[serde(with = "codec::text")]
        asked: Cohort,
        /// The present one.
        #[serde(with = "codec::text")]
        present: Cohort,
    },
    /// The root has too little life left to sign.
    #[error("root {} can sign until {not_after} only", root.short())]
    LifeTooShort {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// The last second of a leaf under it.
        #[serde(with = "codec::seconds")]
        not_after: Timestamp,
        /// The shortest leaf worth issuing.
        min: Duration,
    },
}

const fn under_way(ending: Ending) -> &'static str {
    match ending {
        Ending::Completed => "is under way",
        Ending::Aborted => "was aborted and is still finishing",
        Ending::RolledBack => "was rolled back and is still finishing",
    }
}

fn others(agents: usize) -> String {
    match agents {
        0 | 1 => String::new(),
        2 => ", and so does one other agent".to_owned(),
        agents => format!(", and so do {} other agents", agents - 1),
    }
}

fn listed(holds: &[Hold]) -> String {
    holds.iter().map(Hold::to_string).collect::<Vec<_>>().join(", ")
}
