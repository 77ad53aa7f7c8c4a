//! Standby roots: trusted by everybody, and not signing. One is prepared by a rotation that ends at the trust gate; here it
//! is taken into use, or goes.

use trust::{RootId, Timestamp};

use super::draft::{Decision, Draft};
use super::{guards, passage};
use crate::{
    BundleChange, Cause, Distributing, Ending, Mode, Phase, Policy, RequestId, RootEntry,
    RootState, Rotation, State,
};

/// The standby root signs after the trust gate, which is judged anew: everybody has had it for long, so nothing is
/// distributed.
pub(super) fn promoted(
    state: &State,
    request_id: &RequestId,
    root: RootId,
    mode: Mode,
    now: Timestamp,
) -> Decision {
    if is_done(state, request_id)? {
        return Ok(None);
    }
    let entry = named(state, root)?;
    guards::not_distrusted(state, root)?;
    let rotation = of(request_id.clone(), entry, mode, now);
    let mut draft = Draft::after(state);
    lead_to(&mut draft, rotation, root, now);
    Ok(Some(draft))
}

/// It goes by a change that only removes. No leaf of it was ever signed, so no gate is waited for before.
pub(super) fn dropped(
    state: &State,
    request_id: &RequestId,
    root: RootId,
    now: Timestamp,
    policy: &Policy,
) -> Decision {
    if is_done(state, request_id)? {
        return Ok(None);
    }
    let entry = named(state, root)?;
    if let Some(horizon) = entry.horizon.filter(|_| entry.signed_since_staged())
        && !policy.has_passed(horizon, now)
    {
        return Err(Cause::StandbyMayHaveSigned { root, until: policy.over_at(horizon) });
    }
    let rotation = of(request_id.clone(), entry, Mode::Standby, now);
    let mut draft = Draft::after(state);
    leave(&mut draft, &rotation, root, now);
    Ok(Some(draft))
}

/// Whether this request was carried out; only while nothing else about roots is under way.
fn is_done(state: &State, request_id: &RequestId) -> Result<bool, Cause> {
    if state.done.contains(request_id) {
        return Ok(true);
    }
    if let Some(rotation) = state.phase.rotation() {
        let ending = state.phase.given_up().unwrap_or_default();
        return match rotation.request_id == *request_id {
            true => Ok(true),
            false => {
                Err(Cause::RotationUnderWay { request_id: rotation.request_id.clone(), ending })
            }
        };
    }
    if !state.phase.is_steady() {
        return Err(Cause::NotBootstrapped);
    }
    guards::none_open(state)?;
    match guards::is_in_use(state, request_id) {
        true => Err(Cause::RequestIdReused { request_id: request_id.clone() }),
        false => Ok(false),
    }
}

fn named(state: &State, root: RootId) -> Result<&RootEntry, Cause> {
    let entry = state.roots.get(&root).ok_or(Cause::UnknownRoot { root })?;
    match entry.state {
        RootState::Published => Ok(entry),
        state => Err(Cause::NotStandby { root, state }),
    }
}

fn of(request_id: RequestId, entry: &RootEntry, mode: Mode, now: Timestamp) -> Rotation {
    Rotation {
        request_id,
        authority: entry.authority.clone(),
        mode,
        requested_at: now,
        stage_again: None,
        held_since: None,
        canary: None,
    }
}

/// The wait for the trust gate of a root that is in the bundle. The bundle stays; whatever was released before this change is
/// counted by segments that are sealed at it.
pub(super) fn lead_to(draft: &mut Draft, rotation: Rotation, root: RootId, now: Timestamp) {
    let Some(from) = draft.state.signing_root() else { return };
    let bundle =
        BundleChange { sequence: draft.state.sequence, generation: draft.state.generation };
    draft.state.phase = Phase::Distributing(Distributing {
        rotation,
        from,
        to: root,
        bundle,
        since: now,
        settling: None,
        observer: None,
    });
}

/// A standby root leaves the bundle.
pub(super) fn leave(draft: &mut Draft, rotation: &Rotation, root: RootId, now: Timestamp) {
    let Some(to) = draft.state.signing_root() else { return };
    let goes = passage::Goes { from: root, to, ending: Ending::Completed };
    passage::withdraw(draft, rotation, goes, now);
}

impl State {
    /// Roots that are trusted and wait for the day on which they are needed, while nothing else is under way about them.
    pub fn standby(&self) -> impl Iterator<Item = (&RootId, &RootEntry)> {
        let under_way = self.phase.changes().map(|(_, to)| to);
        self.roots.iter().filter(move |(id, entry)| {
            entry.state == RootState::Published && under_way != Some(**id)
        })
    }

    /// The standby root that would take the place of one that must go: of several the one that can sign for longest.
    pub fn next_standby(&self, now: Timestamp) -> Option<RootId> {
        let able = self.standby().filter(|(_, entry)| !entry.tainted);
        let able = able.filter_map(|(id, entry)| Some((entry.signs_until()?, *id)));
        able.filter(|(until, _)| *until > now).max().map(|(_, id)| id)
    }
}
