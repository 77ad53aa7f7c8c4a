//! Bytes of a file: a header, then records as `length u32 · crc32 of the payload u32 · payload`.
//!
//! The length word carries 16 bits and their complement. So a flipped bit in a length is seen as damage, and never
//! taken for a record that goes on beyond the end of the file, which is how a write that was cut short looks.

use std::path::Path;

use crate::codec::{self, DecodeError};
use crate::error::Damage;
use crate::record::{Entry, Record};
use crate::segment::FileId;

const MAGIC: &[u8; 8] = b"BANYANLG";
const FORMAT: u16 = 1;
const FRAME_HEADER: usize = 8;

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

/// Appends one record. `scratch` is a buffer to reuse.
pub(crate) fn append(entry: &Entry, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    scratch.clear();
    codec::encode(entry, scratch);
    // The texts of a record are bounded far below 64 KiB together.
    let len = u16::try_from(scratch.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&(!len).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(scratch).to_le_bytes());
    out.extend_from_slice(scratch);
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
    /// Bytes behind it, of a write that was cut short.
    pub(crate) torn: u64,
}

/// Reads a file and shows every record to `visit`. `last` says that it is the last of its segment: only that may end in a write that was cut short.
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
    let corrupt =
        |offset: usize, what| Damage::Corrupt { path: path.to_owned(), offset: offset as u64, what };
    let mut scan = Scan::default();
    let Some(mut offset) = header_len(file, path, bytes)? else {
        scan.torn = bytes.len() as u64;
        return if last { Ok(scan) } else { Err(corrupt(0, "the file ends within its header")) };
    };
    let mut ended = false;
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        let payload = match frame(rest) {
            Frame::Whole(payload) => payload,
            Frame::Torn if last && !ended => {
                scan.torn = rest.len() as u64;
                break;
            }
            Frame::Torn => return Err(corrupt(offset, "a record is cut short where none may be")),
            Frame::Damaged(what) => return Err(corrupt(offset, what)),
        };
        let entry = codec::decode(payload).map_err(|error| match error {
            DecodeError::Newer => Damage::NewerVersion { path: path.to_owned(), offset: offset as u64 },
            DecodeError::Malformed => corrupt(offset, "a record with a good checksum makes no sense"),
        })?;
        if ended {
            return Err(corrupt(offset, "records follow the end mark of the file"));
        }
        if let Record::End { records } = entry.record {
            if records != scan.records {
                return Err(corrupt(offset, "the file has not as many records as its end mark says"));
            }
            ended = true;
        }
        scan.records += 1;
        visit(entry);
        offset += FRAME_HEADER + payload.len();
    }
    if !ended && !last {
        return Err(corrupt(offset, "the file ends without its end mark, although another follows it"));
    }
    scan.whole = offset as u64;
    Ok(scan)
}

enum Frame<'a> {
    Whole(&'a [u8]),
    Torn,
    Damaged(&'static str),
}

fn frame(rest: &[u8]) -> Frame<'_> {
    if rest.get(4..).is_none_or(unwritten) {
        return Frame::Torn;
    }
    let Some((&[a, b, c, d], behind)) = rest.split_first_chunk() else { return Frame::Torn };
    let len = u16::from_le_bytes([a, b]);
    if !len != u16::from_le_bytes([c, d]) {
        return Frame::Damaged("the length of a record does not check");
    }
    let Some((crc, behind)) = behind.split_first_chunk() else { return Frame::Torn };
    let Some(payload) = behind.get(..usize::from(len)) else { return Frame::Torn };
    if crc32fast::hash(payload) == u32::from_le_bytes(*crc) {
        Frame::Whole(payload)
    } else if payload.ends_with(&[0]) && behind.get(payload.len()..).is_none_or(unwritten) {
        // The file was made longer, but its last pages never reached the disk: no record ends with a zero byte.
        Frame::Torn
    } else {
        Frame::Damaged("the checksum of a record does not hold")
    }
}

/// Whether nothing but zeros follows: pages that the file system had promised and that never reached the disk.
fn unwritten(rest: &[u8]) -> bool {
    rest.iter().all(|byte| *byte == 0)
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
