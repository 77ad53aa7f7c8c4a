//! What is wrong with a cluster now. Levels: each is set and taken back by what was seen last, and told in `status` while it
//! lasts.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Look {
    /// Whether the API server answers what tokens need.
    Tokens,
    /// The key set.
    Keys,
    /// The pods.
    Pods,
    /// The rights of the server's account.
    Rights,
}

#[derive(Debug)]
pub(crate) struct Health {
    cluster: String,
    wrong: Mutex<BTreeMap<Look, String>>,
}

impl Health {
    pub(crate) fn of(cluster: &str) -> Self {
        Self { cluster: cluster.to_owned(), wrong: Mutex::default() }
    }

    /// What was seen last; the log tells when it begins and ends.
    pub(crate) fn saw(&self, look: Look, wrong: Option<&str>) {
        let mut all = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match wrong {
            Some(text) => all.insert(look, text.to_owned()),
            None => all.remove(&look),
        };
        drop(all);
        match (before, wrong) {
            (None, Some(what)) => {
                tracing::error!(cluster = self.cluster, what, "something is wrong with a cluster");
            }
            (Some(what), None) => {
                tracing::info!(cluster = self.cluster, what, "no longer wrong with a cluster");
            }
            _ => {}
        }
    }

    pub(crate) fn is_well(&self) -> bool {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// One sentence each.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.values().map(|what| format!("cluster {}: {what}", self.cluster)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_until_the_same_look_finds_it_right() {
        let health = Health::of("one");
        health.saw(Look::Tokens, Some("away"));
        health.saw(Look::Pods, Some("unsynced"));
        health.saw(Look::Pods, None);
        assert_eq!(health.sentences(), ["cluster one: away"]);
        health.saw(Look::Tokens, None);
        assert!(health.is_well());
    }
}
