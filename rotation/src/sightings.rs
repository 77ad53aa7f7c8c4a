//! Bundles that agents hold and that this record never published: the mark of a record that went back in time.
//!
//! A record that was restored from an older backup cannot know that it is old; agents that saw more can tell. While
//! there is such word, no root enters or leaves the bundle and no root begins to sign, since a sequence that was given
//! once would be given again with other roots. It ends when an operator lets the record go on above everything that was
//! seen, or says that the word is wrong.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use trust::{BundleDigest, Sequence, Timestamp};

use crate::{Policy, codec};

/// Agents whose word is kept. The highest sequences stay.
pub const SIGHTINGS_MAX: usize = 64;
/// Agents whose word counts no more.
pub const DISMISSED_MAX: usize = 256;

/// Names the owner of rows that were lost with a newer record.
pub const LOST_REPLICA: &str = "lost";

/// What agents hold that this record never published.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Sightings {
    /// The word of each agent, by its name.
    pub open: BTreeMap<String, Sighting>,
    /// Agents whose word about bundles counts no more.
    pub dismissed: BTreeSet<String>,
    /// The record went on above this sequence: whatever is known otherwise up to it is explained.
    #[serde(with = "codec::sequence")]
    pub explained: Sequence,
}

/// A bundle that an agent holds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Sighting {
    /// Its sequence.
    #[serde(with = "codec::sequence")]
    pub sequence: Sequence,
    /// Its digest, if the agent said it.
    #[serde(with = "codec::optional_text")]
    pub digest: Option<BundleDigest>,
    /// When it was first heard of.
    #[serde(with = "codec::seconds")]
    pub since: Timestamp,
}

impl Sightings {
    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The agent with the highest sequence, and its word; `None` while nothing keeps the bundle from changing.
    pub fn highest(&self) -> Option<(&String, &Sighting)> {
        self.open.iter().max_by_key(|(_, sighting)| sighting.sequence)
    }

    /// When the last leaf that was issued after the backup has ended by everybody's clock: it was issued before anybody told
    /// of it here. `None` while nobody has.
    pub fn lost_leaves_until(&self, policy: &Policy) -> Option<Timestamp> {
        let heard = self.open.values().map(|seen| seen.since).min()?;
        Some(heard.plus(policy.leaf_lifetime_max).plus(policy.skew * 2))
    }

    /// Takes an agent's word; says whether it is news.
    pub(crate) fn note(&mut self, agent: &str, sighting: Sighting) -> bool {
        if sighting.sequence <= self.explained || self.dismissed.contains(agent) {
            return false;
        }
        if let Some(known) = self.open.get_mut(agent) {
            let higher = sighting.sequence > known.sequence;
            if higher {
                *known = Sighting { since: known.since, ..sighting };
            }
            return higher;
        }
        if self.open.len() >= SIGHTINGS_MAX {
            let lowest = self.open.iter().min_by_key(|(_, known)| known.sequence);
            let lowest = lowest.filter(|(_, known)| known.sequence < sighting.sequence);
            let Some(agent) = lowest.map(|(agent, _)| agent.clone()) else { return false };
            self.open.remove(&agent);
        }
        self.open.insert(agent.to_owned(), sighting);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sequence: u64) -> Sighting {
        Sighting { sequence: Sequence(sequence), digest: None, since: Timestamp::from_secs(1) }
    }

    #[test]
    fn the_account_is_bounded_and_keeps_the_highest() {
        let mut seen = Sightings::default();
        for number in 0..SIGHTINGS_MAX as u64 {
            assert!(seen.note(&format!("a{number}"), of(10 + number)));
        }
        assert!(!seen.note("low", of(10)), "no higher than the lowest of a full account");
        assert!(seen.note("high", of(1_000)));
        assert_eq!(seen.open.len(), SIGHTINGS_MAX);
        assert!(!seen.open.contains_key("a0"));
        assert_eq!(seen.highest().map(|(agent, _)| agent.as_str()), Some("high"));
    }

    #[test]
    fn the_same_word_again_and_a_lower_one_are_no_news() {
        let mut seen = Sightings::default();
        assert!(seen.note("a", of(4)));
        assert!(!seen.note("a", of(4)) && !seen.note("a", of(3)));
        assert!(seen.note("a", of(5)));
        assert_eq!(seen.open.len(), 1);
    }
}
