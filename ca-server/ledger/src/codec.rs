//! Bytes of a payload: `kind u8 · version of the kind u8 · time i64 · body · 0xa5`.
//!
//! Integers are little-endian, a text is its length as u16 and its bytes, an option is 0 or 1 and the value.
//! The last byte is never zero, nor one bit away from it, so that a record whose end never reached the disk is told
//! from one that did.

use std::sync::Arc;

use trust::{CertificateId, RootId, Sequence, Serial, SpiffeId, SpkiHash, Timestamp};

use crate::record::{AuditRefusal, Entry, Record};
use crate::row::{Ended, Evidence, EvidenceClass, LiveRow, Proof, Row, RowKind, Word};

const VERSION: u8 = 1;
/// Version of the kinds that hold a row. In version 1 a row had no word about its holders.
const ROW_VERSION: u8 = 2;
const END_MARK: u8 = 0xa5;

/// Why a payload whose checksum holds was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// A kind, or a version of a kind, that this program does not know.
    Newer,
    /// A known kind whose body makes no sense.
    Malformed,
}

/// Appends the payload of an entry.
pub(crate) fn encode(entry: &Entry, out: &mut Vec<u8>) {
    let kind = match &entry.record {
        Record::Intent(_) => 1,
        Record::Issued { .. } => 2,
        Record::Abandoned { .. } => 3,
        Record::Acked { .. } => 4,
        Record::Released { .. } => 5,
        Record::Superseded { .. } => 6,
        Record::Refused(_) => 7,
        Record::Suppressed { .. } => 8,
        Record::Carried(_) => 9,
        Record::End { .. } => 10,
    };
    out.extend_from_slice(&[kind, newest_version(kind)]);
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
    }
    out.push(END_MARK);
}

/// Reads a payload back.
pub(crate) fn decode(payload: &[u8]) -> Result<Entry, DecodeError> {
    let mut input = Input(payload);
    let (kind, version) = (input.byte()?, input.byte()?);
    if !(1..=10).contains(&kind) || !(VERSION..=newest_version(kind)).contains(&version) {
        return Err(DecodeError::Newer);
    }
    let at = input.time()?;
    let record = match kind {
        1 => Record::Intent(Arc::new(input.row(version)?)),
        2 => Record::Issued { serial: input.serial()?, certificate: input.certificate()? },
        3 => Record::Abandoned { serial: input.serial()?, reason: input.text()? },
        4 => Record::Acked { serial: input.serial()?, proof: input.proof()? },
        5 => Record::Released { serial: input.serial()? },
        6 => Record::Superseded { serial: input.serial()?, by: input.serial()? },
        7 => Record::Refused(input.refusal()?),
        8 => Record::Suppressed { refusals: input.u64()?, since: input.time()? },
        9 => Record::Carried(input.live_row(version)?),
        _ => Record::End { records: input.u64()? },
    };
    if input.0 != [END_MARK] {
        return Err(DecodeError::Malformed);
    }
    Ok(Entry { at, record })
}

const fn newest_version(kind: u8) -> u8 {
    match kind {
        1 | 9 => ROW_VERSION,
        _ => VERSION,
    }
}

fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    out.extend_from_slice(&time.as_secs().to_le_bytes());
}

/// Texts are bounded before they get here (names at `intend`, identities by their type, the rest by `escape`).
/// One that is not is cut, rather than framed wrongly.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend(text.bytes().take(usize::from(len)));
}

fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
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
    out.push(match row.kind {
        RowKind::AgentHeld => 0,
        RowKind::CsrOnly => 1,
        RowKind::ChannelTrusted => 2,
        RowKind::Own => 3,
        RowKind::AgentIdentity => 4,
    });
    match row.word {
        Word::None => out.push(0),
        Word::Trusting(sequence) => {
            out.push(1);
            out.extend_from_slice(&sequence.0.to_le_bytes());
        }
        Word::OwnTrust => out.push(2),
    }
}

fn put_proof(out: &mut Vec<u8>, proof: &Proof) {
    out.extend_from_slice(&proof.applied.0.to_le_bytes());
    out.push(match proof.class {
        EvidenceClass::Assumed => 1,
        EvidenceClass::Sent => 2,
        EvidenceClass::Delivered => 3,
        EvidenceClass::Applied => 4,
        EvidenceClass::HandshakeObserved => 5,
    });
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
    match live.ended {
        None => out.push(0),
        Some(Ended::Released) => out.push(1),
        Some(Ended::Superseded { by }) => {
            out.push(2);
            out.extend_from_slice(by.as_bytes());
        }
        Some(Ended::Abandoned) => out.push(3),
    }
}

fn put_refusal(out: &mut Vec<u8>, refusal: &AuditRefusal) {
    let (reason, caller, identity, peer, detail) = refusal.texts();
    put_text(out, reason);
    put_text(out, caller);
    put_option(out, identity, put_text);
    put_option(out, peer, put_text);
    put_text(out, detail);
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take(N)?.try_into().map_err(|_| DecodeError::Malformed)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    fn time(&mut self) -> Result<Timestamp, DecodeError> {
        self.array().map(|bytes| Timestamp::from_secs(i64::from_le_bytes(bytes)))
    }

    fn text(&mut self) -> Result<String, DecodeError> {
        let len = u16::from_le_bytes(self.array()?);
        let bytes = self.take(usize::from(len))?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| DecodeError::Malformed)
    }

    fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.byte()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(DecodeError::Malformed),
        }
    }

    fn serial(&mut self) -> Result<Serial, DecodeError> {
        Serial::from_bytes(self.take(Serial::LEN)?).ok_or(DecodeError::Malformed)
    }

    fn certificate(&mut self) -> Result<CertificateId, DecodeError> {
        CertificateId::from_bytes(self.take(32)?).ok_or(DecodeError::Malformed)
    }

    fn row(&mut self, version: u8) -> Result<Row, DecodeError> {
        Ok(Row {
            serial: self.serial()?,
            spki: SpkiHash::from_bytes(self.take(32)?).ok_or(DecodeError::Malformed)?,
            identity: SpiffeId::parse(&self.text()?).map_err(|_| DecodeError::Malformed)?,
            agent: self.option(Self::text)?,
            root: RootId::from_bytes(self.take(32)?).ok_or(DecodeError::Malformed)?,
            issuer: self.certificate()?,
            not_after: self.time()?,
            born: Sequence(self.u64()?),
            kind: match self.byte()? {
                0 => RowKind::AgentHeld,
                1 => RowKind::CsrOnly,
                2 => RowKind::ChannelTrusted,
                3 => RowKind::Own,
                4 => RowKind::AgentIdentity,
                _ => return Err(DecodeError::Newer),
            },
            word: if version < ROW_VERSION { Word::None } else { self.word()? },
        })
    }

    fn word(&mut self) -> Result<Word, DecodeError> {
        match self.byte()? {
            0 => Ok(Word::None),
            1 => Ok(Word::Trusting(Sequence(self.u64()?))),
            2 => Ok(Word::OwnTrust),
            _ => Err(DecodeError::Newer),
        }
    }

    fn proof(&mut self) -> Result<Proof, DecodeError> {
        Ok(Proof {
            applied: Sequence(self.u64()?),
            class: match self.byte()? {
                1 => EvidenceClass::Assumed,
                2 => EvidenceClass::Sent,
                3 => EvidenceClass::Delivered,
                4 => EvidenceClass::Applied,
                5 => EvidenceClass::HandshakeObserved,
                _ => return Err(DecodeError::Newer),
            },
            at: self.time()?,
        })
    }

    fn evidence(&mut self) -> Result<Evidence, DecodeError> {
        let mut levels = [Sequence(0); EvidenceClass::ALL.len()];
        for level in &mut levels {
            *level = Sequence(self.u64()?);
        }
        Ok(Evidence::from_levels(levels, self.time()?))
    }

    fn live_row(&mut self, version: u8) -> Result<LiveRow, DecodeError> {
        Ok(LiveRow {
            row: Arc::new(self.row(version)?),
            certificate: self.option(Self::certificate)?,
            evidence: self.evidence()?,
            ended: match self.byte()? {
                0 => None,
                1 => Some(Ended::Released),
                2 => Some(Ended::Superseded { by: self.serial()? }),
                3 => Some(Ended::Abandoned),
                _ => return Err(DecodeError::Newer),
            },
        })
    }

    fn refusal(&mut self) -> Result<AuditRefusal, DecodeError> {
        let (reason, caller) = (self.text()?, self.text()?);
        let (identity, peer) = (self.option(Self::text)?, self.option(Self::text)?);
        Ok(AuditRefusal::from_texts((reason, caller, identity, peer, self.text()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn every_record_reads_back_as_it_was_written() {
        for record in testing::one_of_each() {
            let (entry, mut bytes) = (Entry { at: Timestamp::from_secs(-7), record }, Vec::new());
            encode(&entry, &mut bytes);
            assert_eq!(decode(&bytes).unwrap(), entry);
        }
    }

    #[test]
    fn a_prefix_is_never_a_record() {
        for record in testing::one_of_each() {
            let mut bytes = Vec::new();
            encode(&Entry { at: Timestamp::from_secs(1), record }, &mut bytes);
            for len in 0..bytes.len() {
                assert!(decode(&bytes[..len]).is_err());
            }
        }
    }

    #[test]
    fn a_row_of_the_first_format_is_read_and_says_nothing_of_its_holders() {
        let encoded = |record: &Record| {
            let mut bytes = Vec::new();
            encode(&Entry { at: Timestamp::from_secs(1), record: record.clone() }, &mut bytes);
            bytes
        };
        let row = Arc::new(testing::row(1));
        // The word ends the row, which ends an intent but for the end mark, and begins what is carried.
        let word_at = encoded(&Record::Intent(Arc::clone(&row))).len() - 2;
        for (record, kind) in
            [(Record::Intent(Arc::clone(&row)), 1), (Record::Carried(LiveRow::new(Arc::clone(&row))), 9)]
        {
            let mut bytes = encoded(&record);
            assert_eq!(bytes[..2], [kind, ROW_VERSION]);
            bytes[1] = VERSION;
            bytes.remove(word_at);
            assert_eq!(decode(&bytes).unwrap().record, record);
        }
    }

    #[test]
    fn an_unknown_kind_or_version_was_written_by_a_newer_program() {
        let mut bytes = Vec::new();
        encode(&Entry { at: Timestamp::from_secs(1), record: Record::End { records: 3 } }, &mut bytes);
        for (index, value) in [(0, 11), (0, 0), (1, 2)] {
            let mut changed = bytes.clone();
            changed[index] = value;
            assert_eq!(decode(&changed), Err(DecodeError::Newer));
        }
    }
}
