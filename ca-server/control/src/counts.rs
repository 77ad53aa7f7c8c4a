//! What rows say to a gate: of one ledger, or of the ledgers of several replicas together.

use std::collections::BTreeMap;

use ledger::{Aggregates, Ledger, Standing, Tally};
use trust::SpiffeId;

/// Counts of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All rows, by where they stand.
    pub rows: Aggregates,
    /// Those of holders with trust of their own whom a relying party covers, by identity.
    pub covered: BTreeMap<SpiffeId, Aggregates>,
    /// Those that somebody said nobody uses any more.
    pub waived: Aggregates,
}

impl Counts {
    /// Those of this ledger, now.
    pub fn of<'a>(ledger: &Ledger, covered: impl Iterator<Item = &'a SpiffeId>) -> Self {
        let (rows, covered) = ledger.aggregates_with(covered);
        let mut waived = Aggregates::default();
        for live in ledger.forgotten().iter().filter(|live| live.forgotten.stands()) {
            let tally = Tally { rows: 1, latest_not_after: Some(live.row.not_after) };
            waived.add(Standing::of(live), tally);
        }
        Self { rows, covered, waived }
    }

    /// Adds those of another ledger.
    pub fn join(&mut self, other: &Self) {
        self.rows.join(&other.rows);
        self.waived.join(&other.waived);
        for (identity, rows) in &other.covered {
            self.covered.entry(identity.clone()).or_default().join(rows);
        }
    }
}
