//! Rows by whose they are: an agent's, and those of an identity whose holders take their trust from elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use trust::{Serial, SpiffeId, Timestamp};

use crate::aggregates::Aggregates;
use crate::ledger::Ledger;
use crate::row::LiveRow;

impl Ledger {
    /// Serials and ends of rows that count as an agent's and are not among those that it says it knows: at most `limit`,
    /// always in the same order, after one that a former page ended with; from the first on again if that one is over.
    #[must_use]
    pub fn rows_beyond(
        &self,
        agent: &str,
        known: &BTreeSet<Serial>,
        after: Option<Serial>,
        limit: usize,
    ) -> Vec<(Serial, Timestamp)> {
        let index = self.shared.index();
        let Some(numbers) = index.counts().numbers_of(agent) else { return Vec::new() };
        let rows = index.named(numbers, after);
        rows.filter(|(serial, _)| !known.contains(serial)).take(limit).collect()
    }

    /// Rows that count and whose holders take their trust from elsewhere, by identity; at most `limit`.
    #[must_use]
    pub fn own_trust(&self, limit: usize) -> Vec<LiveRow> {
        self.shared.index().own_trust(limit)
    }

    /// The counts of this moment, and of the same moment those of rows whose holders take their trust from elsewhere, for
    /// each of these identities that has any. No row is looked at.
    #[must_use]
    pub fn aggregates_with<'a>(
        &self,
        identities: impl Iterator<Item = &'a SpiffeId>,
    ) -> (Aggregates, BTreeMap<SpiffeId, Aggregates>) {
        let index = self.shared.index();
        (index.aggregates(), index.own_trust_of(identities))
    }
}
