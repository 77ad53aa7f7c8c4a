//! The rows that may live, in memory: by serial, by end of validity, and counted.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use trust::{RootId, Sequence, Serial, Timestamp};

use crate::aggregates::{Aggregates, Counts, Standing};
use crate::record::Record;
use crate::row::{Change, Ended, EvidenceClass, LiveRow, Row, RowKind};

/// Rows looked at for one page at most, so that nobody holds the index for long.
const SCAN_MAX: usize = 10_000;

/// Which rows a page shows. Every condition that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct RowFilter {
    /// Only rows under this root.
    pub root: Option<RootId>,
    /// Only rows of this kind.
    pub kind: Option<RowKind>,
    /// Only rows of this agent.
    pub agent: Option<String>,
    /// Only rows whose holders take their trust from elsewhere, or only others.
    pub own_trust: Option<bool>,
    /// Only rows that keep the trust gate of this sequence closed for lack of evidence of this class.
    pub unproven: Option<(Sequence, EvidenceClass)>,
    /// Also rows that were released or superseded, which hold no gate.
    pub ended_too: bool,
}

/// Some rows, those that live longest first.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The rows.
    pub rows: Vec<LiveRow>,
    /// Where the next page starts; `None` when there is none. A page may have few rows, or none, and yet a next one.
    pub next: Option<Cursor>,
}

/// A place among the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(Timestamp, Serial);

#[derive(Debug, Default)]
pub(crate) struct Index {
    rows: HashMap<Serial, LiveRow>,
    expiry: BTreeSet<(Timestamp, Serial)>,
    counts: Counts,
    /// While files are read: what is known of rows that were not met yet.
    early: HashMap<Serial, Change>,
}

impl Index {
    /// Puts a new row in; `false` when its serial is taken.
    pub(crate) fn insert(&mut self, row: Arc<Row>) -> bool {
        if self.rows.contains_key(&row.serial) {
            return false;
        }
        self.put(LiveRow::new(row));
        true
    }

    /// Takes a row out that was never stored.
    pub(crate) fn forget(&mut self, serial: &Serial) {
        if let Some(live) = self.rows.remove(serial) {
            self.counts.remove(&live);
            self.expiry.remove(&(live.row.not_after, *serial));
        }
    }

    /// Joins knowledge about a row with what is there; whether that changed anything.
    pub(crate) fn join(&mut self, serial: &Serial, change: Change) -> bool {
        let Some(live) = self.rows.get_mut(serial) else { return false };
        let mut joined = live.clone();
        joined.join(change);
        if joined == *live {
            return false;
        }
        self.counts.replace(live, &joined);
        *live = joined;
        true
    }

    /// A row, whether it counts or has ended.
    pub(crate) fn get(&self, serial: &Serial) -> Option<&LiveRow> {
        self.rows.get(serial)
    }

    /// Drops the rows whose leaves no clock within `2 * skew` can take for valid. Answers how many.
    pub(crate) fn expire(&mut self, now: Timestamp, skew: Duration) -> u64 {
        let mut expired = 0;
        while let Some(&(not_after, serial)) = self.expiry.first()
            && is_over(not_after, now, skew)
        {
            self.forget(&serial);
            expired += 1;
        }
        expired
    }

    pub(crate) fn page(&self, filter: &RowFilter, after: Option<Cursor>, limit: usize) -> Page {
        let end = after.map_or(Bound::Unbounded, |Cursor(at, serial)| Bound::Excluded((at, serial)));
        let mut page = Page::default();
        for (seen, &(not_after, serial)) in self.expiry.range((Bound::Unbounded, end)).rev().enumerate() {
            if seen >= SCAN_MAX || page.rows.len() >= limit {
                return page;
            }
            page.next = Some(Cursor(not_after, serial));
            page.rows.extend(self.rows.get(&serial).filter(|live| filter.matches(live)).cloned());
        }
        page.next = None;
        page
    }

    #[cfg(test)]
    pub(crate) fn all(&self) -> impl Iterator<Item = &LiveRow> {
        self.rows.values()
    }

    pub(crate) fn aggregates(&self) -> Aggregates {
        self.counts.snapshot()
    }

    pub(crate) fn rows_of(&self, agent: &str) -> u64 {
        self.counts.rows_of(agent)
    }

    pub(crate) fn agents(&self) -> usize {
        self.counts.agents()
    }

    /// The counts, with the serials behind some of them.
    pub(crate) const fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Takes a record in that was read from a file. Files may come in any order.
    pub(crate) fn replay(&mut self, record: &Record) {
        let (serial, change) = match record {
            Record::Intent(row) => return self.meet(row, Change::default()),
            Record::Carried(live) => return self.meet(&live.row, live.change()),
            Record::Issued { serial, certificate } => {
                (serial, Change { certificate: Some(*certificate), ..Change::default() })
            }
            Record::Acked { serial, proof } => (serial, Change::proven(*proof)),
            Record::Released { serial } => (serial, Change::ended(Ended::Released)),
            Record::Superseded { serial, by } => (serial, Change::ended(Ended::Superseded { by: *by })),
            Record::Abandoned { serial, .. } => (serial, Change::ended(Ended::Abandoned)),
            Record::Refused(_) | Record::Suppressed { .. } | Record::End { .. } => return,
        };
        if self.rows.contains_key(serial) {
            self.join(serial, change);
        } else {
            self.early.entry(*serial).or_default().join(change);
        }
    }

    /// All files are read: what is known of rows that were never met is of no use.
    pub(crate) fn replayed(&mut self) {
        self.early = HashMap::new();
    }

    fn meet(&mut self, row: &Arc<Row>, change: Change) {
        self.insert(Arc::clone(row));
        self.join(&row.serial, change);
        if let Some(early) = self.early.remove(&row.serial) {
            self.join(&row.serial, early);
        }
    }

    fn put(&mut self, live: LiveRow) {
        self.counts.add(&live);
        self.expiry.insert((live.row.not_after, live.row.serial));
        self.rows.insert(live.row.serial, live);
    }
}

impl RowFilter {
    fn matches(&self, live: &LiveRow) -> bool {
        let row = &live.row;
        let unproven = |(s, class)| Standing::of(live).is_unproven(s, class);
        (self.ended_too || live.counts())
            && live.ended != Some(Ended::Abandoned)
            && self.root.is_none_or(|root| root == row.root)
            && self.kind.is_none_or(|kind| kind == row.kind)
            && self.agent.as_ref().is_none_or(|agent| row.agent.as_ref() == Some(agent))
            && self.own_trust.is_none_or(|own_trust| own_trust == live.is_own_trust())
            && self.unproven.is_none_or(unproven)
    }
}

/// Whether a leaf is past its end for every clock that is off by at most `skew`.
pub(crate) fn is_over(not_after: Timestamp, now: Timestamp, skew: Duration) -> bool {
    now > not_after.plus(skew.saturating_mul(2))
}
