//! Rows by whose they are: an agent's, and those of an identity whose holders take their trust from elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use trust::{Cover, Serial, SpiffeId, Timestamp};

use crate::aggregates::Aggregates;
use crate::ledger::Ledger;
use crate::row::{LiveRow, Row};

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

    /// Rows that count and whose holders take their trust from elsewhere, of the identities that are asked about; at most
    /// `limit`.
    #[must_use]
    pub fn own_trust(&self, limit: usize, of: impl Fn(&SpiffeId) -> bool) -> Vec<LiveRow> {
        self.shared.index().own_trust(limit, of)
    }

    /// From now on no trust is waited for of whom these cover, and of nobody else: their rows are told apart.
    pub fn set_waivers(&self, waivers: &BTreeSet<Cover>) {
        self.shared.index().set_waivers(waivers);
    }

    /// The rows that count and whose identities are asked for. Every row is looked at.
    #[must_use]
    pub fn rows_of(&self, asked: impl Fn(&SpiffeId) -> bool) -> Vec<LiveRow> {
        self.rows_where(|row| asked(&row.identity))
    }

    /// The rows that count and are asked for. Every row is looked at.
    #[must_use]
    pub fn rows_where(&self, asked: impl Fn(&Row) -> bool) -> Vec<LiveRow> {
        self.shared.index().rows_asked(asked).collect()
    }

    /// One such row of each identity that has any.
    #[must_use]
    pub fn own_trust_of_each(&self) -> Vec<LiveRow> {
        self.shared.index().own_trust_of_each()
    }

    /// The counts of this moment, and of the same moment those of rows whose holders take their trust from elsewhere, together
    /// for all identities with the same answer; those without one are left out. No row is looked at.
    #[must_use]
    pub fn aggregates_with<K: Ord>(
        &self,
        grouped: impl Fn(&SpiffeId) -> Option<K>,
    ) -> (Aggregates, BTreeMap<K, Aggregates>) {
        let index = self.shared.index();
        (index.aggregates(), index.own_trust_by(grouped))
    }
}
