//! Issuers: the first one of a root, and its renewals under the same root. Neither changes a bundle.

use trust::{CertificateId, RootId, Timestamp};

use super::draft::{Decision, Draft};
use super::guards::{Whose, is_in_use, who_asked};
use super::{bootstrap, staging};
use crate::{Cause, Effect, IssuerEntry, IssuerRenewal, RequestId, RootEntry, SignedIssuer, State};

/// What somebody requests: another issuer under a root.
pub(super) struct Renewal<'a> {
    pub(super) request_id: &'a RequestId,
    pub(super) root: RootId,
    /// Whether it takes the place of a renewal that is under way.
    pub(super) replaces: bool,
}

pub(super) fn renewal_requested(state: &State, asked: &Renewal<'_>, now: Timestamp) -> Decision {
    let Renewal { request_id, root, replaces } = *asked;
    let entry = state.roots.get(&root).ok_or(Cause::UnknownRoot { root })?;
    if let Some(renewal) = &entry.renewal
        && renewal.request_id == *request_id
    {
        return Ok(None);
    }
    if state.done.contains(request_id) {
        return Ok(None);
    }
    if is_in_use(state, request_id) {
        return Err(Cause::RequestIdReused { request_id: request_id.clone() });
    }
    if let Some(renewal) = entry.renewal.as_ref().filter(|_| !replaces) {
        return Err(Cause::RenewalUnderWay { request_id: renewal.request_id.clone() });
    }
    // A root that waits for its activation, or for a rollback, must be able to sign when it is called for.
    if !entry.state.is_trusted() {
        return Err(Cause::RootMayNotSign { root, state: entry.state });
    }
    let mut draft = Draft::after(state);
    let authority = entry.authority.clone();
    draft.give_up_renewal(root);
    if let Some(entry) = draft.state.roots.get_mut(&root) {
        entry.renewal = Some(IssuerRenewal { request_id: request_id.clone(), requested_at: now });
        entry.renewal_cancelled_at = None;
    }
    draft.owe(Effect::RequestIssuer { request_id: request_id.clone(), authority, root });
    Ok(Some(draft))
}

/// The issuer that signs goes on; another one is asked for later.
pub(super) fn renewal_cancelled(
    state: &State,
    request_id: &RequestId,
    root: RootId,
    now: Timestamp,
) -> Decision {
    if state.done.contains(request_id) {
        return Ok(None);
    }
    if is_in_use(state, request_id) {
        return Err(Cause::RequestIdReused { request_id: request_id.clone() });
    }
    let entry = state.roots.get(&root).ok_or(Cause::UnknownRoot { root })?;
    if entry.renewal.is_none() {
        return Err(Cause::NoRenewal { root });
    }
    let mut draft = Draft::after(state);
    draft.give_up_renewal(root);
    if let Some(entry) = draft.state.roots.get_mut(&root) {
        entry.renewal_cancelled_at = Some(now);
    }
    draft.state.done.remember(request_id.clone());
    Ok(Some(draft))
}

impl Draft {
    /// Asks no more for the issuer of a renewal that is under way. A late answer is one that nobody asked for.
    fn give_up_renewal(&mut self, root: RootId) {
        let renewal = self.state.roots.get_mut(&root).and_then(|entry| entry.renewal.take());
        let Some(IssuerRenewal { request_id, .. }) = renewal else { return };
        self.settle(
            |effect| matches!(effect, Effect::RequestIssuer { request_id: owed, .. } if *owed == request_id),
        );
        self.state.done.remember(request_id);
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
    let (asked, whose) =
        who_asked(state, request_id).ok_or(Cause::NotAsked { request_id: request_id.clone() })?;
    if asked != issuer.root {
        return Err(Cause::OtherRoot { asked, answered: issuer.root });
    }
    let mut draft = Draft::after(state);
    let entry = draft.state.roots.get_mut(&asked).ok_or(Cause::UnknownRoot { root: asked })?;
    let added = checked(issuer, entry, now)?;
    entry.issuers.retain(|_, former| former.not_after >= now);
    entry.issuers.insert(issuer.id, added);
    entry.active_issuer = Some(issuer.id);
    entry.renewal = None;
    let signs = entry.state.may_sign();
    draft.settle(
        |effect| matches!(effect, Effect::RequestIssuer { request_id: owed, .. } if owed == request_id),
    );
    match whose {
        Whose::Bootstrap => bootstrap::issuer_is_there(&mut draft, asked),
        Whose::Rotation => staging::issuer_is_there(&mut draft, asked, now),
        Whose::Renewal => {
            // A root that has come to drain meanwhile keeps the new issuer for a rollback.
            if signs {
                draft.settle(
                    |effect| matches!(effect, Effect::SwitchSigner { root, .. } if *root == asked),
                );
                draft.owe(Effect::SwitchSigner { root: asked, issuer: issuer.id });
            }
            draft.state.done.remember(request_id.clone());
        }
    }
    Ok(Some(draft))
}

pub(super) fn switched(state: &State, root: RootId, issuer: CertificateId) -> Decision {
    let entry = state.roots.get(&root).ok_or(Cause::UnknownRoot { root })?;
    let settled = |effect: &Effect| *effect == Effect::SwitchSigner { root, issuer };
    if state.pending.iter().any(|pending| settled(&pending.effect)) {
        let mut draft = Draft::after(state);
        draft.settle(settled);
        return Ok(Some(draft));
    }
    if entry.issuers.contains_key(&issuer) {
        Ok(None)
    } else {
        Err(Cause::UnknownIssuer { root, issuer })
    }
}

fn checked(issuer: &SignedIssuer, root: &RootEntry, now: Timestamp) -> Result<IssuerEntry, Cause> {
    let SignedIssuer { chain, key, not_after, .. } = issuer;
    if chain.is_empty() {
        return Err(Cause::NoChain);
    }
    if *not_after <= now {
        return Err(Cause::Expired { not_after: *not_after });
    }
    if *not_after > root.not_after {
        return Err(Cause::OutlivesRoot { not_after: *not_after, root_not_after: root.not_after });
    }
    Ok(IssuerEntry { chain: chain.clone(), key: key.clone(), not_after: *not_after })
}
