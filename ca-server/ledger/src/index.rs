//! The rows that may live, in memory: by serial, by end of validity, and counted.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use trust::{Cover, RootId, Sequence, Serial, SpiffeId, Timestamp};

use crate::aggregates::{Aggregates, Counts, Ends, Required, Standing};
use crate::error::LedgerError;
use crate::record::Record;
use crate::row::{Change, Ended, LiveRow, Row, RowKind};
use crate::settings::Settings;
use crate::store::{Number, Rows};

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
    /// Only rows of whose holders an operator said by name that their trust is not waited for, or only others.
    pub waived: Option<bool>,
    /// Only rows that keep the trust gate of this sequence closed for lack of evidence of this class.
    pub unproven: Option<(Sequence, Required)>,
    /// Only rows of this identity. They are looked for row by row.
    pub identity: Option<SpiffeId>,
    /// Also rows that were released, superseded or forgotten, which hold no gate.
    pub ended_too: bool,
}

/// Some rows, those that live longest first.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The rows.
    pub rows: Vec<LiveRow>,
    /// Where the next page starts; `None` when there is none. A page may have few rows, or none, and yet a next one.
    pub next: Option<Cursor>,
    /// How many rows were looked at for it.
    pub looked_at: usize,
}

/// A place among the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(Timestamp, Serial);

impl Cursor {
    /// As bytes, for whoever asks for the next page later.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        let Self(at, serial) = self;
        [at.as_secs().to_be_bytes().as_slice(), serial.as_bytes()].concat()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (at, serial) = bytes.split_first_chunk()?;
        Some(Self(Timestamp::from_secs(i64::from_be_bytes(*at)), Serial::from_bytes(serial)?))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    rows: Rows,
    /// Rows that count.
    counts: Counts,
    /// Rows that count no longer, until their leaves are over.
    ended: Ends,
    /// While files are read: what is known of rows that were not met yet.
    early: HashMap<Serial, Change>,
}

impl Index {
    /// Puts a new row in; `false` when its serial is taken.
    pub(crate) fn insert(&mut self, row: Arc<Row>) -> bool {
        if self.rows.contains(&row.serial) {
            return false;
        }
        self.put(&LiveRow::new(row));
        true
    }

    /// Whether one row more is within the bounds of whoever it is for. The server's own rows have none.
    pub(crate) fn has_room(&self, row: &Row, settings: &Settings) -> Result<(), LedgerError> {
        let refused = |holder, limit, setting| Err(LedgerError::TooMany { holder, limit, setting });
        if row.kind == RowKind::Own {
            return Ok(());
        }
        let Settings { rows_per_identity, rows_per_agent, .. } = *settings;
        if self.counts.rows_as(&row.identity) >= rows_per_identity {
            return refused(row.identity.to_string(), rows_per_identity, "rows_per_identity");
        }
        match &row.agent {
            Some(agent) if self.counts.rows_of(agent) >= rows_per_agent => {
                refused(format!("agent {agent}"), rows_per_agent, "rows_per_agent")
            }
            _ => Ok(()),
        }
    }

    /// Takes a row out that was never stored.
    pub(crate) fn forget(&mut self, serial: &Serial) {
        if let Some((number, live)) = self.rows.remove(serial) {
            self.counts.remove(number, &live);
            if !live.counts() {
                self.ended.remove(&(live.row.not_after, number));
            }
        }
    }

    /// Joins knowledge about a row with what is there; whether that changed anything.
    pub(crate) fn join(&mut self, serial: &Serial, change: Change) -> bool {
        let Some((number, live)) = self.rows.find(serial) else { return false };
        let mut joined = live.clone();
        joined.join(change);
        if joined == live {
            return false;
        }
        self.counts.replace(number, &live, &joined);
        let place = (joined.row.not_after, number);
        match (live.counts(), joined.counts()) {
            (true, false) => _ = self.ended.insert(place),
            (false, true) => _ = self.ended.remove(&place),
            (true, true) | (false, false) => {}
        }
        self.rows.update(number, &joined);
        true
    }

    /// A row, whether it counts or has ended.
    pub(crate) fn get(&self, serial: &Serial) -> Option<LiveRow> {
        self.rows.find(serial).map(|(_, live)| live)
    }

    /// Serials and ends of the rows with these numbers, after one of them; from the first on if that one is over.
    pub(crate) fn named(
        &self,
        numbers: &BTreeSet<Number>,
        after: Option<Serial>,
    ) -> impl Iterator<Item = (Serial, Timestamp)> {
        let after = after.and_then(|serial| self.rows.number_of(&serial));
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        numbers.range((from, Bound::Unbounded)).filter_map(|number| self.rows.end_of(*number))
    }

    /// The rows that an operator called gone, whether they count again or not.
    pub(crate) fn forgotten(&self) -> impl Iterator<Item = LiveRow> {
        self.rows.forgotten()
    }

    /// When the leaf of a row ends.
    pub(crate) fn not_after(&self, serial: &Serial) -> Option<Timestamp> {
        self.rows.not_after(serial)
    }

    /// Drops the rows whose leaves no clock within `2 * skew` can take for valid, of each group at most `most`. Answers how
    /// many.
    pub(crate) fn expire(&mut self, now: Timestamp, skew: Duration, most: usize) -> u64 {
        let over = |ends: &Ends| -> Vec<Serial> {
            let over = ends.iter().take_while(|(not_after, _)| is_over(*not_after, now, skew));
            over.take(most).filter_map(|(_, number)| Some(self.rows.end_of(*number)?.0)).collect()
        };
        let all = self.counts.ends(|_| true).chain([&self.ended]);
        let expired: Vec<_> = all.flat_map(over).collect();
        expired.iter().for_each(|serial| self.forget(serial));
        expired.len() as u64
    }

    /// Only groups that stand as the filter wants are looked at, and of each only as many rows as are shown: an agent alone
    /// is looked for row by row.
    pub(crate) fn page(&self, filter: &RowFilter, after: Option<Cursor>, limit: usize) -> Page {
        // Of a row that is over meanwhile those of the same moment are shown again, rather than any left out.
        let end = after.map_or(Bound::Unbounded, |Cursor(at, serial)| {
            Bound::Excluded((at, self.rows.number_of(&serial).unwrap_or(Number::MAX)))
        });
        let ended = filter.ended_too.then_some(&self.ended);
        let groups = self.counts.ends(|standing| filter.stands(standing)).chain(ended);
        let mut ways: Vec<_> =
            groups.map(|ends| ends.range((Bound::Unbounded, end)).rev()).collect();
        let mut heads: BinaryHeap<_> = ways
            .iter_mut()
            .enumerate()
            .filter_map(|(way, ends)| Some((*ends.next()?, way)))
            .collect();
        let mut page = Page::default();
        while let Some(((not_after, number), way)) = heads.pop() {
            if page.looked_at >= SCAN_MAX || page.rows.len() >= limit {
                return page;
            }
            page.looked_at += 1;
            if let Some(live) = self.rows.at(number) {
                page.next = Some(Cursor(not_after, live.row.serial));
                let standing = self.counts.standing(&live);
                page.rows.extend(Some(live).filter(|live| filter.matches(live, &standing)));
            }
            heads.extend(ways.get_mut(way).and_then(|ends| Some((*ends.next()?, way))));
        }
        page.next = None;
        page
    }

    #[cfg(test)]
    pub(crate) fn all(&self) -> impl Iterator<Item = LiveRow> {
        self.rows.iter()
    }

    pub(crate) fn aggregates(&self) -> Aggregates {
        self.counts.snapshot()
    }

    /// Rows that count and whose holders take their trust from elsewhere, of the identities that are asked about; at most
    /// `limit` are looked at.
    pub(crate) fn own_trust(&self, limit: usize, of: impl Fn(&SpiffeId) -> bool) -> Vec<LiveRow> {
        let asked = self.counts.own_trust().iter().filter(|(identity, _)| of(identity));
        let numbers = asked.flat_map(|(_, groups)| groups.numbers());
        numbers.take(limit).filter_map(|number| self.rows.at(number)).collect()
    }

    /// From now on no trust is waited for of whom these cover, and of nobody else.
    pub(crate) fn set_waivers(&mut self, waivers: &BTreeSet<Cover>) {
        if self.counts.waivers() != waivers {
            self.counts.set_waivers(waivers.clone(), self.rows.numbered());
        }
    }

    /// The rows that count and are asked for.
    pub(crate) fn rows_asked(&self, asked: impl Fn(&Row) -> bool) -> impl Iterator<Item = LiveRow> {
        let rows = self.rows.numbered().map(|(_, live)| live);
        rows.filter(move |live| live.counts() && asked(&live.row))
    }

    /// One such row of each identity that has any.
    pub(crate) fn own_trust_of_each(&self) -> Vec<LiveRow> {
        let firsts = self.counts.own_trust().values().filter_map(|groups| groups.numbers().next());
        firsts.filter_map(|number| self.rows.at(number)).collect()
    }

    /// The counts of such rows, together for all identities with the same answer; those without one are left out.
    pub(crate) fn own_trust_by<K: Ord>(
        &self,
        grouped: impl Fn(&SpiffeId) -> Option<K>,
    ) -> BTreeMap<K, Aggregates> {
        let mut by: BTreeMap<K, Aggregates> = BTreeMap::new();
        for (identity, groups) in self.counts.own_trust() {
            if let Some(key) = grouped(identity) {
                by.entry(key).or_default().join(&groups.snapshot());
            }
        }
        by
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
            Record::Superseded { serial, by } => {
                (serial, Change::ended(Ended::Superseded { by: *by }))
            }
            Record::Abandoned { serial, .. } => (serial, Change::ended(Ended::Abandoned)),
            Record::Turned { serial, forgotten } => (serial, Change::turned(*forgotten)),
            Record::Unmatched { .. }
            | Record::Bearer { .. }
            | Record::Refused(_)
            | Record::Suppressed { .. }
            | Record::End { .. } => return,
        };
        if self.rows.contains(serial) {
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

    fn put(&mut self, live: &LiveRow) {
        let number = self.rows.insert(live);
        self.counts.add(number, live);
        if !live.counts() {
            self.ended.insert((live.row.not_after, number));
        }
    }
}

impl RowFilter {
    /// Whether rows that stand so can match.
    fn stands(&self, standing: &Standing) -> bool {
        self.root.is_none_or(|root| root == standing.root)
            && self.kind.is_none_or(|kind| kind == standing.kind)
            && self.own_trust.is_none_or(|own_trust| own_trust == standing.own_trust)
            && self.waived.is_none_or(|waived| waived == standing.waived)
            && self.unproven.is_none_or(|(s, required)| standing.is_unproven(s, required))
    }

    fn matches(&self, live: &LiveRow, standing: &Standing) -> bool {
        (self.ended_too || live.counts())
            && live.ended != Some(Ended::Abandoned)
            && self.agent.as_ref().is_none_or(|agent| live.row.agent.as_ref() == Some(agent))
            && self.identity.as_ref().is_none_or(|identity| live.row.identity == *identity)
            && self.stands(standing)
    }
}

/// Whether a leaf is past its end for every clock that is off by at most `skew`.
pub(crate) fn is_over(not_after: Timestamp, now: Timestamp, skew: Duration) -> bool {
    now > not_after.plus(skew.saturating_mul(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregates::Tally;
    use crate::row::{EvidenceClass, Word};
    use crate::testing::{applied, root, row};

    const ROWS: u64 = 200_000;

    #[test]
    fn what_is_asked_of_a_gate_over_and_over_looks_at_no_more_rows_than_it_names() {
        let id =
            |number: u64| SpiffeId::parse(&format!("spiffe://example.org/own/{number}")).unwrap();
        let mut index = Index::default();
        for number in 0..ROWS {
            let until = row(0).not_after.plus(Duration::from_secs(number % 3_600));
            let (word, identity) = match number % 2 {
                0 => (Word::OwnTrust, id(number % 4)),
                _ => (Word::None, id(number % 50)),
            };
            let born = Sequence(1 + number % 3);
            assert!(index.insert(Arc::new(Row {
                not_after: until,
                word,
                identity,
                born,
                ..row(number)
            })));
        }
        // What is known of them changes, and some of them end.
        for number in (0..ROWS).step_by(20) {
            let change = match number % 40 {
                0 => Change::proven(applied(4)),
                _ => Change::ended(Ended::Released),
            };
            assert!(index.join(&row(number).serial, change));
        }
        let mut expected: BTreeMap<SpiffeId, BTreeMap<Standing, (u64, Timestamp)>> =
            BTreeMap::new();
        for live in index.all().filter(|live| live.counts() && live.is_own_trust()) {
            let known = expected.entry(live.row.identity.clone()).or_default();
            let tally = known.entry(Standing::of(&live)).or_insert((0, live.row.not_after));
            *tally = (tally.0 + 1, tally.1.max(live.row.not_after));
        }

        index.rows.looked_at.set(0);
        let all = index.aggregates();
        let own = index.own_trust_by(|identity| Some(identity.clone()));
        let together = index.own_trust_by(|identity| (*identity != id(0)).then_some(()));
        assert_eq!(index.rows.looked_at.get(), 0, "counts are kept, not made");
        let plain = |(standing, tally): (&Standing, &Tally)| {
            (*standing, (tally.rows, tally.latest_not_after.unwrap()))
        };
        let counted: BTreeMap<_, BTreeMap<_, _>> = own
            .into_iter()
            .map(|(identity, rows)| (identity, rows.groups().map(plain).collect()))
            .collect();
        assert_eq!(counted, expected);
        let sum = |rows: &BTreeMap<Standing, (u64, Timestamp)>| {
            rows.values().map(|(rows, _)| rows).sum::<u64>()
        };
        let of_others = expected.iter().filter(|(identity, _)| **identity != id(0));
        assert_eq!(together[&()].all().rows, of_others.map(|(_, rows)| sum(rows)).sum::<u64>());
        assert_eq!(all.all().rows, ROWS - ROWS / 40);
        assert_eq!(index.own_trust(64, |_| true).len(), 64);
        let unproven = Some((Sequence(5), EvidenceClass::Applied.into()));
        assert_eq!(
            index.page(&RowFilter { unproven, ..RowFilter::default() }, None, 32).rows.len(),
            32
        );
        assert_eq!(index.rows.looked_at.get(), 64 + 32);
        // Whoever has many rows hides nobody else.
        let last = index.own_trust(64, |identity| *identity == id(2));
        assert!(!last.is_empty() && last.iter().all(|live| live.row.identity == id(2)));
        assert_eq!(index.own_trust_of_each().len(), expected.len());
    }

    #[test]
    fn who_holds_a_gate_longest_is_found_without_looking_at_the_others() {
        let mut index = Index::default();
        for number in 0..ROWS {
            let until = row(0).not_after.plus(Duration::from_secs(number % 3_600));
            let (kind, born) = match number % 100_000 {
                0 => (RowKind::Own, Sequence(1)),
                _ => (RowKind::AgentHeld, Sequence(1 + number % 7)),
            };
            assert!(index.insert(Arc::new(Row { not_after: until, kind, born, ..row(number) })));
        }
        let unproven = Some((Sequence(5), EvidenceClass::Applied.into()));
        let wanted = RowFilter { kind: Some(RowKind::AgentHeld), unproven, ..RowFilter::default() };
        let page = index.page(&wanted, None, 32);
        assert_eq!((page.rows.len(), page.looked_at), (32, 32));
        let latest = index.aggregates().unproven(Sequence(5)).latest_not_after.unwrap();
        assert_eq!(page.rows[0].row.not_after, latest);
        assert!(page.rows.is_sorted_by(|a, b| a.row.not_after >= b.row.not_after));
        // Few among many, and none.
        let own = RowFilter { kind: Some(RowKind::Own), ..RowFilter::default() };
        let page = index.page(&own, None, 32);
        assert_eq!((page.rows.len(), page.looked_at, page.next), (2, 2, None));
        let nobody = RowFilter { root: Some(root(9)), ..RowFilter::default() };
        assert_eq!(index.page(&nobody, None, 32).looked_at, 0);
        // All of them, page by page, each once.
        let (mut seen, mut next) = (0, None);
        loop {
            let page = index.page(&RowFilter::default(), next, 1_000);
            seen += page.rows.len() as u64;
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        assert_eq!(seen, ROWS);
    }
}
