//! Bytes of a payload: `kind u8 · version of the kind u8 · time i64 · body · 0xa5`.
//!
//! Integers are little-endian, a text is its length as u16 and its bytes, an option is 0 or 1 and the value. The newest
//! versions of the kinds that there are most of are written in `compact` instead, with what the file has stated before.
//! The last byte is never zero, nor one bit away from it, so that a record whose end never reached the disk is told
//! from one that did.

use std::sync::Arc;

use trust::Timestamp;

use crate::compact;
use crate::fields::{
    DecodeError, WORD_VERSION, class_byte, kind_byte, put_ended, put_option, put_short, put_text,
    put_time, put_time_from, put_word,
};
use crate::input::Input;
use crate::record::{AuditRefusal, Entry, Record};
use crate::row::{Evidence, Forgotten, LiveRow, Proof, Row};
use crate::shorthand::{Reading, Writing};
use crate::unmatched;

const VERSION: u8 = 1;
/// Version of the kinds that hold a row, from which on it names a term of its file.
const TERM_VERSION: u8 = 3;
/// Version of what is said of a row, from which on the row may be named by its place in the file.
const PLACE_VERSION: u8 = 2;
/// Kind of a term: what many rows of the file have in common. It is no record of its own.
const TERM: u8 = 11;
/// Kind of a record that is written in another form now, see [`unmatched`].
const UNMATCHED: u8 = 13;
/// The newest kind.
const KIND_LAST: u8 = 14;
const END_MARK: u8 = 0xa5;

/// Appends the payload of a term with its number.
pub(crate) fn encode_term(number: u32, body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[TERM, VERSION]);
    put_short(out, number.into());
    out.extend_from_slice(body);
    out.push(END_MARK);
}

/// Appends the payload of an entry. `term` is what its row has in common with others, if that is stated in the file.
pub(crate) fn encode(entry: &Entry, term: Option<u32>, writing: &mut Writing, out: &mut Vec<u8>) {
    match (&entry.record, term) {
        (Record::Intent(row), Some(term)) => {
            let since = start(out, Form { kind: 1, version: TERM_VERSION }, entry, writing);
            compact::put_row(out, row, term, since);
        }
        (Record::Carried(live), Some(term)) => {
            let since = start(out, Form { kind: 9, version: TERM_VERSION }, entry, writing);
            compact::put_row(out, &live.row, term, since);
            compact::put_known(out, live, since);
        }
        (Record::Issued { serial, certificate }, _) => {
            start(out, Form { kind: 2, version: PLACE_VERSION }, entry, writing);
            compact::put_place(out, serial, writing);
            out.extend_from_slice(certificate.as_bytes());
        }
        (Record::Acked { serial, proof }, _) => {
            let since = start(out, Form { kind: 4, version: PLACE_VERSION }, entry, writing);
            compact::put_place(out, serial, writing);
            compact::put_proof(out, proof, since);
        }
        _ => encode_long(entry, out),
    }
    out.push(END_MARK);
    if let Record::Intent(row) | Record::Carried(LiveRow { row, .. }) = &entry.record {
        writing.row(row.serial);
    }
}

/// How a record is written.
struct Form {
    kind: u8,
    version: u8,
}

/// Kind, version and time of a compact record; the time is told from that of the compact record before it.
fn start(out: &mut Vec<u8>, form: Form, entry: &Entry, writing: &mut Writing) -> Timestamp {
    out.extend_from_slice(&[form.kind, form.version]);
    put_time_from(out, writing.at(entry.at), entry.at);
    entry.at
}

/// Everything but the end mark of a payload that stands for itself.
fn encode_long(entry: &Entry, out: &mut Vec<u8>) {
    let (kind, version) = match &entry.record {
        Record::Intent(_) => (1, WORD_VERSION),
        Record::Issued { .. } => (2, VERSION),
        Record::Abandoned { .. } => (3, VERSION),
        Record::Acked { .. } => (4, VERSION),
        Record::Released { .. } => (5, VERSION),
        Record::Superseded { .. } => (6, VERSION),
        // Also in a form that former releases pass over.
        Record::Refused(_) | Record::Unmatched { .. } => (7, VERSION),
        Record::Suppressed { .. } => (8, VERSION),
        Record::Carried(_) => (9, WORD_VERSION),
        Record::End { .. } => (10, VERSION),
        Record::Turned { .. } => (12, VERSION),
        Record::Bearer { .. } => (14, VERSION),
    };
    out.extend_from_slice(&[kind, version]);
    put_time(out, entry.at);
    match &entry.record {
        Record::Intent(row) => put_row(out, row),
        Record::Issued { serial, certificate } => {
            out.extend_from_slice(serial.as_bytes());
            out.extend_from_slice(certificate.as_bytes());
        }
        Record::Abandoned { serial, reason } => {
            out.extend_from_slice(serial.as_bytes());
            put_text(out, reason);
        }
        Record::Acked { serial, proof } => {
            out.extend_from_slice(serial.as_bytes());
            put_proof(out, proof);
        }
        Record::Released { serial } => out.extend_from_slice(serial.as_bytes()),
        Record::Superseded { serial, by } => {
            out.extend_from_slice(serial.as_bytes());
            out.extend_from_slice(by.as_bytes());
        }
        Record::Refused(refusal) => put_refusal(out, refusal),
        Record::Suppressed { refusals, since } => {
            out.extend_from_slice(&refusals.to_le_bytes());
            put_time(out, *since);
        }
        Record::Carried(live) => put_live_row(out, live),
        Record::End { records } => out.extend_from_slice(&records.to_le_bytes()),
        Record::Turned { serial, forgotten } => {
            out.extend_from_slice(serial.as_bytes());
            out.push(forgotten.turns());
        }
        Record::Unmatched { serial, shown, owner } => {
            put_refusal(out, &unmatched::as_refusal(serial, shown, owner));
        }
        Record::Bearer { serial, place } => {
            out.extend_from_slice(serial.as_bytes());
            put_text(out, place);
        }
    }
}

/// Reads a payload back. A term is noted, and is no entry.
pub(crate) fn decode(payload: &[u8], reading: &mut Reading) -> Result<Option<Entry>, DecodeError> {
    let mut input = Input(payload);
    let (kind, version) = (input.byte()?, input.byte()?);
    if !(1..=KIND_LAST).contains(&kind) || !(VERSION..=newest_version(kind)).contains(&version) {
        return Err(DecodeError::Newer);
    }
    let mut read = || match (kind, version) {
        (TERM, _) => compact::term(&mut input, reading).map(|()| None),
        (1 | 9, TERM_VERSION) | (2 | 4, PLACE_VERSION) => {
            compact::entry(kind, &mut input, reading).map(Some)
        }
        _ => decode_long(kind, version, &mut input).map(Some),
    };
    let entry = read()?;
    if input.0 != [END_MARK] {
        return Err(DecodeError::Malformed);
    }
    if let Some(Record::Intent(row) | Record::Carried(LiveRow { row, .. })) =
        entry.as_ref().map(|entry| &entry.record)
    {
        reading.row(row.serial);
    }
    Ok(entry)
}

fn decode_long(kind: u8, version: u8, input: &mut Input<'_>) -> Result<Entry, DecodeError> {
    let at = input.time()?;
    let record = match kind {
        1 => Record::Intent(Arc::new(input.row(version)?)),
        2 => Record::Issued { serial: input.serial()?, certificate: input.certificate()? },
        3 => Record::Abandoned { serial: input.serial()?, reason: input.text()? },
        4 => Record::Acked { serial: input.serial()?, proof: input.proof()? },
        5 => Record::Released { serial: input.serial()? },
        6 => Record::Superseded { serial: input.serial()?, by: input.serial()? },
        7 => unmatched::record_of(input.refusal()?),
        8 => Record::Suppressed { refusals: input.u64()?, since: input.time()? },
        9 => Record::Carried(input.live_row(version)?),
        10 => Record::End { records: input.u64()? },
        12 => Record::Turned {
            serial: input.serial()?,
            forgotten: Forgotten::from_turns(input.byte()?),
        },
        UNMATCHED => Record::Unmatched {
            serial: input.serial()?,
            shown: input.serial()?,
            owner: input.text()?,
        },
        _ => Record::Bearer { serial: input.serial()?, place: input.text()? },
    };
    Ok(Entry { at, record })
}

const fn newest_version(kind: u8) -> u8 {
    match kind {
        1 | 9 => TERM_VERSION,
        2 | 4 => PLACE_VERSION,
        _ => VERSION,
    }
}

fn put_row(out: &mut Vec<u8>, row: &Row) {
    out.extend_from_slice(row.serial.as_bytes());
    out.extend_from_slice(row.spki.as_bytes());
    put_text(out, row.identity.as_str());
    put_option(out, row.agent.as_deref(), put_text);
    out.extend_from_slice(row.root.as_bytes());
    out.extend_from_slice(row.issuer.as_bytes());
    put_time(out, row.not_after);
    out.extend_from_slice(&row.born.0.to_le_bytes());
    out.push(kind_byte(row.kind));
    put_word(out, row.word);
}

fn put_proof(out: &mut Vec<u8>, proof: &Proof) {
    out.extend_from_slice(&proof.applied.0.to_le_bytes());
    out.push(class_byte(proof.class));
    put_time(out, proof.at);
}

/// The sequences of all classes, weakest first: a further class is a new version of the record.
fn put_evidence(out: &mut Vec<u8>, evidence: &Evidence) {
    for (_, sequence) in evidence.applied.levels() {
        out.extend_from_slice(&sequence.0.to_le_bytes());
    }
    put_time(out, evidence.at);
}

fn put_live_row(out: &mut Vec<u8>, live: &LiveRow) {
    put_row(out, &live.row);
    put_option(out, live.certificate, |out, id| out.extend_from_slice(id.as_bytes()));
    put_evidence(out, &live.evidence);
    put_ended(out, live.ended);
}

fn put_refusal(out: &mut Vec<u8>, refusal: &AuditRefusal) {
    let (reason, caller, identity, peer, detail) = refusal.texts();
    put_text(out, reason);
    put_text(out, caller);
    put_option(out, identity, put_text);
    put_option(out, peer, put_text);
    put_text(out, detail);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn long(entry: &Entry) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_long(entry, &mut bytes);
        bytes.push(END_MARK);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Entry, DecodeError> {
        decode(bytes, &mut Reading::default()).map(Option::unwrap)
    }

    #[test]
    fn every_record_that_stands_for_itself_reads_back_as_it_was_written() {
        for record in testing::one_of_each() {
            let entry = Entry { at: Timestamp::from_secs(-7), record };
            assert_eq!(read(&long(&entry)).unwrap(), entry);
        }
    }

    #[test]
    fn a_prefix_is_never_a_record() {
        for record in testing::one_of_each() {
            let bytes = long(&Entry { at: Timestamp::from_secs(1), record });
            for len in 0..bytes.len() {
                assert!(read(&bytes[..len]).is_err());
            }
        }
    }

    #[test]
    fn a_row_of_the_first_format_is_read_and_says_nothing_of_its_holders() {
        let encoded =
            |record: &Record| long(&Entry { at: Timestamp::from_secs(1), record: record.clone() });
        let row = Arc::new(testing::row(1));
        // The word ends the row, which ends an intent but for the end mark, and begins what is carried.
        let word_at = encoded(&Record::Intent(Arc::clone(&row))).len() - 2;
        for (record, kind) in [
            (Record::Intent(Arc::clone(&row)), 1),
            (Record::Carried(LiveRow::new(Arc::clone(&row))), 9),
        ] {
            let mut bytes = encoded(&record);
            assert_eq!(bytes[..2], [kind, WORD_VERSION]);
            bytes[1] = VERSION;
            bytes.remove(word_at);
            assert_eq!(read(&bytes).unwrap().record, record);
        }
    }

    #[test]
    fn no_record_is_of_a_kind_that_the_former_release_does_not_read() {
        const KIND_OF_THE_FORMER_MAX: u8 = 12;
        // It comes with settings alone that the former release does not know.
        let of_settings = |record: &Record| matches!(record, Record::Bearer { .. });
        for record in testing::one_of_each().into_iter().filter(|record| !of_settings(record)) {
            let entry = Entry { at: Timestamp::from_secs(1), record };
            for term in [None, Some(0)] {
                let mut bytes = Vec::new();
                encode(&entry, term, &mut Writing::default(), &mut bytes);
                assert!(bytes.first().is_some_and(|kind| *kind <= KIND_OF_THE_FORMER_MAX));
            }
        }
    }

    #[test]
    fn a_leaf_that_was_issued_unmatched_is_read_from_a_record_of_its_own_kind_too() {
        let (serial, shown) = (testing::serial(2), testing::serial(1));
        let mut bytes = vec![UNMATCHED, VERSION];
        put_time(&mut bytes, Timestamp::from_secs(1));
        bytes.extend_from_slice(serial.as_bytes());
        bytes.extend_from_slice(shown.as_bytes());
        put_text(&mut bytes, "ca-2");
        bytes.push(END_MARK);
        let owner = "ca-2".to_owned();
        assert_eq!(read(&bytes).unwrap().record, Record::Unmatched { serial, shown, owner });
    }

    #[test]
    fn an_unknown_kind_or_version_was_written_by_a_newer_program() {
        let bytes =
            long(&Entry { at: Timestamp::from_secs(1), record: Record::End { records: 3 } });
        for (index, value) in [(0, KIND_LAST + 1), (0, 0), (1, 2)] {
            let mut changed = bytes.clone();
            changed[index] = value;
            assert_eq!(read(&changed), Err(DecodeError::Newer));
        }
    }
}
