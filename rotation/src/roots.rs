//! Roots and their issuers, as the record keeps them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trust::{CertificateId, Timestamp};

use crate::codec;
use crate::{AuthorityName, Der, KeyName, Policy, RequestId};

/// What a root is to the mesh at this time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootState {
    /// Verified, not trusted.
    Staged,
    /// Trusted, not signing.
    Published,
    /// Trusted and signing.
    Active,
    /// Trusted, no longer signing, while leaves under it may be alive.
    Draining,
    /// No longer trusted; its key stays until it is destroyed.
    Retired,
}

impl RootState {
    /// Whether a root in this state belongs to the bundle.
    pub const fn is_trusted(self) -> bool {
        matches!(self, Self::Published | Self::Active | Self::Draining)
    }

    /// Whether leaves may be signed under a root in this state.
    pub const fn may_sign(self) -> bool {
        matches!(self, Self::Active)
    }

    /// The table of root states: whether a root in this state may be in `next` after one event. Staying is always
    /// allowed; from retirement a root comes back only as [`RootEntry::may_return`] says.
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Staged => matches!(next, Self::Staged | Self::Published | Self::Retired),
            Self::Published => matches!(next, Self::Published | Self::Active | Self::Retired),
            Self::Active => matches!(next, Self::Active | Self::Draining),
            // Back to active by a rollback, and by going forward after one.
            Self::Draining => matches!(next, Self::Draining | Self::Active | Self::Retired),
            Self::Retired => matches!(next, Self::Retired | Self::Staged),
        }
    }

    /// The state's name in texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Published => "published",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Retired => "retired",
        }
    }
}

/// A root of this trust domain, present or past.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct RootEntry {
    /// What it is to the mesh.
    pub state: RootState,
    /// Whether it counts as compromised.
    pub tainted: bool,
    /// Who holds its key.
    pub authority: AuthorityName,
    /// Whether nobody else issues under it. If somebody does, no count of our own leaves proves anything.
    pub exclusive: bool,
    /// The certificate.
    pub der: Der,
    /// Last second of the certificate.
    #[serde(with = "codec::seconds")]
    pub not_after: Timestamp,
    /// Latest end that any leaf under this root may ever have; `None` while none may be released. Never goes back.
    #[serde(with = "codec::optional_seconds")]
    pub horizon: Option<Timestamp>,
    /// The horizon that the root had when it was staged, if it signed before: nothing was released under it since while
    /// the horizon is the same.
    #[serde(default, with = "codec::optional_seconds", skip_serializing_if = "Option::is_none")]
    pub staged_horizon: Option<Timestamp>,
    /// Issuers that chain to this root.
    #[serde(with = "codec::text_keys")]
    pub issuers: BTreeMap<CertificateId, IssuerEntry>,
    /// The issuer that signs whenever this root does.
    #[serde(with = "codec::optional_text")]
    pub active_issuer: Option<CertificateId>,
    /// The renewal of the issuer that is under way, if one is.
    pub renewal: Option<IssuerRenewal>,
    /// When an operator last cancelled a renewal, if none was asked for since.
    #[serde(default, with = "codec::optional_seconds", skip_serializing_if = "Option::is_none")]
    pub renewal_cancelled_at: Option<Timestamp>,
}

impl RootEntry {
    /// Whether a leaf may have been released under this root since it was staged.
    pub fn signed_since_staged(&self) -> bool {
        self.horizon != self.staged_horizon
    }

    /// The first second at which a retired root may be forgotten: its certificate and every leaf under it are over by
    /// everybody's clock. `None` while it is not retired, and for one that is compromised, which must stay known.
    pub fn forgettable_from(&self, policy: &Policy) -> Option<Timestamp> {
        let last = self.horizon.map_or(self.not_after, |horizon| horizon.max(self.not_after));
        (self.state == RootState::Retired && !self.tainted).then(|| policy.over_at(last))
    }

    /// Whether this root may be staged although it is in the record: one whose rotation was given up before it ever
    /// signed is as good as unknown; one that signed returns only if it was named for that. A compromised one never does.
    pub fn may_return(&self, named: bool) -> bool {
        self.state == RootState::Retired && !self.tainted && (named || self.horizon.is_none())
    }
}

/// An intermediate certificate that signs leaves.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct IssuerEntry {
    /// Its certificate first, then any others up to the root, which is not among them.
    pub chain: Vec<Der>,
    /// Its private key at the key backend.
    pub key: KeyName,
    /// The earliest end in its chain.
    #[serde(with = "codec::seconds")]
    pub not_after: Timestamp,
}

/// A new issuer under the same root, asked for and not yet signed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct IssuerRenewal {
    /// Who requested it.
    pub request_id: RequestId,
    /// When.
    #[serde(with = "codec::seconds")]
    pub requested_at: Timestamp,
}
