//! What records of one file may refer to: its terms, and its latest rows.
//!
//! The writer of a file and its readers keep the same account. A write that was taken back is taken back here too, so
//! no later record refers to anything that is not in the file. Both accounts are bounded: a row that finds no room for
//! its term is written in full, and a row that is too far back is named by its serial.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use trust::{CertificateId, RootId, Serial, SpiffeId, Timestamp};

use crate::fields::{DecodeError, kind_byte, put_option, put_short, put_text};
use crate::row::{Row, RowKind};

/// Terms in a file at most, of about 100 bytes of memory each.
const TERMS_MAX: usize = 1 << 17;
/// Rows that can be named by their place.
const ROWS_MAX: usize = 1 << 15;

/// First byte of the body of a term for root and issuer.
pub(crate) const AUTHORITY: u8 = 0;
/// First byte of the body of a term for who holds a row.
pub(crate) const HOLDER: u8 = 1;

/// The body of the term for a row's root and issuer.
fn put_authority(out: &mut Vec<u8>, row: &Row) {
    out.push(AUTHORITY);
    out.extend_from_slice(row.root.as_bytes());
    out.extend_from_slice(row.issuer.as_bytes());
}

/// The body of the term for who holds a row, under an authority.
fn put_holder(out: &mut Vec<u8>, row: &Row, authority: u32) {
    out.push(HOLDER);
    put_short(out, authority.into());
    put_text(out, row.identity.as_str());
    put_option(out, row.agent.as_deref(), put_text);
    out.push(kind_byte(row.kind));
}

/// The account of the writer.
#[derive(Debug)]
pub(crate) struct Writing {
    /// Terms by their bodies.
    terms: HashMap<Arc<[u8]>, u32>,
    terms_max: usize,
    /// The latest rows that are durable, and their numbers in the file.
    numbers: HashMap<Serial, u64>,
    latest: VecDeque<Serial>,
    /// Rows of the file that are durable.
    rows: u64,
    /// Time of the last record of a short form.
    at: Timestamp,
    /// What the present write adds.
    fresh_terms: Vec<Arc<[u8]>>,
    fresh_rows: Vec<Serial>,
    durable_at: Timestamp,
}

impl Default for Writing {
    fn default() -> Self {
        Self {
            terms: HashMap::new(),
            terms_max: TERMS_MAX,
            numbers: HashMap::new(),
            latest: VecDeque::new(),
            rows: 0,
            at: Timestamp::default(),
            fresh_terms: Vec::new(),
            fresh_rows: Vec::new(),
            durable_at: Timestamp::default(),
        }
    }
}

impl Writing {
    /// The number of the term for what a row has in common with others. Terms that are new are shown to `state`, which
    /// puts them into the file. `None` when there is no room for more.
    pub(crate) fn holder(&mut self, row: &Row, mut state: impl FnMut(u32, &[u8])) -> Option<u32> {
        let mut body = Vec::with_capacity(128);
        put_authority(&mut body, row);
        let authority = self.term(&body, &mut state)?;
        body.clear();
        put_holder(&mut body, row, authority);
        self.term(&body, &mut state)
    }

    fn term(&mut self, body: &[u8], state: &mut impl FnMut(u32, &[u8])) -> Option<u32> {
        if let Some(number) = self.terms.get(body) {
            return Some(*number);
        }
        let number =
            u32::try_from(self.terms.len()).ok().filter(|_| self.terms.len() < self.terms_max)?;
        state(number, body);
        let body: Arc<[u8]> = body.into();
        self.terms.insert(Arc::clone(&body), number);
        self.fresh_terms.push(body);
        Some(number)
    }

    /// Notes the time of a record, and answers the one before.
    pub(crate) fn at(&mut self, at: Timestamp) -> Timestamp {
        std::mem::replace(&mut self.at, at)
    }

    /// Notes a row. It can be named by its place once it is durable.
    pub(crate) fn row(&mut self, serial: Serial) {
        self.fresh_rows.push(serial);
    }

    /// How many rows back a row is, 1 for the last; `None` for one that is too far back, or in another file.
    pub(crate) fn rows_since(&self, serial: &Serial) -> Option<u64> {
        let since =
            (self.rows + self.fresh_rows.len() as u64).checked_sub(*self.numbers.get(serial)?)?;
        (since <= ROWS_MAX as u64).then_some(since)
    }

    /// Everything that was noted is durable.
    pub(crate) fn keep(&mut self) {
        self.fresh_terms.clear();
        self.durable_at = self.at;
        for serial in self.fresh_rows.drain(..) {
            self.numbers.insert(serial, self.rows);
            self.rows += 1;
            self.latest.push_back(serial);
        }
        while self.latest.len() > ROWS_MAX {
            let Some(serial) = self.latest.pop_front() else { return };
            let number = self.rows - self.latest.len() as u64 - 1;
            // A row that came twice is known by its later place.
            if self.numbers.get(&serial) == Some(&number) {
                self.numbers.remove(&serial);
            }
        }
    }

    /// Nothing of what was noted since is in the file.
    pub(crate) fn take_back(&mut self) {
        for body in self.fresh_terms.drain(..) {
            self.terms.remove(&body);
        }
        self.fresh_rows.clear();
        self.at = self.durable_at;
    }
}

/// What rows of a file have in common.
#[derive(Debug)]
pub(crate) enum Term {
    Authority { root: RootId, issuer: CertificateId },
    Holder { authority: u64, identity: SpiffeId, agent: Option<String>, kind: RowKind },
}

type Holder<'a> = (&'a SpiffeId, &'a Option<String>, RowKind, (RootId, CertificateId));

/// The account of a reader.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    terms: Vec<Term>,
    latest: VecDeque<Serial>,
    /// Time of the last record of a short form.
    pub(crate) at: Timestamp,
}

impl Reading {
    /// Notes a term, which must be the next.
    pub(crate) fn term(&mut self, number: u64, term: Term) -> Result<(), DecodeError> {
        if number != self.terms.len() as u64 {
            return Err(DecodeError::Malformed);
        }
        if self.terms.len() >= TERMS_MAX {
            return Err(DecodeError::Newer);
        }
        self.terms.push(term);
        Ok(())
    }

    pub(crate) fn holder(&self, number: u64) -> Result<Holder<'_>, DecodeError> {
        let Some(Term::Holder { authority, identity, agent, kind }) = self.look(number) else {
            return Err(DecodeError::Malformed);
        };
        let Some(Term::Authority { root, issuer }) = self.look(*authority) else {
            return Err(DecodeError::Malformed);
        };
        Ok((identity, agent, *kind, (*root, *issuer)))
    }

    fn look(&self, number: u64) -> Option<&Term> {
        self.terms.get(usize::try_from(number).ok()?)
    }

    /// Notes a row.
    pub(crate) fn row(&mut self, serial: Serial) {
        if self.latest.len() == ROWS_MAX {
            self.latest.pop_front();
        }
        self.latest.push_back(serial);
    }

    /// The row that is so many back, 1 for the last.
    pub(crate) fn row_before(&self, since: u64) -> Result<Serial, DecodeError> {
        let since = usize::try_from(since).map_err(|_| DecodeError::Malformed)?;
        let index = self.latest.len().checked_sub(since).ok_or(DecodeError::Malformed)?;
        self.latest.get(index).copied().ok_or(DecodeError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use crate::record::{Entry, Record};
    use crate::row::LiveRow;
    use crate::segment::{FileId, SegmentId};
    use crate::testing::{NOW, applied, certificate, one_of_each, row, serial};

    /// A file that is written record by record, each a commit of its own.
    struct Bench {
        file: FileId,
        bytes: Vec<u8>,
        writing: Writing,
    }

    impl Bench {
        fn new() -> Self {
            let file = FileId { segment: SegmentId::parse("s").unwrap(), number: 1 };
            Self { bytes: frame::header(&file), file, writing: Writing::default() }
        }

        /// Answers how many bytes it took.
        fn write(&mut self, record: Record) -> usize {
            let mut commit = Vec::new();
            frame::append(&Entry { at: NOW, record }, &mut self.writing, &mut commit);
            self.writing.keep();
            self.bytes.extend_from_slice(&commit);
            commit.len()
        }

        fn read(&self) -> Vec<Record> {
            let source = frame::Source { file: &self.file, path: std::path::Path::new("log") };
            let mut records = Vec::new();
            let scan = frame::scan(&source, &self.bytes, true, |entry| records.push(entry.record))
                .unwrap();
            assert_eq!((scan.whole, scan.records), (self.bytes.len() as u64, records.len() as u64));
            records
        }
    }

    fn other(number: u64) -> Record {
        let identity = SpiffeId::parse(&format!("spiffe://example.org/w{number}")).unwrap();
        Record::Intent(Arc::new(Row { identity, ..row(number) }))
    }

    fn lives(number: u64) -> [Record; 3] {
        [
            Record::Intent(Arc::new(row(number))),
            Record::Issued { serial: serial(number), certificate: certificate(1) },
            Record::Acked { serial: serial(number), proof: applied(4) },
        ]
    }

    #[test]
    fn every_record_reads_back_and_so_does_one_about_a_row_of_another_file() {
        let mut bench = Bench::new();
        let about_others = [
            Record::Acked { serial: serial(77), proof: applied(9) },
            Record::Released { serial: serial(78) },
        ];
        let mut records: Vec<_> = one_of_each().into_iter().chain(about_others).collect();
        records.retain(|record| !matches!(record, Record::End { .. }));
        records.push(Record::End { records: records.len() as u64 });
        for record in &records {
            bench.write(record.clone());
        }
        assert_eq!(bench.read(), records);
    }

    #[test]
    fn a_row_with_certificate_and_acknowledgement_takes_less_than_half_of_322_bytes() {
        let mut bench = Bench::new();
        bench.write(Record::Carried(LiveRow::new(Arc::new(row(0)))));
        for number in 1..300 {
            let bytes: usize = lives(number).into_iter().map(|record| bench.write(record)).sum();
            assert!(bytes <= 135, "{bytes}");
        }
        let first = bench.write(other(1_000));
        assert!(first <= 135, "with a term of its own: {first}");
    }

    #[test]
    fn what_was_taken_back_is_never_referred_to() {
        let (mut bench, mut lost) = (Bench::new(), Vec::new());
        bench.write(other(1));
        for record in [other(2), other(3)] {
            frame::append(
                &Entry { at: NOW.plus(std::time::Duration::from_secs(9)), record },
                &mut bench.writing,
                &mut lost,
            );
        }
        bench.writing.take_back();
        let acked = |number| Record::Acked { serial: serial(number), proof: applied(4) };
        let records = [other(1), other(3), acked(2), other(2), acked(1), acked(3)];
        for record in &records[1..] {
            bench.write(record.clone());
        }
        assert_eq!(bench.read(), records);
    }

    #[test]
    fn both_accounts_are_bounded_and_what_finds_no_room_is_written_in_full() {
        let mut bench = Bench::new();
        bench.writing.terms_max = 3;
        let records: Vec<_> = (0..6).map(other).collect();
        let bytes: Vec<_> = records.iter().map(|record| bench.write(record.clone())).collect();
        assert!(
            bytes[3..].iter().all(|bytes| *bytes > 160) && bench.writing.terms.len() == 3,
            "{bytes:?}"
        );
        assert_eq!(bench.read(), records);
        let (mut bench, rows) = (Bench::new(), ROWS_MAX as u64 + 10);
        (0..rows).for_each(|number| _ = bench.write(Record::Intent(Arc::new(row(number)))));
        assert_eq!((bench.writing.latest.len(), bench.writing.numbers.len()), (ROWS_MAX, ROWS_MAX));
        let far = [9, 10, rows - 1]
            .map(|number| Record::Released { serial: serial(number) }.serial().unwrap());
        assert_eq!(
            far.map(|serial| bench.writing.rows_since(&serial)),
            [None, Some(ROWS_MAX as u64), Some(1)]
        );
        for serial in far {
            bench.write(Record::Acked { serial, proof: applied(4) });
        }
        assert_eq!(
            bench.read().split_off(usize::try_from(rows).unwrap()),
            far.map(|serial| Record::Acked { serial, proof: applied(4) })
        );
    }

    #[test]
    fn what_a_file_does_not_hold_cannot_be_referred_to() {
        let mut bench = Bench::new();
        bench.write(other(1));
        let header = bench.bytes.len();
        lives(1).into_iter().skip(1).for_each(|record| _ = bench.write(record));
        let mut without = Bench::new();
        without.bytes.extend_from_slice(&bench.bytes[header..]);
        let source = frame::Source { file: &without.file, path: std::path::Path::new("log") };
        assert!(frame::scan(&source, &without.bytes, true, |_| {}).is_err());
        let mut reading = Reading::default();
        let authority =
            || Term::Authority { root: crate::testing::root(1), issuer: certificate(1) };
        assert_eq!(reading.term(1, authority()), Err(DecodeError::Malformed));
        reading.term(0, authority()).unwrap();
        assert!(
            reading.holder(0).is_err()
                && reading.holder(1).is_err()
                && reading.row_before(1).is_err()
        );
        assert!(reading.row_before(u64::MAX).is_err());
    }
}
