//! The issuers of this replica: it has one under each root that signs or may come to sign, with a key in its own key backend.
//! What it lacks, or lost with its disk, it asks for by itself; what has lived for half of its life it renews.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use plugins::{KeyBackend, KeyError, KeyId};
use rotation::{Event, ReplicaName, RequestId, RootEntry, RootState, SegmentId, Signer, State};
use trust::digest::sha256;
use trust::{Certificate, CertificateId, RootId, Timestamp};

use crate::own_leaf::is_past_half;

/// How long a renewal that an operator cancelled is not asked for again by itself.
const CANCELLED_HOLDS: Duration = Duration::from_secs(3_600);

/// What this replica signs with, root by root.
#[derive(Debug)]
pub struct OwnIssuers {
    replica: ReplicaName,
    /// The incarnation; none while the ledger is not open.
    segment: Option<SegmentId>,
    keys: Arc<dyn KeyBackend>,
    /// Issuers whose keys were seen in the key backend.
    present: BTreeSet<CertificateId>,
    /// Of each root the first issuer that was found not to have begun. One that comes after it is not asked for again: then the
    /// authority's clock is ahead.
    ahead: BTreeMap<RootId, CertificateId>,
    /// Age at which the issuer that signs is replaced under the same root; none for half of its life alone.
    renew_every: Option<Duration>,
}

/// An issuer that is to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Under which root.
    pub root: RootId,
    /// Why.
    pub why: Why,
    request_id: RequestId,
    replica: ReplicaName,
}

/// Why an issuer is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// This replica has none.
    None,
    /// Its key is gone.
    Lost,
    /// It begins in the future: it was asked for while the wall clock was ahead.
    Ahead,
    /// Half of its life is over.
    Old,
    /// It signs for as long as the configuration lets one sign.
    Scheduled,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "this replica has no issuer under the root",
            Self::Lost => "the key of this replica's issuer is not in its key backend",
            Self::Ahead => "the issuer of this replica begins in the future",
            Self::Old => "the issuer is past half of its life",
            Self::Scheduled => "the issuer is as old as root.issuer_renew_every",
        })
    }
}

impl Due {
    /// What is asked of the machine.
    pub fn event(&self) -> Event {
        Event::IssuerRenewalRequested {
            request_id: self.request_id.clone(),
            root: self.root,
            replica: Some(self.replica.clone()),
            replaces: false,
        }
    }
}

impl OwnIssuers {
    /// The issuers of this replica, whose keys are in this backend.
    pub fn new(
        replica: ReplicaName,
        segment: Option<SegmentId>,
        keys: Arc<dyn KeyBackend>,
    ) -> Self {
        Self {
            replica,
            segment,
            keys,
            present: BTreeSet::new(),
            ahead: BTreeMap::new(),
            renew_every: None,
        }
    }

    /// Replaces the one that signs at this age too.
    #[must_use]
    pub const fn renewed_every(mut self, age: Option<Duration>) -> Self {
        self.renew_every = age;
        self
    }

    /// Whose they are.
    pub const fn replica(&self) -> &ReplicaName {
        &self.replica
    }

    /// What is to be asked for now; one at a time. Asked again it is the same, until something comes of it.
    pub async fn due(&mut self, state: &State, now: Timestamp) -> Option<Due> {
        let lost = self.lost(state).await;
        let ahead = self.ahead(state, now);
        let wanted = state.roots.iter().filter(|(id, entry)| may_sign(state, id, entry));
        let mut lacking = wanted.filter_map(|(id, entry)| {
            let signer = entry.signer_for(&self.replica);
            let why = match signer {
                None => Why::None,
                Some(signer) if lost.contains(&signer) => Why::Lost,
                Some(signer) if ahead.contains(&signer) => Why::Ahead,
                Some(_) => return None,
            };
            self.asks(*id, entry, why, now)
        });
        lacking.next().or_else(|| {
            let (root, why) = old_issuer(state, &self.replica, self.renew_every, now)?;
            self.asks(root, state.roots.get(&root)?, why, now)
        })
    }

    /// Whether a rotation waits for an issuer of this replica that was not asked for yet. Nothing is asked for this.
    pub fn is_waited_for(&self, state: &State) -> bool {
        let comes = |entry: &RootEntry| {
            entry.state.is_on_its_way_in()
                && entry.signer_for(&self.replica).is_none()
                && entry.renewal_for(&self.replica).is_none()
        };
        state.phase.rotation().is_some() && state.roots.values().any(comes)
    }

    /// Whether this replica can sign under the root that signs.
    pub async fn can_sign(&mut self, state: &State, now: Timestamp) -> bool {
        let Some(signer) = state.signer_of(&self.replica) else { return false };
        !self.ahead(state, now).contains(&signer.issuer)
            && !self.lost(state).await.contains(&signer.issuer)
    }

    /// Issuers of this replica that have not begun.
    fn ahead(&mut self, state: &State, now: Timestamp) -> BTreeSet<CertificateId> {
        let mut ahead = BTreeSet::new();
        for (root, entry) in state.roots.iter().filter(|(_, entry)| !entry.state.is_retired()) {
            let Some(signer) = entry.signer_for(&self.replica) else { continue };
            let first = entry.issuers.get(&signer).and_then(|issuer| issuer.chain.first());
            let parsed = first.and_then(|der| Certificate::parse(der.as_bytes()).ok());
            let begins = parsed.map(|certificate| certificate.validity().not_before());
            if begins.is_some_and(|begins| begins > now)
                && *self.ahead.entry(*root).or_insert(signer) == signer
            {
                ahead.insert(signer);
            }
        }
        ahead
    }

    /// The same request for as long as the same is the case, so that asking again asks for nothing twice.
    fn asks(&self, root: RootId, entry: &RootEntry, why: Why, now: Timestamp) -> Option<Due> {
        let cancelled = entry.renewal_cancelled_for(&self.replica);
        if entry.renewal_for(&self.replica).is_some()
            || cancelled.is_some_and(|at| now < at.plus(CANCELLED_HOLDS))
        {
            return None;
        }
        let has = entry.signer_for(&self.replica);
        let case = format!(
            "{root} {} {:?} {has:?} {:?}",
            self.replica,
            self.segment,
            cancelled.map(Timestamp::as_secs)
        );
        let digest = sha256(case.as_bytes());
        let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let request_id = RequestId::parse(&format!("issuer-{digest}")).ok()?;
        Some(Due { root, why, request_id, replica: self.replica.clone() })
    }

    /// Issuers of this replica whose keys are not in its key backend. A backend that does not answer has lost nothing.
    async fn lost(&mut self, state: &State) -> BTreeSet<CertificateId> {
        let mut lost = BTreeSet::new();
        for entry in state.roots.values().filter(|entry| !entry.state.is_retired()) {
            let signer = entry.signer_for(&self.replica);
            let Some(signer) = signer.filter(|signer| !self.present.contains(signer)) else {
                continue;
            };
            let key =
                entry.issuers.get(&signer).and_then(|one| KeyId::parse(one.key.as_str()).ok());
            let Some(key) = key else { continue };
            match self.keys.public(&key).await {
                Ok(_) => drop(self.present.insert(signer)),
                Err(KeyError::NotFound { .. }) => drop(lost.insert(signer)),
                Err(_) => {}
            }
        }
        lost
    }
}

/// Whether leaves are signed under this root, or may come to be.
fn may_sign(state: &State, id: &RootId, entry: &RootEntry) -> bool {
    match entry.state {
        RootState::Staged | RootState::Published | RootState::Canary | RootState::Active => true,
        // After a rollback it waits to sign again.
        RootState::Draining => {
            state.phase.gate_name() == Some(rotation::evidence::GateName::Trust)
                && state.phase.changes().is_some_and(|(_, to)| to == *id)
        }
        RootState::Retired => false,
    }
}

/// A root that signs, if this replica's issuer under it should be renewed, and why.
fn old_issuer(
    state: &State,
    replica: &ReplicaName,
    renew_every: Option<Duration>,
    now: Timestamp,
) -> Option<(RootId, Why)> {
    let signers = [state.signer_of(replica), state.canary_signer_of(replica)];
    signers.into_iter().flatten().find_map(|signer| is_old(state, signer, renew_every, now))
}

fn is_old(
    state: &State,
    signer: Signer,
    renew_every: Option<Duration>,
    now: Timestamp,
) -> Option<(RootId, Why)> {
    let root = state.roots.get(&signer.root)?;
    let issuer =
        Certificate::parse(root.issuers.get(&signer.issuer)?.chain.first()?.as_bytes()).ok()?;
    let validity = issuer.validity();
    // Where the root leaves no more room, a new issuer would end no later: only a new root helps.
    let room = root.not_after > validity.not_after().plus(validity.not_after().since(now));
    if room && is_past_half(&validity, now) {
        return Some((signer.root, Why::Old));
    }
    // Here it is about the key, and how long a new issuer lives is the authority's to judge.
    let age = now.since(validity.not_before());
    renew_every.filter(|most| age >= *most).map(|_| (signer.root, Why::Scheduled))
}

/// A replica that cannot go on when the root changes, in one sentence with what to do.
pub fn missing(state: &State, replica: &ReplicaName) -> Option<String> {
    let root = state.signing_root()?;
    if state.signer_of(replica).is_some() {
        return None;
    }
    let authority = &state.roots.get(&root)?.authority;
    Some(format!(
        "this replica has no issuer under root {}, which signs: it asks authority {authority} for one by itself; `banyan \
         authority check {authority}` says how the authority is",
        root.short()
    ))
}

#[cfg(test)]
mod tests;
