//! Why an event is not legal, by what would make it so.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use trust::{CertificateId, Generation, RootId, Sequence, Timestamp};

use crate::codec;
use crate::evidence::{GateName, Hold};
use crate::{Advice, AuthorityName, Ending, ReplicaName, RequestId, RootState, SegmentId};

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

impl Cause {
    /// What would make the event legal, or what to do instead: in the words of the advice, which is legal in the state that
    /// refused.
    pub fn legal(&self, advice: &Advice) -> String {
        let advised = advice.in_words();
        match (self.correction(), advised.is_empty()) {
            (Some(correction), true) => correction,
            (Some(correction), false) => format!("{correction}; {advised}"),
            (None, true) => "`banyan rotate status` says what is legal now".to_owned(),
            (None, false) => advised,
        }
    }

    /// How the event itself must be made otherwise.
    fn correction(&self) -> Option<String> {
        Some(match self {
            Self::RequestIdReused { .. } => "use a new request id".to_owned(),
            Self::NotAsked { .. } => "answers are taken only for pending effects".to_owned(),
            Self::AnsweredOtherwise { former, .. } => {
                format!("the authority must answer a repeated request with {former}")
            }
            Self::OtherRoot { asked, .. } => format!("the authority must sign under root {asked}"),
            Self::RootKnown { root } => format!(
                "give the authority another root; if this one was withdrawn and shall return, give the rotation up, then \
                 `banyan rotate start --stage-again {} --by NAME`",
                root.short()
            ),
            Self::Expired { .. } => {
                "the authority must answer with a certificate that is still valid".to_owned()
            }
            Self::OutlivesRoot { root_not_after, .. } => {
                format!("the issuer must end at {root_not_after} or before")
            }
            Self::NoChain => "the chain must start with the issuer's certificate".to_owned(),
            Self::UnknownRoot { .. } => "name a root of this trust domain".to_owned(),
            Self::RootMayNotSign { .. } => "name the root that is active".to_owned(),
            Self::NoRenewal { .. } => "nothing is to be cancelled".to_owned(),
            Self::UnknownBundle { latest, .. } => format!("report bundle {latest} or a former one"),
            Self::UnknownIssuer { .. } => "report the issuer that the effect named".to_owned(),
            Self::UnknownSegment { .. } => "open the segment first".to_owned(),
            Self::SegmentTaken { .. } => "open a segment with a new id".to_owned(),
            Self::SegmentClosed { .. } => {
                "drop the requests that are in flight and open a segment with a new id".to_owned()
            }
            Self::GenerationAhead { .. } => {
                "seal at the generation of a stored snapshot".to_owned()
            }
            Self::HorizonTooFar { limit, .. } => format!("ask for {limit} or earlier"),
            Self::EvidenceAhead { .. } => {
                "read the evidence again: the clock was set back".to_owned()
            }
            Self::EvidenceStale { wanted, .. } => {
                format!("read the evidence again, about bundle {wanted}")
            }
            Self::GateClosed { holds, opens_at_latest: None, .. } => {
                let ways: Vec<_> = holds.iter().filter_map(Hold::way).collect();
                format!("it does not open by itself: {}", ways.join("; "))
            }
            Self::BundleUnknown { .. } => "first read `banyan state show`".to_owned(),
            Self::NotAbove { least, .. } => {
                format!("name {least} or more, as `banyan state show` says")
            }
            Self::LostLeavesMayLive { .. } => "ask again then".to_owned(),
            Self::TooManyDismissed => {
                "ban the agents that say what is not so, then let their word count again".to_owned()
            }
            Self::NotDismissed { .. } => "`banyan state show` names those that are".to_owned(),
            Self::WithdrawnBefore { root } => format!(
                "let the authority leave it out; if it shall be trusted again, name it there: trust_again = [\"{root}\"]"
            ),
            Self::NeverSigned { .. } => "rotate to that authority first".to_owned(),
            Self::BundleChanges { .. } => {
                "wait until that is over: it is taken up again by itself".to_owned()
            }
            Self::TooManyFurther => "let authorities name fewer".to_owned(),
            Self::NotRetired { .. } => {
                "only a retired root can be forgotten; `banyan root list` shows them".to_owned()
            }
            Self::StillCounts { from, .. } => format!("it can be forgotten from {from} on"),
            Self::NeverForgotten { .. } => "leave it out".to_owned(),
            Self::UnknownReplica { .. } => {
                "name one that `banyan replica list` shows; one that was removed is gone already"
                    .to_owned()
            }
            Self::LastSigner { replica, .. } => {
                format!("start another replica and wait until it is ready, then remove {replica}")
            }
            Self::LifeTooShort { min, .. } => {
                format!("a root needs {} s of life to sign again", min.as_secs())
            }
            // Here the advice says it all.
            Self::AlreadyBootstrapped
            | Self::BootstrapUnderWay { .. }
            | Self::RenewalUnderWay { .. }
            | Self::NotBootstrapped
            | Self::RotationUnderWay { .. }
            | Self::NoRotation
            | Self::Held { .. }
            | Self::GateClosed { opens_at_latest: Some(_), .. }
            | Self::NothingToActivate
            | Self::TooLateToAbort
            | Self::MayHaveSigned
            | Self::NothingToRollBack
            | Self::FormerRootLeft
            | Self::RolledBackBefore => return None,
        })
    }
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
