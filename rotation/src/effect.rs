//! What is to be done: the machine's requests, as data.

use serde::{Deserialize, Serialize};
use trust::{CertificateId, Generation, RootId, Sequence};

use crate::codec;
use crate::{AuthorityName, ReplicaName, RequestId};

/// Something to do outside the machine. Each is answered by the event named at it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Ask the authority for a new root. Answered by [`RootPrepared`](crate::Event::RootPrepared).
    StageRoot {
        /// For which request.
        request_id: RequestId,
        /// Whom to ask.
        authority: AuthorityName,
    },
    /// Make a key and have the authority sign an issuer for it. Only the replica that it names does this, since the key
    /// stays there. Answered by [`IssuerSigned`](crate::Event::IssuerSigned).
    RequestIssuer {
        /// For which request.
        request_id: RequestId,
        /// Whom to ask.
        authority: AuthorityName,
        /// Under which root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// For which replica; `None` on a record of a single server that names nobody.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replica: Option<ReplicaName>,
    },
    /// Serve the bundle of this state. Answered by [`BundlePublished`](crate::Event::BundlePublished).
    PublishBundle {
        /// The bundle's sequence.
        #[serde(with = "codec::sequence")]
        sequence: Sequence,
    },
    /// Sign under this root. Whoever does it first says so for all: what each replica shows is said by its seal. Answered
    /// by [`SignerSwitched`](crate::Event::SignerSwitched).
    SwitchSigner {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// The issuer, if it has no owner.
        #[serde(default, with = "codec::optional_text", skip_serializing_if = "Option::is_none")]
        issuer: Option<CertificateId>,
    },
}

impl Effect {
    /// The replica that alone can perform this effect; `None` if any of them can.
    pub const fn replica(&self) -> Option<&ReplicaName> {
        match self {
            Self::RequestIssuer { replica, .. } => replica.as_ref(),
            Self::StageRoot { .. } | Self::PublishBundle { .. } | Self::SwitchSigner { .. } => None,
        }
    }

    /// The effect's name in texts and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::StageRoot { .. } => "stage_root",
            Self::RequestIssuer { .. } => "request_issuer",
            Self::PublishBundle { .. } => "publish_bundle",
            Self::SwitchSigner { .. } => "switch_signer",
        }
    }

    /// What is being done, for sentences: `creating the new root`.
    pub const fn doing(&self) -> &'static str {
        match self {
            Self::StageRoot { .. } => "creating the new root",
            Self::RequestIssuer { .. } => "getting an issuer signed",
            Self::PublishBundle { .. } => "publishing the bundle",
            Self::SwitchSigner { .. } => "switching to the new issuer",
        }
    }

    /// The same text whenever this effect is performed, and for no other effect: the key under which a plugin makes
    /// something once, however often it is asked. It is at most 160 characters of letters, digits, `.`, `_` and `-`.
    pub fn idempotence_key(&self) -> String {
        match self {
            Self::StageRoot { request_id, .. } => format!("{request_id}.root"),
            Self::RequestIssuer { request_id, .. } => format!("{request_id}.issuer"),
            Self::PublishBundle { sequence } => format!("{sequence}.bundle"),
            Self::SwitchSigner { root, issuer: Some(issuer) } => format!("{root}.{issuer}.signer"),
            Self::SwitchSigner { root, issuer: None } => format!("{root}.signer"),
        }
    }
}

/// An effect that was decided and is not yet reported as done. It is stored with the state that decided it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PendingEffect {
    /// Generation of the state that decided it.
    #[serde(with = "codec::generation")]
    pub generation: Generation,
    /// What to do.
    pub effect: Effect,
}
