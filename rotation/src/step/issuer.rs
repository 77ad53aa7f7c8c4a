//! Issuers: the first one of a replica under a root, and its renewals. None of them changes a bundle.

use trust::{CertificateId, RootId, Timestamp};

use super::draft::{Decision, Draft};
use super::guards::{Asked, is_in_use, who_asked};
use super::{bootstrap, staging};
use crate::{
    BootstrapStep, Cause, Effect, IssuerEntry, IssuerRenewal, Phase, ReplicaName, RequestId,
    RootEntry, RootState, SignedIssuer, StagingStep, State,
};

/// What somebody requests: another issuer under a root.
pub(super) struct Renewal<'a> {
    pub(super) request_id: &'a RequestId,
    pub(super) root: RootId,
    pub(super) replica: Option<&'a ReplicaName>,
    /// Whether it takes the place of a renewal that is under way.
    pub(super) replaces: bool,
}

pub(super) fn renewal_requested(state: &State, asked: &Renewal<'_>, now: Timestamp) -> Decision {
    let Renewal { request_id, root, replica, replaces } = *asked;
    let entry = state.roots.get(&root).ok_or(Cause::UnknownRoot { root })?;
    let under_way = under_way(entry, replica);
    if under_way.is_some_and(|renewal| renewal.request_id == *request_id)
        || state.done.contains(request_id)
    {
        return Ok(None);
    }
    if is_in_use(state, request_id) {
        return Err(Cause::RequestIdReused { request_id: request_id.clone() });
    }
    if let Some(renewal) = under_way.filter(|_| !replaces) {
        return Err(Cause::RenewalUnderWay { request_id: renewal.request_id.clone() });
    }
    // A root that waits for its activation, or for a rollback, must be able to sign when it is called for; and one that is
    // being staged goes on with whichever issuer is signed first.
    let may_ask = match entry.state {
        RootState::Published | RootState::Canary | RootState::Active | RootState::Draining => true,
        RootState::Staged => replica.is_some(),
        RootState::Retired => false,
    };
    if !may_ask {
        return Err(Cause::RootMayNotSign { root, state: entry.state });
    }
    let mut draft = Draft::after(state);
    draft.give_up_renewal(root, replica);
    draft.ask_for_issuer(root, replica, request_id, now);
    Ok(Some(draft))
}

/// The issuer that signs goes on; another one is asked for later.
pub(super) fn renewal_cancelled(
    state: &State,
    request_id: &RequestId,
    root: RootId,
    replica: Option<&ReplicaName>,
    now: Timestamp,
) -> Decision {
    if state.done.contains(request_id) {
        return Ok(None);
    }
    if is_in_use(state, request_id) {
        return Err(Cause::RequestIdReused { request_id: request_id.clone() });
    }
    let entry = state.roots.get(&root).ok_or(Cause::UnknownRoot { root })?;
    // The first issuer of a root is not renewed but waited for: whoever does not want it gives the rotation up.
    if under_way(entry, replica).is_none() || !entry.has_signer() {
        return Err(Cause::NoRenewal { root });
    }
    let mut draft = Draft::after(state);
    draft.give_up_renewal(root, replica);
    if let Some(entry) = draft.state.roots.get_mut(&root) {
        match replica {
            Some(replica) => drop(entry.renewals_cancelled.insert(replica.clone(), now)),
            None => entry.renewal_cancelled_at = Some(now),
        }
    }
    draft.state.done.remember(request_id.clone());
    Ok(Some(draft))
}

fn under_way<'a>(entry: &'a RootEntry, replica: Option<&ReplicaName>) -> Option<&'a IssuerRenewal> {
    match replica {
        Some(replica) => entry.renewal_for(replica),
        None => entry.renewal.as_ref(),
    }
}

impl Draft {
    /// Has an issuer signed for a replica, which becomes what it signs with under this root.
    pub(super) fn ask_for_issuer(
        &mut self,
        root: RootId,
        replica: Option<&ReplicaName>,
        request_id: &RequestId,
        now: Timestamp,
    ) {
        let Some(entry) = self.state.roots.get_mut(&root) else { return };
        let renewal = IssuerRenewal { request_id: request_id.clone(), requested_at: now };
        match replica {
            Some(replica) => {
                entry.renewals.insert(replica.clone(), renewal);
                entry.renewals_cancelled.remove(replica);
            }
            None => {
                entry.renewal = Some(renewal);
                entry.renewal_cancelled_at = None;
            }
        }
        let (request_id, authority) = (request_id.clone(), entry.authority.clone());
        self.owe(Effect::RequestIssuer { request_id, authority, root, replica: replica.cloned() });
    }

    /// Asks no more for the issuer of a renewal that is under way. A late answer is one that nobody asked for.
    fn give_up_renewal(&mut self, root: RootId, replica: Option<&ReplicaName>) {
        let Some(entry) = self.state.roots.get_mut(&root) else { return };
        let named = replica.and_then(|replica| entry.renewals.remove(replica));
        let Some(IssuerRenewal { request_id, .. }) = named.or_else(|| entry.renewal.take()) else {
            return;
        };
        self.settle_request(&request_id);
        self.remember_request(request_id);
    }

    /// Strikes out what was asked for under this request.
    pub(super) fn settle_request(&mut self, request_id: &RequestId) {
        self.settle(
            |effect| matches!(effect, Effect::RequestIssuer { request_id: owed, .. } if owed == request_id),
        );
    }

    /// A request for an issuer is over. That of a bootstrap or a rotation is over only with it.
    fn remember_request(&mut self, request_id: RequestId) {
        if !is_in_use(&self.state, &request_id) && !self.state.done.contains(&request_id) {
            self.state.done.remember(request_id);
        }
    }
}

pub(super) fn signed(
    state: &State,
    request_id: &RequestId,
    issuer: &SignedIssuer,
    now: Timestamp,
) -> Decision {
    if state.roots.get(&issuer.root).is_some_and(|entry| entry.issuers.contains_key(&issuer.id)) {
        return Ok(None);
    }
    let Asked { root: asked, replica } =
        who_asked(state, request_id).ok_or(Cause::NotAsked { request_id: request_id.clone() })?;
    if asked != issuer.root {
        return Err(Cause::OtherRoot { asked, answered: issuer.root });
    }
    let mut draft = Draft::after(state);
    let entry = draft.state.roots.get_mut(&asked).ok_or(Cause::UnknownRoot { root: asked })?;
    let added = IssuerEntry { replica: replica.clone(), ..checked(issuer, entry, now)? };
    let signers = entry.signers.clone();
    let is_used = |id: &CertificateId| signers.values().any(|signer| signer == id);
    entry.issuers.retain(|id, former| former.not_after >= now || is_used(id));
    entry.issuers.insert(issuer.id, added);
    match &replica {
        Some(replica) => {
            entry.signers.insert(replica.clone(), issuer.id);
            entry.renewals.remove(replica);
        }
        None => (entry.active_issuer, entry.renewal) = (Some(issuer.id), None),
    }
    // A root that has come to drain meanwhile keeps the new issuer for a rollback.
    let switches = replica.is_none() && entry.state.may_sign();
    draft.settle_request(request_id);
    match first_of(state) {
        Some((root, for_bootstrap)) if root == asked => {
            // Whoever else was asked first and names no replica has no place to keep the answer.
            draft.settle(
                |effect| matches!(effect, Effect::RequestIssuer { replica: None, root, .. } if *root == asked),
            );
            match for_bootstrap {
                true => bootstrap::issuer_is_there(&mut draft, asked),
                false => staging::issuer_is_there(&mut draft, asked, now),
            }
        }
        _ if switches => {
            draft.settle(
                |effect| matches!(effect, Effect::SwitchSigner { root, .. } if *root == asked),
            );
            draft.owe(Effect::SwitchSigner { root: asked, issuer: Some(issuer.id) });
        }
        _ => {}
    }
    draft.remember_request(request_id.clone());
    Ok(Some(draft))
}

/// The root that waits for its first issuer, and whether it is that of the bootstrap.
const fn first_of(state: &State) -> Option<(RootId, bool)> {
    match &state.phase {
        Phase::Bootstrapping(bootstrap) => match bootstrap.step {
            BootstrapStep::RequestingIssuer { root } => Some((root, true)),
            BootstrapStep::StagingRoot | BootstrapStep::Publishing { .. } => None,
        },
        Phase::Staging(staging) => match staging.step {
            StagingStep::RequestingIssuer { root } => Some((root, false)),
            StagingStep::StagingRoot | StagingStep::Ready { .. } => None,
        },
        Phase::Uninitialised
        | Phase::Steady(_)
        | Phase::Distributing(_)
        | Phase::Canary(_)
        | Phase::Draining(_)
        | Phase::Withdrawing(_) => None,
    }
}

/// A former signer is what no request here holds any more.
pub(super) fn switched(state: &State, root: RootId, issuer: Option<CertificateId>) -> Decision {
    let entry = state.roots.get(&root).ok_or(Cause::UnknownRoot { root })?;
    if let Some(issuer) = issuer.filter(|issuer| !entry.issuers.contains_key(issuer)) {
        return Err(Cause::UnknownIssuer { root, issuer });
    }
    let settled = |effect: &Effect| {
        matches!(effect, Effect::SwitchSigner { root: owed, issuer: named }
            if *owed == root && (named.is_none() || *named == issuer))
    };
    if !state.pending.iter().any(|pending| settled(&pending.effect)) {
        return Ok(None);
    }
    let mut draft = Draft::after(state);
    draft.settle(settled);
    Ok(Some(draft))
}

fn checked(issuer: &SignedIssuer, root: &RootEntry, now: Timestamp) -> Result<IssuerEntry, Cause> {
    let SignedIssuer { chain, key, not_after, rehearsal, .. } = issuer;
    if chain.is_empty() {
        return Err(Cause::NoChain);
    }
    if *not_after <= now {
        return Err(Cause::Expired { not_after: *not_after });
    }
    if *not_after > root.not_after {
        return Err(Cause::OutlivesRoot { not_after: *not_after, root_not_after: root.not_after });
    }
    let (chain, key, rehearsal) = (chain.clone(), key.clone(), rehearsal.clone());
    Ok(IssuerEntry { chain, key, not_after: *not_after, replica: None, rehearsal })
}
