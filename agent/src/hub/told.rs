//! What the log was told of conditions that last.

use std::collections::{BTreeMap, BTreeSet};

use crate::status::Condition;

/// Texts of one condition that are known as told; with more the log is told again what it was told before.
const TEXTS_MAX: usize = 16;

/// What the log was told of each condition since it began. Where the CA has several addresses, what is wrong with one is tried
/// and told in turn with the others, and is news once.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<Condition, BTreeSet<String>>);

impl Told {
    /// Whether the log was not told this since the condition began.
    pub(super) fn is_news(&mut self, condition: Condition, what: &str) -> bool {
        let texts = self.0.entry(condition).or_default();
        if texts.contains(what) {
            return false;
        }
        if texts.len() >= TEXTS_MAX {
            texts.clear();
        }
        texts.insert(what.to_owned())
    }

    /// The condition is over: the next one is another.
    pub(super) fn over(&mut self, condition: Condition) {
        self.0.remove(&condition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_take_turns_are_news_once_until_the_condition_is_over() {
        let mut told = Told::default();
        let news: Vec<_> = ["one", "two", "one", "two", "one"]
            .into_iter()
            .filter(|what| told.is_news(Condition::CaAway, what))
            .collect();
        assert_eq!(news, ["one", "two"]);
        assert!(told.is_news(Condition::Banned, "one"), "another condition");
        told.over(Condition::CaAway);
        assert!(told.is_news(Condition::CaAway, "one"));
    }

    #[test]
    fn texts_that_never_come_again_take_no_room() {
        let mut told = Told::default();
        for number in 0..1_000 {
            assert!(told.is_news(Condition::CaAway, &format!("for {number} s")));
        }
        assert!(told.0.values().all(|texts| texts.len() <= TEXTS_MAX));
    }
}
