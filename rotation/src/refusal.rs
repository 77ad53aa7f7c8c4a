//! Why an event was refused, and what would make it legal. A refusal changes nothing.

use serde::{Deserialize, Serialize};
use trust::{CertificateId, Generation, RootId, Sequence, Timestamp};

use crate::codec;
use crate::{Event, RequestId, RootState, SegmentId, State};

/// An event that is not legal in the present state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{event} refused while {phase} at generation {generation}: {cause}; {}", self.legal())]
pub struct Refusal {
    /// Phase of the state that refused.
    pub phase: String,
    /// Generation of the state that refused.
    #[serde(with = "codec::generation")]
    pub generation: Generation,
    /// Name of the event.
    pub event: String,
    /// Why.
    pub cause: Cause,
}

/// Why an event is not legal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A root was founded before, on another request.
    #[error("this trust domain has its root")]
    AlreadyFounded,
    /// Another founding is under way.
    #[error("the founding of request {request_id} is under way")]
    FoundingUnderWay {
        /// Its request.
        request_id: RequestId,
    },
    /// The request id came before with another wish.
    #[error("request id {request_id} was used for another wish")]
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
}

impl Refusal {
    pub(crate) fn new(state: &State, event: &Event, cause: Cause) -> Self {
        Self {
            phase: state.phase.name().to_owned(),
            generation: state.generation,
            event: event.name().to_owned(),
            cause,
        }
    }

    /// What would make the event legal, or what to do instead.
    pub fn legal(&self) -> String {
        self.cause.legal()
    }
}

impl Cause {
    /// What would make the event legal, or what to do instead.
    pub fn legal(&self) -> String {
        match self {
            Self::AlreadyFounded => "to change the root, start a rotation".to_owned(),
            Self::FoundingUnderWay { .. } => "wait until it is over: it goes on by itself".to_owned(),
            Self::RequestIdReused { .. } => "use a new request id for a new wish".to_owned(),
            Self::NotAsked { .. } => "answers are taken only for pending effects".to_owned(),
            Self::AnsweredOtherwise { former, .. } => {
                format!("the authority must answer a repeated request with {former}")
            }
            Self::OtherRoot { asked, .. } => format!("the authority must sign under root {asked}"),
            Self::RootKnown { .. } => "the authority must make a root that is new".to_owned(),
            Self::Expired { .. } => {
                "the authority must answer with a certificate that is still valid".to_owned()
            }
            Self::OutlivesRoot { root_not_after, .. } => {
                format!("the issuer must end at {root_not_after} or before")
            }
            Self::NoChain => "the chain must start with the issuer's certificate".to_owned(),
            Self::UnknownRoot { .. } => "name a root of this trust domain".to_owned(),
            Self::RootMayNotSign { .. } => "name the root that is active".to_owned(),
            Self::RenewalUnderWay { .. } => "wait until it is over, or repeat its request id".to_owned(),
            Self::UnknownBundle { latest, .. } => format!("report bundle {latest} or a former one"),
            Self::UnknownIssuer { .. } => "report the issuer that the effect named".to_owned(),
            Self::UnknownSegment { .. } => "open the segment first".to_owned(),
            Self::SegmentTaken { .. } => "open a segment with a new id".to_owned(),
            Self::SegmentClosed { .. } => {
                "drop the requests that are in flight and open a segment with a new id".to_owned()
            }
            Self::GenerationAhead { .. } => "seal at the generation of a stored snapshot".to_owned(),
            Self::HorizonTooFar { limit, .. } => format!("ask for {limit} or earlier"),
        }
    }
}
