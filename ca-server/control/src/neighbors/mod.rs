//! Neighbors: CAs of the same trust domain with roots of their own, such as those of other clusters. Everybody here trusts a
//! neighbor's roots beside ours, and the neighbor does the same.
//!
//! A neighbor is listened to as an upstream CA is, and its word is kept as durably; but no root of it ever signs here, and none of its
//! rotations is followed: its roots are further roots. It is told which of its bundles everybody here trusts, and its trust gate
//! waits for that. So a root signs there only when it is trusted here, and is let go here only when it was let go there.

pub mod keeper;
mod line;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use plugins::{DownstreamReport, UpstreamState};
use rotation::evidence::not_everybody_trusts;
use rotation::{AuthorityName, Evidence, Policy, State};
use tokio::sync::watch;
use trust::{Generation, RootId};

/// What is wrong with neighbors, by their names: sentences for `status`.
pub type NeighborTroubles = BTreeMap<String, Vec<String>>;

/// Has what is wrong with a neighbor be this; the log tells what is new, and when all is well again.
fn tell(troubles: &watch::Sender<NeighborTroubles>, name: &str, said: Vec<String>) {
    troubles.send_if_modified(|all| {
        let known = all.get(name).cloned().unwrap_or_default();
        if known == said {
            return false;
        }
        // A sentence that counts seconds is said once.
        let news = said.iter().filter(|one| !known.iter().any(|known| words(known) == words(one)));
        news.for_each(|one| tracing::warn!(neighbor = name, "{one}"));
        if said.is_empty() {
            tracing::info!(neighbor = name, "all is as the neighbor says again");
            all.remove(name);
        } else {
            all.insert(name.to_owned(), said);
        }
        true
    });
}

fn words(sentence: &str) -> String {
    sentence.chars().filter(|char| !char.is_ascii_digit()).collect()
}

/// What the word for a neighbor is about. Pure.
struct Look<'a> {
    state: &'a State,
    /// What the neighbor said last.
    theirs: &'a UpstreamState,
    name: &'a str,
    policy: &'a Policy,
}

impl Look<'_> {
    /// The word: that its bundle is applied here, or for whom or what that waits.
    fn word(&self, evidence: Result<Evidence, String>, waits: &[String]) -> DownstreamReport {
        let report = DownstreamReport::about(self.theirs.generation);
        let missing = match evidence {
            Ok(evidence) => self.missing(&evidence),
            Err(why) => return report.waits_for([why]),
        };
        if missing.is_empty() {
            return report.applied(self.theirs.sequence);
        }
        report.waits_for(missing.into_iter().chain(waits.iter().cloned()))
    }

    /// What is missing until everybody here trusts exactly the roots of the neighbor's bundle; while it has several, those of it that
    /// are still trusted besides do not matter.
    fn missing(&self, evidence: &Evidence) -> Vec<String> {
        let Self { state, theirs, name, policy } = *self;
        let name = match AuthorityName::of_neighbor(name) {
            Ok(name) => name,
            Err(error) => return vec![error.to_string()],
        };
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
        let Some(since) =
            decided.collect::<Option<BTreeSet<_>>>().and_then(|all| all.last().copied())
        else {
            return vec!["it is not known since when its roots are trusted there".to_owned()];
        };
        if evidence.sequence != state.sequence {
            return vec!["the evidence there is of another bundle".to_owned()];
        }
        let holds = not_everybody_trusts(state, since, evidence, policy);
        holds.iter().map(ToString::to_string).collect()
    }
}
