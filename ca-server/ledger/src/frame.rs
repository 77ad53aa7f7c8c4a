//! Bytes of a file: a header, then records as `length u32 · crc32 of the payload u32 · payload`, then zeros while the
//! file is written.
//!
//! The length word carries the complement of 16 bits and then these bits, high bytes first: whether the record is the
//! first of a commit, two zeros, and 13 bits of length. So a flipped bit in a length is seen as damage, and never taken
//! for a record that goes on beyond the end of the file, which is how a write that was cut short looks; and the first
//! byte of a record is never zero, nor one bit away from it.

use std::path::Path;

use crate::codec;
use crate::envelope::{FRAME_HEADER, LEN_MAX, STARTS_COMMIT, frame};
use crate::error::Damage;
use crate::fields::DecodeError;
use crate::record::{Entry, Record};
use crate::row::LiveRow;
use crate::segment::FileId;
use crate::shorthand::{Reading, Writing};
use crate::tail::{is_torn, is_unwritten};

const MAGIC: &[u8; 8] = b"BANYANLG";
const FORMAT: u16 = 1;

/// What a file starts with. It names the file's place, so that a file in a wrong place is noticed.
pub(crate) fn header(file: &FileId) -> Vec<u8> {
    let segment = file.segment.as_str().as_bytes();
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&file.number.to_le_bytes());
    // A segment id is at most 128 bytes.
    bytes.push(u8::try_from(segment.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(segment);
    bytes
}

/// Appends one record to `out`, the bytes of one commit, and before it the terms that it is the first of its file to use.
pub(crate) fn append(entry: &Entry, writing: &mut Writing, out: &mut Vec<u8>) {
    let term = match &entry.record {
        Record::Intent(row) | Record::Carried(LiveRow { row, .. }) => writing
            .holder(row, |number, body| {
                put(|payload| codec::encode_term(number, body, payload), out)
            }),
        _ => None,
    };
    put(|payload| codec::encode(entry, term, writing, payload), out);
}

/// Appends one payload with its length and its checksum.
fn put(encode: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    let (starts_commit, start) = (out.is_empty(), out.len());
    out.extend_from_slice(&[0; FRAME_HEADER]);
    encode(out);
    let Some((header, payload)) =
        out.get_mut(start..).and_then(|record| record.split_first_chunk_mut())
    else {
        return;
    };
    // The texts of a record are bounded to less than 5 KiB together.
    let len = u16::try_from(payload.len()).unwrap_or(LEN_MAX).min(LEN_MAX);
    let word = if starts_commit { len | STARTS_COMMIT } else { len };
    let ([a, b], [c, d]) = ((!word).to_be_bytes(), word.to_be_bytes());
    let [e, f, g, h] = crc32fast::hash(payload).to_le_bytes();
    *header = [a, b, c, d, e, f, g, h];
}

/// A file: what it is, and where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) file: &'a FileId,
    pub(crate) path: &'a Path,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Number of its whole records.
    pub(crate) records: u64,
    /// Length up to the end of the last whole record.
    pub(crate) whole: u64,
    /// Bytes behind it, of a write that was cut short. None when there are only zeros.
    pub(crate) torn: u64,
}

/// Reads a file and shows every record to `visit`. `last` says that it is the last of its segment: only that may end in
/// a write that was cut short. Zeros may follow the last record of the last file, and the end mark of any.
///
/// # Errors
/// [`Damage`] for every other file that is not exactly what was written.
pub(crate) fn scan(
    source: &Source<'_>,
    bytes: &[u8],
    last: bool,
    mut visit: impl FnMut(Entry),
) -> Result<Scan, Damage> {
    let Source { file, path } = *source;
    let corrupt = |offset: usize, what| Damage::Corrupt {
        path: path.to_owned(),
        offset: offset as u64,
        what,
    };
    let mut scan = Scan::default();
    let Some(mut offset) = header_len(file, path, bytes)? else {
        scan.torn = if is_unwritten(bytes) { 0 } else { bytes.len() as u64 };
        return if last { Ok(scan) } else { Err(corrupt(0, "the file ends within its header")) };
    };
    let (mut ended, mut reading) = (false, Reading::default());
    scan.whole = offset as u64;
    while let Some(rest) = bytes.get(offset..).filter(|rest| !is_unwritten(rest)) {
        let payload = match frame(rest) {
            Ok(frame) => frame.payload,
            Err(bad) if is_torn(bytes, offset, bad.len) => {
                if ended || !last {
                    return Err(corrupt(offset, "a record is cut short where none may be"));
                }
                scan.torn = bytes.len() as u64 - scan.whole;
                return Ok(scan);
            }
            Err(bad) => return Err(corrupt(offset, bad.what)),
        };
        let entry = codec::decode(payload, &mut reading).map_err(|error| match error {
            DecodeError::Newer => {
                Damage::NewerVersion { path: path.to_owned(), offset: offset as u64 }
            }
            DecodeError::Malformed => {
                corrupt(offset, "a record with a good checksum makes no sense")
            }
        })?;
        if ended {
            return Err(corrupt(offset, "records follow the end mark of the file"));
        }
        let at = offset;
        offset += FRAME_HEADER + payload.len();
        let Some(entry) = entry else { continue };
        if let Record::End { records } = entry.record {
            if records != scan.records {
                return Err(corrupt(at, "the file has not as many records as its end mark says"));
            }
            ended = true;
        }
        scan.records += 1;
        scan.whole = offset as u64;
        visit(entry);
    }
    if !ended && !last {
        return Err(corrupt(
            offset,
            "the file ends without its end mark, although another follows it",
        ));
    }
    // Terms come in one write with the row that uses them first.
    scan.torn = if scan.whole < offset as u64 { bytes.len() as u64 - scan.whole } else { 0 };
    Ok(scan)
}

/// The length of a whole header, `None` for one that was cut short.
fn header_len(file: &FileId, path: &Path, bytes: &[u8]) -> Result<Option<usize>, Damage> {
    let expected = header(file);
    if bytes.starts_with(&expected) {
        return Ok(Some(expected.len()));
    }
    let written = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
    if expected.starts_with(bytes.get(..written).unwrap_or(bytes)) {
        return Ok(None);
    }
    match bytes.strip_prefix(MAGIC).and_then(|rest| rest.first_chunk()) {
        Some(format) if u16::from_le_bytes(*format) > FORMAT => {
            Err(Damage::NewerVersion { path: path.to_owned(), offset: 0 })
        }
        _ => Err(Damage::Corrupt {
            path: path.to_owned(),
            offset: 0,
            what: "this is not the header of the file with this name",
        }),
    }
}
