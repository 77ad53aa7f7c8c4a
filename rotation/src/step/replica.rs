//! Replicas that come to share a record, and one that leaves it for good.

use std::collections::BTreeSet;

use trust::RootId;

use super::draft::{Decision, Draft};
use crate::{
    Cause, Contents, Effect, IssuerRenewal, LOST_REPLICA, ReplicaName, RequestId, RootEntry,
    RootState, SegmentState, State,
};

/// Its segments take no row any more; those that were not read to the end count as full until their bounds have passed. Its
/// issuers are forgotten: a leaf of theirs is one of nobody here.
pub(super) fn removed(state: &State, request_id: &RequestId, replica: &ReplicaName) -> Decision {
    if state.done.contains(request_id) {
        return Ok(None);
    }
    if !state.knows(replica) {
        return Err(Cause::UnknownReplica { replica: replica.clone() });
    }
    if let Some(root) = needs(state, replica) {
        return Err(Cause::LastSigner { replica: replica.clone(), root });
    }
    let mut draft = Draft::after(state);
    for segment in draft.state.segments.values_mut().filter(|one| one.replica == *replica) {
        if !segment.is_closed() {
            segment.state = SegmentState::Closed(Contents::Unread);
        }
    }
    for entry in draft.state.roots.values_mut() {
        entry.issuers.retain(|_, issuer| issuer.replica.as_ref() != Some(replica));
        entry.signers.remove(replica);
        entry.renewals.remove(replica);
        entry.renewals_cancelled.remove(replica);
    }
    draft.settle(|effect| effect.replica() == Some(replica));
    draft.state.done.remember(request_id.clone());
    Ok(Some(draft))
}

/// A root that could not sign without this replica.
fn needs(state: &State, replica: &ReplicaName) -> Option<RootId> {
    let others: BTreeSet<_> =
        state.live_replicas().into_iter().filter(|one| *one != replica).collect();
    let can = |entry: &RootEntry| others.iter().any(|other| entry.signer_for(other).is_some());
    let asked = |root: &RootId| {
        let of_another = |effect: &Effect| {
            matches!(effect, Effect::RequestIssuer { root: under, replica: whose, .. }
                if under == root && whose.as_ref() != Some(replica))
        };
        state.pending.iter().any(|pending| of_another(&pending.effect))
    };
    let lacks = |(root, entry): &(&RootId, &RootEntry)| match entry.state {
        RootState::Active => !can(entry),
        RootState::Published | RootState::Canary | RootState::Draining => {
            entry.signing_issuers().all(|id| entry.signers.get(replica) == Some(&id))
        }
        RootState::Staged => {
            entry.signing_issuers().all(|id| entry.signers.get(replica) == Some(&id))
                && !asked(root)
        }
        RootState::Retired => false,
    };
    state.roots.iter().find(lacks).map(|(root, _)| *root)
}

impl State {
    /// Whether the record has anything of this replica.
    fn knows(&self, replica: &ReplicaName) -> bool {
        let named = |entry: &RootEntry| {
            entry.signers.contains_key(replica) || entry.renewals.contains_key(replica)
        };
        self.segments_of(replica).next().is_some() || self.roots.values().any(named)
    }
}

impl Draft {
    /// Names the owner of issuers without one, when a second replica comes: whoever was here before. A record of a single
    /// server thus stays as it was written for as long as that server is alone.
    pub(super) fn name_owner(&mut self, former: &State, comes: &ReplicaName) {
        if former.segments_of(comes).next().is_some() {
            return;
        }
        let others = former.segments.values().filter(|one| one.replica.as_str() != LOST_REPLICA);
        let Some(owner) = others.max_by_key(|one| one.last_bound()).map(|one| &one.replica) else {
            return;
        };
        let requested_at = former.phase.since().unwrap_or_default();
        let roots = &mut self.state.roots;
        self.state.pending.retain_mut(|pending| match &mut pending.effect {
            Effect::RequestIssuer { request_id, root, replica: replica @ None, .. } => {
                let Some(entry) = roots.get_mut(root) else { return false };
                if entry.renewals.contains_key(owner) {
                    return false;
                }
                let first = IssuerRenewal { request_id: request_id.clone(), requested_at };
                let asked = entry.renewal.take().unwrap_or(first);
                entry.renewals.insert(owner.clone(), asked);
                *replica = Some(owner.clone());
                true
            }
            Effect::SwitchSigner { issuer, .. } => {
                *issuer = None;
                true
            }
            _ => true,
        });
        roots.values_mut().for_each(|entry| entry.owned_by(owner));
    }
}

impl RootEntry {
    fn owned_by(&mut self, owner: &ReplicaName) {
        for issuer in self.issuers.values_mut() {
            issuer.replica.get_or_insert_with(|| owner.clone());
        }
        if let Some(issuer) = self.active_issuer.take() {
            self.signers.entry(owner.clone()).or_insert(issuer);
        }
        self.renewal = None;
        if let Some(at) = self.renewal_cancelled_at.take() {
            self.renewals_cancelled.entry(owner.clone()).or_insert(at);
        }
    }
}
