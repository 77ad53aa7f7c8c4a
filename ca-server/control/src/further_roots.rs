//! Brings about what authorities say of further roots: a level that is tested at each look, and tried again.
//!
//! What is named is trusted at once. What is named no more is let go when that has been so for a while: whoever edits a file, or
//! restarts a plugin, must not cost others their connections by a moment in between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plugins::RootSet;
use rotation::{AuthorityName, Event};
use rotation_driver::{DriverHandle, SubmitError};
use trust::{Clock, RootId};

use crate::drift::Whose;
use crate::further::{Difference, compare, waiting};

/// What the work needs.
pub struct FurtherRoots {
    /// The record.
    pub driver: DriverHandle,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How long a root must be named no more before it goes.
    pub patience: Duration,
    /// Roots that the configuration names for their return, by authority.
    pub again: BTreeMap<String, BTreeSet<RootId>>,
    /// Uptime since when roots are named no more. Held to look and to note only.
    pub missing: Mutex<BTreeMap<(String, RootId), Duration>>,
}

impl FurtherRoots {
    /// Adds or removes what is due, and tells what is not so yet.
    pub async fn keep(&self, whose: &Whose<'_>, set: &RootSet) -> Vec<String> {
        // What a neighbor signs with is trusted for that, whatever it was here before; never one that is compromised.
        let theirs = || set.further.iter().map(|der| RootId::of(der)).collect();
        let is_neighbor = whose.name.starts_with(AuthorityName::NEIGHBOR);
        let again: BTreeSet<_> = match is_neighbor {
            true => theirs(),
            false => self.again.get(whose.name).cloned().unwrap_or_default(),
        };
        let again = &again;
        let look = || compare(&self.driver.state(), whose, set, again, self.clock.now());
        let difference = look();
        let left = self.note(whose.name, &difference.gone);
        let refusal = match self.due(whose.name, &difference, left, again) {
            None => None,
            Some(event) => match self.driver.submit_by(event, &by(whose.name)).await {
                Ok(_) => {
                    let (added, removed) = (difference.to_add.len(), difference.gone.len());
                    tracing::info!(authority = whose.name, added, removed, "further roots change");
                    None
                }
                Err(SubmitError::Refused(refusal)) => {
                    Some(format!("{}; {}", refusal.cause, refusal.legal()))
                }
                Err(error) => Some(format!("{error}; it is tried again")),
            },
        };
        let now = look();
        let state = self.driver.state();
        let waits = waiting(&state, whose, &now, left, refusal.as_deref());
        now.refused.into_iter().chain(waits).collect()
    }

    /// The longest pause until something is due.
    pub fn pause(&self) -> Duration {
        let (missing, uptime) =
            (self.missing.lock().unwrap_or_else(PoisonError::into_inner), self.clock.uptime());
        let left = missing.values().map(|since| (*since + self.patience).saturating_sub(uptime));
        // What is due and refused is taken up at the next change of the record.
        let waits = left.filter(|left| !left.is_zero()).min();
        waits.map_or(Duration::MAX, |left| left.max(Duration::from_millis(100)))
    }

    fn due(
        &self,
        name: &str,
        difference: &Difference,
        left: Option<Duration>,
        again: &BTreeSet<RootId>,
    ) -> Option<Event> {
        let authority = AuthorityName::parse(name).ok()?;
        if !difference.to_add.is_empty() {
            let roots = difference.to_add.clone();
            let named = roots.iter().map(|root| root.id).filter(|id| again.contains(id)).collect();
            return Some(Event::FurtherRootsAdded { authority, roots, named });
        }
        let roots = difference.gone.clone();
        (!roots.is_empty() && left.is_none())
            .then_some(Event::FurtherRootsRemoved { authority, roots })
    }

    /// Notes since when roots are missing, and says how long the last of them is still waited for.
    fn note(&self, name: &str, gone: &BTreeSet<RootId>) -> Option<Duration> {
        let uptime = self.clock.uptime();
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        missing.retain(|(whose, root), _| whose != name || gone.contains(root));
        let since =
            gone.iter().map(|root| *missing.entry((name.to_owned(), *root)).or_insert(uptime));
        let last = since.max()?;
        Some((last + self.patience).saturating_sub(uptime)).filter(|left| !left.is_zero())
    }
}

/// Whose word it is, in the journal.
fn by(name: &str) -> String {
    match name.strip_prefix(AuthorityName::NEIGHBOR) {
        Some(neighbor) => format!("neighbor {neighbor}"),
        None => format!("authority {name}"),
    }
}
