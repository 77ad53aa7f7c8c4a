//! Short forms of the records that there are most of, and the terms that they refer to.
//!
//! A term says once per file what many rows of it have in common, and is numbered by its place among the file's terms:
//! `number · 0 · root · issuer`, or `number · 1 · number of the former · identity · agent · kind`. A row carries the
//! number of such a term; what is said of a row names it by how many rows of the file came since, or, after a 0, by
//! its serial. Numbers and times are as short as they can be; a time is told from that of the record, and that one from
//! the time of the record of these forms before it.

use std::sync::Arc;

use trust::{RootId, Sequence, Serial, SpkiHash, Timestamp};

use crate::fields::{
    DecodeError, class_byte, put_ended, put_option, put_short, put_time_from, put_word,
};
use crate::input::Input;
use crate::record::{Entry, Record};
use crate::row::{Evidence, EvidenceClass, Forgotten, LiveRow, Proof, Row};
use crate::shorthand::{AUTHORITY, HOLDER, Reading, Term, Writing};

/// Reads a term and notes it.
pub(crate) fn term(input: &mut Input<'_>, reading: &mut Reading) -> Result<(), DecodeError> {
    let number = input.short()?;
    let term = match input.byte()? {
        AUTHORITY => Term::Authority {
            root: RootId::from_bytes(input.take(32)?).ok_or(DecodeError::Malformed)?,
            issuer: input.certificate()?,
        },
        HOLDER => Term::Holder {
            authority: input.short()?,
            identity: input.identity()?,
            agent: input.option(Input::text)?,
            kind: input.row_kind()?,
        },
        _ => return Err(DecodeError::Newer),
    };
    reading.term(number, term)
}

pub(crate) fn put_row(out: &mut Vec<u8>, row: &Row, term: u32, at: Timestamp) {
    out.extend_from_slice(row.serial.as_bytes());
    out.extend_from_slice(row.spki.as_bytes());
    put_short(out, term.into());
    put_time_from(out, at, row.not_after);
    put_short(out, row.born.0);
    put_word(out, row.word);
}

/// What is known of a row that is carried.
pub(crate) fn put_known(out: &mut Vec<u8>, live: &LiveRow, at: Timestamp) {
    put_option(out, live.certificate, |out, id| out.extend_from_slice(id.as_bytes()));
    for (_, sequence) in live.evidence.applied.levels() {
        put_short(out, sequence.0);
    }
    put_time_from(out, at, live.evidence.at);
    put_ended(out, live.ended);
}

pub(crate) fn put_place(out: &mut Vec<u8>, serial: &Serial, writing: &Writing) {
    let since = writing.rows_since(serial);
    put_short(out, since.unwrap_or(0));
    if since.is_none() {
        out.extend_from_slice(serial.as_bytes());
    }
}

pub(crate) fn put_proof(out: &mut Vec<u8>, proof: &Proof, at: Timestamp) {
    put_short(out, proof.applied.0);
    out.push(class_byte(proof.class));
    put_time_from(out, at, proof.at);
}

/// Reads what stands behind kind and version of a short form.
pub(crate) fn entry(
    kind: u8,
    input: &mut Input<'_>,
    reading: &mut Reading,
) -> Result<Entry, DecodeError> {
    let at = input.time_from(reading.at)?;
    reading.at = at;
    let record = match kind {
        1 => Record::Intent(Arc::new(row(input, reading, at)?)),
        2 => Record::Issued { serial: place(input, reading)?, certificate: input.certificate()? },
        4 => Record::Acked {
            serial: place(input, reading)?,
            proof: Proof {
                applied: Sequence(input.short()?),
                class: input.class()?,
                at: input.time_from(at)?,
            },
        },
        _ => Record::Carried(live_row(input, reading, at)?),
    };
    Ok(Entry { at, record })
}

fn row(input: &mut Input<'_>, reading: &Reading, at: Timestamp) -> Result<Row, DecodeError> {
    let serial = input.serial()?;
    let spki = SpkiHash::from_bytes(input.take(32)?).ok_or(DecodeError::Malformed)?;
    let (identity, agent, kind, (root, issuer)) = reading.holder(input.short()?)?;
    Ok(Row {
        serial,
        spki,
        identity: identity.clone(),
        agent: agent.clone(),
        root,
        issuer,
        not_after: input.time_from(at)?,
        born: Sequence(input.short()?),
        kind,
        word: input.word()?,
    })
}

fn live_row(
    input: &mut Input<'_>,
    reading: &Reading,
    at: Timestamp,
) -> Result<LiveRow, DecodeError> {
    let row = Arc::new(row(input, reading, at)?);
    let certificate = input.option(Input::certificate)?;
    let mut levels = [Sequence(0); EvidenceClass::ALL.len()];
    for level in &mut levels {
        *level = Sequence(input.short()?);
    }
    let evidence = Evidence::from_levels(levels, input.time_from(at)?);
    Ok(LiveRow {
        row,
        certificate,
        evidence,
        ended: input.ended()?,
        forgotten: Forgotten::default(),
    })
}

fn place(input: &mut Input<'_>, reading: &Reading) -> Result<Serial, DecodeError> {
    match input.short()? {
        0 => input.serial(),
        since => reading.row_before(since),
    }
}
