//! Neighbors: CAs of the same trust domain with roots of their own, such as those of other clusters. Everybody here trusts a
//! neighbor's roots beside ours, and the neighbor does the same.
//!
//! A neighbor is listened to as an upstream CA is, and its word is kept as durably; but no root of it ever signs here, and none of its
//! rotations is followed: its roots are further roots. It is told which of its bundles everybody here trusts, and its trust gate
//! waits for that. So a root signs there only when it is trusted here, and is let go here only when it was let go there.

pub mod keeper;

use std::collections::{BTreeMap, BTreeSet};

use plugins::UpstreamState;
use rotation::evidence::not_everybody_trusts;
use rotation::{AuthorityName, Evidence, Policy, State};
use trust::{Generation, RootId};

/// What is wrong with neighbors, by their names: sentences for `status`.
pub type NeighborTroubles = BTreeMap<String, Vec<String>>;

/// What is missing until everybody here trusts exactly the roots of the neighbor's bundle; while it has several, those of it that
/// are still trusted besides do not matter. Pure.
fn missing(
    state: &State,
    theirs: &UpstreamState,
    name: &str,
    evidence: &Evidence,
    policy: &Policy,
) -> Vec<String> {
    let Ok(name) = AuthorityName::of_neighbor(name) else { return Vec::new() };
    let wanted: BTreeSet<_> = theirs.roots.iter().map(|der| RootId::of(der)).collect();
    let by_it = state.further.iter().filter(|(_, entry)| entry.by.contains(&name));
    let held: BTreeMap<_, _> = by_it.map(|(id, entry)| (*id, entry.decided)).collect();
    let is_superset = wanted.iter().all(|id| held.contains_key(id));
    if !is_superset || (wanted.len() < 2 && wanted.len() != held.len()) {
        let (has, phase) = (held.len(), state.phase.name());
        return vec![format!(
            "{has} of its roots are in the bundle there, {} in its own; the CA there is {phase}",
            wanted.len()
        )];
    }
    // One that signs here, or did, everybody trusts since our own trust gate.
    let ours = |id: &RootId| {
        let entry = state.roots.get(id).map(|entry| entry.state);
        entry.is_some_and(|entry| entry.may_sign() || entry.is_draining())
    };
    let decided = wanted.iter().map(|id| match ours(id) {
        true => Some(Generation(0)),
        false => held.get(id).copied().flatten(),
    });
    let Some(since) = decided.collect::<Option<BTreeSet<_>>>().and_then(|all| all.last().copied())
    else {
        return vec!["it is not known since when its roots are trusted there".to_owned()];
    };
    if evidence.sequence != state.sequence {
        return vec!["the evidence there is of another bundle".to_owned()];
    }
    let holds = not_everybody_trusts(state, since, evidence, policy);
    holds.iter().map(ToString::to_string).collect()
}
