//! What the upkeep found wrong with files when it looked last. Levels: `status` tells each for as long as it lasts, and the
//! log tells when it begins and ends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    /// What no leaf may be issued without: the files that rows and the record are written to.
    Ground,
    /// What the next start, or somebody else, will need.
    Files,
    /// Key sets of token issuers.
    KeySets,
}

/// What was found by each look; nothing while all is well.
#[derive(Debug, Default)]
pub struct Findings {
    found: Mutex<BTreeMap<Look, Vec<String>>>,
    no_ground: AtomicBool,
}

impl Findings {
    /// Takes the place of what the same look found before.
    pub fn set(&self, look: Look, found: Vec<String>) {
        if look == Look::Ground {
            self.no_ground.store(!found.is_empty(), Ordering::Release);
        }
        let mut all = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.insert(look, found.clone()).unwrap_or_default();
        drop(all);
        for text in found.iter().filter(|text| !before.contains(text)) {
            tracing::error!(what = text, "something is wrong");
        }
        for text in before.iter().filter(|text| !found.contains(text)) {
            tracing::info!(what = text, "no longer wrong");
        }
    }

    /// What one look found, one sentence each, with what to do.
    pub fn of(&self, look: Look) -> Vec<String> {
        let all = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&look).cloned().unwrap_or_default()
    }

    /// Whether what is written now may be lost, so that nothing may be issued.
    pub fn no_ground(&self) -> bool {
        self.no_ground.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_lasts_until_its_own_look_finds_otherwise() {
        let findings = Findings::default();
        findings.set(Look::KeySets, vec!["a".to_owned()]);
        findings.set(Look::Ground, vec!["b".to_owned()]);
        assert!(findings.no_ground());
        findings.set(Look::Ground, Vec::new());
        assert!(!findings.no_ground() && findings.of(Look::Ground).is_empty());
        assert_eq!(findings.of(Look::KeySets), ["a"]);
    }
}
