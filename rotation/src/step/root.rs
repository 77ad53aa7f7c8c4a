//! A new root on its way into the record.

use std::collections::BTreeMap;

use trust::{RootId, Timestamp};

use super::draft::{Decision, Draft};
use crate::{
    AuthorityName, Cause, Effect, PreparedRoot, ReplicaName, RequestId, RootEntry, RootState,
};

/// The authority may say the same again, and nothing else.
pub(super) fn answered_before(
    request_id: &RequestId,
    former: RootId,
    root: &PreparedRoot,
) -> Decision {
    if former == root.id {
        return Ok(None);
    }
    Err(Cause::AnsweredOtherwise { request_id: request_id.clone(), former: former.to_string() })
}

/// A root as it was prepared, and by which replica.
#[derive(Clone, Copy)]
pub(super) struct Prepared<'a> {
    pub(super) root: &'a PreparedRoot,
    pub(super) replica: Option<&'a ReplicaName>,
}

/// Takes a new root into the record, untrusted, and has its first issuer signed for whoever asked for the root.
pub(super) fn stage(
    draft: &mut Draft,
    request_id: &RequestId,
    authority: &AuthorityName,
    prepared: Prepared<'_>,
    now: Timestamp,
) -> Result<(), Cause> {
    let Prepared { root, replica } = prepared;
    if root.not_after <= now {
        return Err(Cause::Expired { not_after: root.not_after });
    }
    let named =
        draft.state.phase.rotation().and_then(|rotation| rotation.stage_again) == Some(root.id);
    let former = draft.state.roots.get(&root.id);
    if former.is_some_and(|former| !former.may_return(named)) {
        return Err(Cause::RootKnown { root: root.id });
    }
    let entry = staged(root, authority.clone(), former);
    draft.state.roots.insert(root.id, entry);
    draft.settle(
        |effect| matches!(effect, Effect::StageRoot { request_id: owed, .. } if owed == request_id),
    );
    if replica.is_some() {
        draft.ask_for_issuer(root.id, replica, request_id, now);
        return Ok(());
    }
    let (request_id, authority) = (request_id.clone(), authority.clone());
    draft.owe(Effect::RequestIssuer { request_id, authority, root: root.id, replica: None });
    Ok(())
}

/// A root that comes back keeps its horizon, which never goes back; it gets an issuer of its own as any other.
fn staged(root: &PreparedRoot, authority: AuthorityName, former: Option<&RootEntry>) -> RootEntry {
    let horizon = former.and_then(|former| former.horizon);
    RootEntry {
        state: RootState::Staged,
        tainted: false,
        taint: None,
        authority,
        exclusive: root.exclusive,
        der: root.der.clone(),
        not_after: root.not_after,
        horizon,
        staged_horizon: horizon,
        probed_until: former.and_then(|former| former.probed_until),
        issuers: BTreeMap::new(),
        active_issuer: None,
        signers: BTreeMap::new(),
        renewal: None,
        renewals: BTreeMap::new(),
        renewal_cancelled_at: None,
        renewals_cancelled: BTreeMap::new(),
    }
}
