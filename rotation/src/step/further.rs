//! Further roots: into the bundle by a change that only adds, out of it by one that only removes, and never while another
//! change of the bundle is on its way. No gate waits for either: no leaf of ours stands below them.
//!
//! A neighbor's root may come while both of our own are distributed: the neighbor may be about to sign with it, and wait for us,
//! as we wait for the neighbor. Then our own trust gate begins anew, for the bundle with all of them.

use std::collections::BTreeSet;

use trust::{RootId, Timestamp};

use super::draft::{Decision, Draft};
use super::guards;
use crate::{
    AuthorityName, Cause, FURTHER_ROOTS_MAX, FurtherEntry, FurtherRoot, Phase, RootEntry,
    RootState, State,
};

/// What an authority has us trust.
pub(super) struct Told<'a> {
    pub(super) authority: &'a AuthorityName,
    pub(super) roots: &'a [FurtherRoot],
    /// Roots that may be trusted again although they were withdrawn.
    pub(super) named: &'a BTreeSet<RootId>,
}

pub(super) fn added(state: &State, told: &Told<'_>, now: Timestamp) -> Decision {
    let Told { authority, roots, named } = *told;
    let is_known = |root: &&FurtherRoot| {
        state.further.get(&root.id).is_some_and(|known| known.by.contains(authority))
    };
    let new: Vec<_> = roots.iter().filter(|root| !is_known(root)).collect();
    if new.is_empty() {
        return Ok(None);
    }
    if !state.has_signed(authority) && authority.neighbor().is_none() {
        return Err(Cause::NeverSigned { authority: authority.clone() });
    }
    for root in &new {
        may_be_trusted(state, root, named, now)?;
    }
    match &state.phase {
        Phase::Distributing(_) if authority.neighbor().is_some() && !state.publishes() => {
            guards::none_open(state)?;
        }
        _ => bundle_is_free(state)?,
    }
    let mut draft = Draft::after(state);
    let decided = authority.neighbor().map(|_| draft.state.generation);
    for root in new {
        let FurtherRoot { id, der, not_after } = root.clone();
        let fresh = FurtherEntry { der, not_after, since: now, by: BTreeSet::new(), decided: None };
        let entry = draft.state.further.entry(id).or_insert(fresh);
        entry.by.insert(authority.clone());
        entry.decided = entry.decided.or(decided);
    }
    if draft.state.further.len() > FURTHER_ROOTS_MAX {
        return Err(Cause::TooManyFurther);
    }
    draft.change_bundle_from(state);
    Ok(Some(draft))
}

/// What an authority does not name any more; a root that another one names stays.
pub(super) fn removed(
    state: &State,
    authority: &AuthorityName,
    roots: &BTreeSet<RootId>,
) -> Decision {
    let is_told =
        |root: &&RootId| state.further.get(*root).is_some_and(|known| known.by.contains(authority));
    if !roots.iter().any(|root| is_told(&root)) {
        return Ok(None);
    }
    bundle_is_free(state)?;
    let mut draft = Draft::after(state);
    for root in roots {
        if let Some(entry) = draft.state.further.get_mut(root) {
            entry.by.remove(authority);
        }
    }
    draft.state.further.retain(|_, entry| !entry.by.is_empty());
    draft.change_bundle_from(state);
    Ok(Some(draft))
}

/// A root that is compromised is never trusted, and one that was withdrawn only by name.
fn may_be_trusted(
    state: &State,
    root: &FurtherRoot,
    named: &BTreeSet<RootId>,
    now: Timestamp,
) -> Result<(), Cause> {
    if root.not_after <= now {
        return Err(Cause::Expired { not_after: root.not_after });
    }
    let unfit = |ours: &RootEntry| {
        ours.tainted
            || ours.state == RootState::Retired && !ours.may_return(named.contains(&root.id))
    };
    match state.roots.get(&root.id) {
        Some(ours) if unfit(ours) => Err(Cause::WithdrawnBefore { root: root.id }),
        _ => Ok(()),
    }
}

/// One change of the bundle at a time, and none while a rotation changes it.
fn bundle_is_free(state: &State) -> Result<(), Cause> {
    guards::none_open(state)?;
    match &state.phase {
        Phase::Steady(_) | Phase::Staging(_) if !state.publishes() => Ok(()),
        Phase::Uninitialised | Phase::Bootstrapping(_) => Err(Cause::NotBootstrapped),
        Phase::Steady(_)
        | Phase::Staging(_)
        | Phase::Distributing(_)
        | Phase::Canary(_)
        | Phase::Draining(_)
        | Phase::Withdrawing(_) => {
            Err(Cause::BundleChanges { phase: state.phase.name().to_owned() })
        }
    }
}

impl State {
    /// Whether a root of this authority signs here, or did.
    pub fn has_signed(&self, authority: &AuthorityName) -> bool {
        let signed = |entry: &RootEntry| entry.state.may_sign() || entry.horizon.is_some();
        self.roots.values().any(|entry| entry.authority == *authority && signed(entry))
    }
}

impl Draft {
    /// Has the bundle published, if other roots are in it now than in `former`. A trust gate that is waited for is then about
    /// this bundle.
    fn change_bundle_from(&mut self, former: &State) {
        if self.state.bundle() == former.bundle() {
            return;
        }
        let bundle = self.change_bundle();
        if let Phase::Distributing(phase) = &mut self.state.phase {
            (phase.bundle, phase.settling, phase.observer) = (bundle, None, None);
        }
    }
}
