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
        let index = self.shared.index();
        let serials = index.counts().own_trust().values().flatten();
        serials.filter_map(|serial| index.get(serial)).take(limit).collect()
    }

    /// The counts of this moment, and of the same moment those of rows whose holders take their trust from elsewhere, for
    /// each of these identities that has any.
    #[must_use]
    pub fn aggregates_with<'a>(
        &self,
        identities: impl Iterator<Item = &'a SpiffeId>,
    ) -> (Aggregates, BTreeMap<SpiffeId, Aggregates>) {
        let index = self.shared.index();
        let own = index.counts().own_trust();
        let by_identity = identities.filter_map(|identity| {
            let rows = own.get(identity)?.iter().filter_map(|serial| index.get(serial));
            Some((identity.clone(), Aggregates::of(rows)))
        });
        let by_identity = by_identity.collect();
        (index.aggregates(), by_identity)
    }
}
