//! What rows say to a gate: of one ledger, or of the ledgers of several replicas together.

use std::collections::{BTreeMap, BTreeSet};

use ledger::{Aggregates, Ledger, LiveRow, Standing, Tally};
use registry::Coverage;
use rotation::CohortSeen;
use trust::Cover;

/// Counts of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All rows, by where they stand.
    pub rows: Aggregates,
    /// Those of holders with trust of their own whom relying parties cover, by what covers them: many identities are covered
    /// by the same, and a report has to hold them all.
    pub covered: BTreeMap<BTreeSet<Cover>, Aggregates>,
    /// Those that somebody said nobody uses any more.
    pub waived: Aggregates,
    /// What was seen of the cohort of a canary.
    pub cohort: Option<CohortSeen>,
}

impl Counts {
    /// Those of this ledger, now.
    pub fn of(ledger: &Ledger, coverage: &Coverage) -> Self {
        let (rows, covered) = ledger.aggregates_with(|identity| {
            Some(coverage.covers(identity)).filter(|covers| !covers.is_empty())
        });
        let mut waived = Aggregates::default();
        let let_go = |live: &&LiveRow| live.forgotten.stands() && live.row.kind.is_members();
        for live in ledger.forgotten().iter().filter(let_go) {
            let tally = Tally { rows: 1, latest_not_after: Some(live.row.not_after) };
            waived.add(Standing::of(live), tally);
        }
        Self { rows, covered, waived, cohort: None }
    }

    /// Adds those of another ledger.
    pub fn join(&mut self, other: &Self) {
        self.rows.join(&other.rows);
        self.waived.join(&other.waived);
        if let Some(seen) = &other.cohort {
            self.cohort.get_or_insert_default().join(seen);
        }
        for (covers, rows) in &other.covered {
            self.covered.entry(covers.clone()).or_default().join(rows);
        }
    }
}
