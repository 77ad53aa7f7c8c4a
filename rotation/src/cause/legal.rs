//! What would make legal what was refused, in words.

use crate::evidence::Hold;
use crate::{Advice, Cause};

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
            Self::NotStandby { .. } => {
                "`banyan root standby list` shows those that are".to_owned()
            }
            Self::StandbyMayHaveSigned { until, .. } => format!("it can be dropped from {until} on"),
            Self::NoCanary { .. } => {
                "a cohort grows only in phase `canary`, which a rotation has that was started with --canary".to_owned()
            }
            Self::CohortNarrower { present, .. } => format!(
                "a cohort only grows: name {present} and whom else; or take it back as a whole with `banyan rotate rollback`"
            ),
            Self::NotDistrusted { .. } => "only a distrusted root is cut off".to_owned(),
            Self::NotReplaced { .. } => {
                "it can be cut off once another root signs: `banyan rotate explain` says what that waits for".to_owned()
            }
            Self::NamedByOthers { authority, .. } => {
                format!("have authority {authority} name it no more, and distrust it again then")
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
            | Self::Distrusted { .. }
            | Self::NothingToRollBack
            | Self::FormerRootLeft
            | Self::RolledBackBefore => return None,
        })
    }
}
