//! The one stored record: which roots there are, what each is to the mesh, and where the machine stands.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use trust::{CertificateId, Generation, RootId, Sequence, Timestamp, TrustDomain};

use crate::codec;
use crate::{
    Der, DoneRequests, Effect, FurtherEntry, LOST_REPLICA, PendingEffect, Phase, Policy,
    ReplicaName, RootEntry, RootState, Segment, SegmentId, Sightings,
};

/// The state of one trust domain. Small, ordered and hashable; everything the machine knows is in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct State {
    /// Whose roots these are.
    #[serde(with = "codec::trust_domain")]
    pub trust_domain: TrustDomain,
    /// Version of this record: one more at each change. 0 is the state that was never stored.
    #[serde(with = "codec::generation")]
    pub generation: Generation,
    /// Number of the current bundle: one more at each change of its roots. 0 until there is a bundle.
    #[serde(with = "codec::sequence")]
    pub sequence: Sequence,
    /// Where the machine stands.
    pub phase: Phase,
    /// Every root that is or was ours. A map, never a pair of old and new: several may be published at once.
    #[serde(with = "codec::text_keys")]
    pub roots: BTreeMap<RootId, RootEntry>,
    /// Roots of others that are trusted because an authority of ours says so; a root may be ours, too.
    #[serde(default, with = "codec::text_keys", skip_serializing_if = "BTreeMap::is_empty")]
    pub further: BTreeMap<RootId, FurtherEntry>,
    /// Every segment of the ledger that may hold a live row.
    #[serde(with = "codec::text_keys")]
    pub segments: BTreeMap<SegmentId, Segment>,
    /// Effects decided and not yet reported as done, in the order they were decided.
    pub pending: Vec<PendingEffect>,
    /// Requests that were carried out lately.
    pub done: DoneRequests,
    /// What agents hold that this record never published. While there is any, the bundle does not change.
    #[serde(default, skip_serializing_if = "Sightings::is_empty")]
    pub seen: Sightings,
}

/// What one replica signs leaves with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signer {
    /// The root above it.
    pub root: RootId,
    /// The issuer itself.
    pub issuer: CertificateId,
}

impl State {
    /// The state before the first event. It is never stored: a record that exists has a generation of 1 or more.
    pub fn uninitialised(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            generation: Generation(0),
            sequence: Sequence(0),
            phase: Phase::Uninitialised,
            roots: BTreeMap::new(),
            further: BTreeMap::new(),
            segments: BTreeMap::new(),
            pending: Vec::new(),
            done: DoneRequests::default(),
            seen: Sightings::default(),
        }
    }

    /// The certificates of the current bundle, by the ids of their roots: our own, and further ones.
    pub fn bundle(&self) -> BTreeMap<RootId, &Der> {
        let further = self.further.iter().map(|(id, entry)| (*id, &entry.der));
        self.own_bundle().map(|(id, entry)| (*id, &entry.der)).chain(further).collect()
    }

    /// The ids of the roots of the current bundle.
    pub(crate) fn bundle_ids(&self) -> BTreeSet<RootId> {
        self.bundle().into_keys().collect()
    }

    /// Our own roots in the current bundle, by id.
    pub fn own_bundle(&self) -> impl Iterator<Item = (&RootId, &RootEntry)> {
        self.roots.iter().filter(|(_, entry)| entry.state.is_trusted())
    }

    /// Whether a bundle was decided that is not out yet.
    pub(crate) fn publishes(&self) -> bool {
        self.pending.iter().any(|pending| matches!(pending.effect, Effect::PublishBundle { .. }))
    }

    /// The root that leaves are signed under now; `None` until the bootstrap is over.
    pub fn signing_root(&self) -> Option<RootId> {
        self.signing_entry().map(|(root, _)| root)
    }

    /// What this replica signs leaves with now; `None` until the bootstrap is over, and while the replica has no issuer
    /// under the root that signs.
    pub fn signer_of(&self, replica: &ReplicaName) -> Option<Signer> {
        let (root, entry) = self.signing_entry()?;
        Some(Signer { root, issuer: entry.signer_for(replica)? })
    }

    /// What this replica signs leaves of the cohort with, while a root signs for a cohort; `None` also while the replica has no
    /// issuer under it: then it signs with what everybody else's leaves are signed with.
    pub fn canary_signer_of(&self, replica: &ReplicaName) -> Option<Signer> {
        let root = self.phase.canary()?.to;
        Some(Signer { root, issuer: self.roots.get(&root)?.signer_for(replica)? })
    }

    fn signing_entry(&self) -> Option<(RootId, &RootEntry)> {
        let mut signing = self.roots.iter().filter(|(_, entry)| entry.state == RootState::Active);
        signing.next().map(|(root, entry)| (*root, entry))
    }

    /// The replicas that may release leaves: each has a segment that is not closed.
    pub fn live_replicas(&self) -> BTreeSet<&ReplicaName> {
        let open = self.segments.values().filter(|segment| !segment.is_closed());
        open.map(|segment| &segment.replica).collect()
    }

    /// Latest end that a leaf under `root` may have when it is released into `segment`: the lesser of the root's
    /// horizon and the segment's bound. `None` while none may be released: the root does not sign, the segment is
    /// closed or unknown, or no horizon was asked for yet.
    pub fn leaf_limit(&self, root: &RootId, segment: &SegmentId) -> Option<Timestamp> {
        let entry = self.roots.get(root).filter(|entry| entry.state.may_sign())?;
        let segment = self.segments.get(segment).filter(|segment| !segment.is_closed())?;
        entry.horizon.min(segment.bounds.get(root).copied())
    }

    /// When the last leaf must have ended that was lost with a newer record: this one was restored from a backup. `None` when
    /// nothing was lost, or all that was is over.
    pub fn lost_rows_until(&self, now: Timestamp, policy: &Policy) -> Option<Timestamp> {
        let lost = self.segments.values().filter(|one| one.replica.as_str() == LOST_REPLICA);
        let last = lost.filter_map(Segment::last_bound).max()?;
        (!policy.has_passed(last, now)).then(|| policy.over_at(last))
    }

    /// The segments of one replica, present and former.
    pub fn segments_of(
        &self,
        replica: &ReplicaName,
    ) -> impl Iterator<Item = (&SegmentId, &Segment)> {
        self.segments.iter().filter(move |(_, segment)| segment.replica == *replica)
    }
}
