//! A record that is older than what agents hold: no change of the bundle, until an operator lets it go on above all that
//! was seen.

use trust::{BundleDigest, Sequence, Timestamp};

use super::draft::{Decision, Draft};
use super::{guards, staging};
use crate::sightings::{DISMISSED_MAX, LOST_REPLICA, Sighting};
use crate::{BundleChange, Cause, Phase, Policy, RequestId, State};

/// Sequences stay below this: documents with bundles have them as numbers of JSON.
const SEQUENCE_MAX: u64 = 1 << 53;

/// What an agent holds.
pub(super) struct Word<'a> {
    pub(super) agent: &'a str,
    pub(super) sequence: Sequence,
    pub(super) digest: Option<BundleDigest>,
}

/// How a record goes on after a restore.
pub(super) struct GoOn<'a> {
    pub(super) request_id: &'a RequestId,
    pub(super) above: Sequence,
    /// Not before every leaf that was issued after the backup has ended.
    pub(super) waits: bool,
}

/// Keeps an agent's word. Whether it contradicts the record is for the reporter to say, who knows digests.
pub(super) fn seen(state: &State, word: &Word<'_>, now: Timestamp) -> Decision {
    if state.signing_root().is_none() {
        return Ok(None);
    }
    let mut draft = Draft::after(state);
    let sighting = Sighting { sequence: word.sequence, digest: word.digest, since: now };
    if !draft.state.seen.note(word.agent, sighting) {
        return Ok(None);
    }
    // What was counted while nobody knew counts for nothing.
    draft.set_settling(None);
    Ok(Some(draft))
}

/// Goes on above `above`: the roots of today get a sequence that nobody has seen, and the rows that were lost with the
/// newer record count as full for as long as any of them can live.
pub(super) fn go_on(
    state: &State,
    &GoOn { request_id, above, waits }: &GoOn<'_>,
    now: Timestamp,
    policy: &Policy,
) -> Decision {
    if state.done.contains(request_id) {
        return Ok(None);
    }
    if state.signing_root().is_none() {
        return Err(Cause::NotBootstrapped);
    }
    if guards::is_in_use(state, request_id)
        || state.phase.rotation().is_some_and(|rotation| rotation.request_id == *request_id)
    {
        return Err(Cause::RequestIdReused { request_id: request_id.clone() });
    }
    let least =
        state.seen.highest().map_or(state.sequence, |(_, seen)| seen.sequence.max(state.sequence));
    if above < least || above.0 >= SEQUENCE_MAX {
        return Err(Cause::NotAbove { above, least });
    }
    // A bundle that the record has not may have come with roots that it has not: leaves of those are among the lost rows, and
    // perhaps no agent is left that could say so.
    let lost = (above > state.sequence).then(|| state.lost_rows_until(now, policy)).flatten();
    let until = state.seen.lost_leaves_until(policy).max(lost);
    if let Some(until) = until.filter(|until| waits && now <= *until) {
        return Err(Cause::LostLeavesMayLive { above, until });
    }
    let mut draft = Draft::after(state);
    // So that the bundle gets the next one.
    draft.state.sequence = above;
    let bundle = draft.change_bundle();
    draft.rename_bundle(bundle);
    draft.set_settling(None);
    let latest = now.plus(policy.leaf_lifetime_max);
    let trusted = draft.state.roots.iter().filter(|(_, entry)| entry.state.is_trusted());
    let bounds = trusted.map(|(id, entry)| (*id, latest.min(entry.not_after))).collect();
    let name = format!("{LOST_REPLICA}-{}", draft.state.sequence);
    draft.count_lost_rows(&name, bounds);
    draft.state.seen.open.clear();
    draft.state.seen.explained = above;
    draft.state.done.remember(request_id.clone());
    Ok(Some(draft))
}

/// An agent's word about bundles counts no more.
pub(super) fn dismissed(
    state: &State,
    request_id: &RequestId,
    agent: &str,
    now: Timestamp,
) -> Decision {
    if state.done.contains(request_id) || state.seen.dismissed.contains(agent) {
        return Ok(None);
    }
    if state.seen.dismissed.len() >= DISMISSED_MAX {
        return Err(Cause::TooManyDismissed);
    }
    let mut draft = Draft::after(state);
    draft.state.seen.open.remove(agent);
    draft.state.seen.dismissed.insert(agent.to_owned());
    draft.state.done.remember(request_id.clone());
    staging::go_on(&mut draft, now);
    Ok(Some(draft))
}

/// An agent's word counts again.
pub(super) fn heeded(state: &State, request_id: &RequestId, agent: &str) -> Decision {
    if state.done.contains(request_id) {
        return Ok(None);
    }
    if !state.seen.dismissed.contains(agent) {
        return Err(Cause::NotDismissed { agent: agent.to_owned() });
    }
    let mut draft = Draft::after(state);
    draft.state.seen.dismissed.remove(agent);
    draft.state.done.remember(request_id.clone());
    Ok(Some(draft))
}

impl Draft {
    /// Whatever the present phase says of its bundle is about the same roots under the new number.
    fn rename_bundle(&mut self, to: BundleChange) {
        match &mut self.state.phase {
            Phase::Distributing(phase) => phase.bundle = to,
            Phase::Canary(phase) => phase.bundle = to,
            Phase::Draining(phase) => (phase.bundle, phase.switched) = (to, to.generation),
            Phase::Withdrawing(phase) => phase.bundle = to,
            Phase::Uninitialised
            | Phase::Bootstrapping(_)
            | Phase::Steady(_)
            | Phase::Staging(_) => {}
        }
    }
}
