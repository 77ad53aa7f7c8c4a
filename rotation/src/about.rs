//! What an event is about, for whoever reads the journal: a root, an authority, a request.

use trust::RootId;

use crate::{AuthorityName, Effect, Event, RequestId};

/// What an event names, as far as it names anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About<'a> {
    /// The root.
    pub root: Option<RootId>,
    /// The authority.
    pub authority: Option<&'a AuthorityName>,
    /// The request.
    pub request_id: Option<&'a RequestId>,
}

impl About<'_> {
    /// Takes what is missing here from an effect that the event led to.
    #[must_use]
    pub fn or_of(self, effect: &Effect) -> Self {
        let root = match effect {
            Effect::RequestIssuer { root, .. } | Effect::SwitchSigner { root, .. } => Some(*root),
            Effect::StageRoot { .. } | Effect::PublishBundle { .. } => None,
        };
        Self { root: self.root.or(root), ..self }
    }
}

impl Event {
    /// What this event is about.
    pub const fn about(&self) -> About<'_> {
        let (root, authority, request_id) = match self {
            Self::BootstrapRequested { request_id, authority } => {
                (None, Some(authority), Some(request_id))
            }
            Self::RotationRequested { request_id, authority, stage_again, .. } => {
                (*stage_again, Some(authority), Some(request_id))
            }
            Self::RootPrepared { request_id, root, .. } => (Some(root.id), None, Some(request_id)),
            Self::IssuerSigned { request_id, issuer } => {
                (Some(issuer.root), None, Some(request_id))
            }
            Self::IssuerRenewalRequested { request_id, root, .. }
            | Self::IssuerRenewalCancelled { request_id, root, .. } => {
                (Some(*root), None, Some(request_id))
            }
            Self::RootDistrusted { request_id, root, authority, .. } => {
                (Some(*root), Some(authority), Some(request_id))
            }
            Self::StandbyPromoted { request_id, root, .. }
            | Self::StandbyDropped { request_id, root }
            | Self::RootTrustedAgain { request_id, root, .. }
            | Self::DistrustedRootCut { request_id, root, .. } => {
                (Some(*root), None, Some(request_id))
            }
            Self::SignerSwitched { root, .. }
            | Self::HorizonRequested { root, .. }
            | Self::ProbesRequested { root, .. } => (Some(*root), None, None),
            Self::ActivateRequested { request_id, .. }
            | Self::CanaryWidened { request_id, .. }
            | Self::HoldRequested { request_id }
            | Self::ResumeRequested { request_id }
            | Self::AbortRequested { request_id }
            | Self::RollbackRequested { request_id }
            | Self::ContinueRequested { request_id, .. }
            | Self::RecoveryRequested { request_id, .. }
            | Self::SightingDismissed { request_id, .. }
            | Self::SightingHeeded { request_id, .. }
            | Self::PruneRequested { request_id, .. }
            | Self::ReplicaRemoved { request_id, .. } => (None, None, Some(request_id)),
            Self::FurtherRootsAdded { authority, .. }
            | Self::FurtherRootsRemoved { authority, .. } => (None, Some(authority), None),
            Self::BundlePublished { .. }
            | Self::SegmentOpened { .. }
            | Self::SegmentSealed { .. }
            | Self::SegmentClosed { .. }
            | Self::EvidenceReported { .. }
            | Self::ClockAccepted { .. }
            | Self::OperatorActed { .. }
            | Self::BundleSighted { .. }
            | Self::DriverStarted => (None, None, None),
        };
        About { root, authority, request_id }
    }
}
