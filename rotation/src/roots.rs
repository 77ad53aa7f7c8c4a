//! Roots and their issuers, as the record keeps them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trust::{CertificateId, Timestamp};

use crate::codec;
use crate::{AuthorityName, Der, KeyName, Policy, Rehearsal, ReplicaName, RequestId, Taint};

/// What a root is to the mesh at this time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootState {
    /// Verified, not trusted.
    Staged,
    /// Trusted, not signing.
    Published,
    /// Trusted, and signing for a cohort.
    Canary,
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
        matches!(self, Self::Published | Self::Canary | Self::Active | Self::Draining)
    }

    /// Whether leaves may be signed under a root in this state.
    pub const fn may_sign(self) -> bool {
        matches!(self, Self::Canary | Self::Active)
    }

    /// The table of root states: whether a root in this state may be in `next` after one event. Staying is always
    /// allowed; from retirement a root comes back only as [`RootEntry::may_return`] says.
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Staged => matches!(next, Self::Staged | Self::Published | Self::Retired),
            Self::Published => {
                matches!(next, Self::Published | Self::Canary | Self::Active | Self::Retired)
            }
            Self::Canary => matches!(next, Self::Canary | Self::Active | Self::Draining),
            Self::Active => matches!(next, Self::Active | Self::Draining),
            // Back to active by a rollback, and by going forward after one.
            Self::Draining => {
                matches!(next, Self::Draining | Self::Canary | Self::Active | Self::Retired)
            }
            Self::Retired => matches!(next, Self::Retired | Self::Staged),
        }
    }

    /// The state's name in texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Published => "published",
            Self::Canary => "canary",
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
    /// Who said so, and why. Records of former releases have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taint: Option<Taint>,
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
    /// Latest end that any probe leaf under this root may ever have, if one was ever allowed. Nobody holds a probe leaf but the
    /// agent that shakes hands with it, so no gate and no verb asks for this. Never goes back.
    #[serde(default, with = "codec::optional_seconds", skip_serializing_if = "Option::is_none")]
    pub probed_until: Option<Timestamp>,
    /// Issuers that chain to this root.
    #[serde(with = "codec::text_keys")]
    pub issuers: BTreeMap<CertificateId, IssuerEntry>,
    /// The issuer without an owner that signs whenever this root does. Only a record that a single server wrote has one: it
    /// is that server's.
    #[serde(with = "codec::optional_text")]
    pub active_issuer: Option<CertificateId>,
    /// The issuer that a replica signs with whenever this root signs.
    #[serde(default, with = "codec::signers", skip_serializing_if = "BTreeMap::is_empty")]
    pub signers: BTreeMap<ReplicaName, CertificateId>,
    /// The renewal of the issuer without an owner that is under way, if one is.
    pub renewal: Option<IssuerRenewal>,
    /// The issuers that replicas asked for and that are not signed yet; at most one for each.
    #[serde(default, with = "codec::text_keys", skip_serializing_if = "BTreeMap::is_empty")]
    pub renewals: BTreeMap<ReplicaName, IssuerRenewal>,
    /// When an operator last cancelled a renewal without an owner, if none was asked for since.
    #[serde(default, with = "codec::optional_seconds", skip_serializing_if = "Option::is_none")]
    pub renewal_cancelled_at: Option<Timestamp>,
    /// The same for each replica.
    #[serde(default, with = "codec::bounds", skip_serializing_if = "BTreeMap::is_empty")]
    pub renewals_cancelled: BTreeMap<ReplicaName, Timestamp>,
}

impl RootEntry {
    /// The issuer that a replica signs with whenever this root signs.
    pub fn signer_for(&self, replica: &ReplicaName) -> Option<CertificateId> {
        self.signers.get(replica).copied().or(self.active_issuer)
    }

    /// What a replica asked for and has not got yet.
    pub fn renewal_for(&self, replica: &ReplicaName) -> Option<&IssuerRenewal> {
        self.renewals.get(replica).or(self.renewal.as_ref())
    }

    /// When an operator last cancelled what a replica asked for, if it asked for nothing since.
    pub fn renewal_cancelled_for(&self, replica: &ReplicaName) -> Option<Timestamp> {
        self.renewals_cancelled.get(replica).copied().or(self.renewal_cancelled_at)
    }

    /// Every issuer that somebody signs with whenever this root signs.
    pub fn signing_issuers(&self) -> impl Iterator<Item = CertificateId> {
        self.active_issuer.into_iter().chain(self.signers.values().copied())
    }

    /// The issuer without an owner, while it alone signs under this root.
    pub(crate) fn ownerless_signer(&self) -> Option<CertificateId> {
        self.active_issuer.filter(|_| self.signers.is_empty())
    }

    /// Whether somebody can sign whenever this root signs.
    pub fn has_signer(&self) -> bool {
        self.signing_issuers().next().is_some()
    }

    /// Whatever was asked for and is not signed yet, whoever asked.
    pub fn all_renewals(&self) -> impl Iterator<Item = &IssuerRenewal> {
        self.renewal.iter().chain(self.renewals.values())
    }

    /// Whether it counts as compromised and is trusted all the same, since leaves of it may be in use.
    pub const fn is_distrusted(&self) -> bool {
        self.tainted && self.state.is_trusted()
    }

    /// Whether it left the bundle by somebody's word, before its last leaf was over.
    pub fn is_cut(&self) -> bool {
        self.taint.as_ref().is_some_and(|taint| taint.cut.is_some())
    }

    /// The last second at which a leaf under this root could end, if it signed now.
    pub fn signs_until(&self) -> Option<Timestamp> {
        let issuers = self.signing_issuers().filter_map(|id| self.issuers.get(&id));
        Some(issuers.map(|issuer| issuer.not_after).max()?.min(self.not_after))
    }

    /// Whether a leaf may have been released under this root since it was staged.
    pub fn signed_since_staged(&self) -> bool {
        self.horizon != self.staged_horizon
    }

    /// The first second at which a retired root may be forgotten: its certificate and every leaf under it are over by
    /// everybody's clock. `None` while it is not retired, and for one that is compromised, which must stay known.
    pub fn forgettable_from(&self, policy: &Policy) -> Option<Timestamp> {
        let ends = [Some(self.not_after), self.horizon, self.probed_until];
        let last = ends.into_iter().flatten().max()?;
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
    /// Whose key backend has its key. `None` in a record of a single server: then it is that server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaName>,
    /// What was rehearsed with it before it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<Rehearsal>,
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
