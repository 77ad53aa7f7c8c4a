//! What stands around a payload: its length, whether it is the first of a commit, and its checksum.

pub(crate) const FRAME_HEADER: usize = 8;
const LENGTH_WORD: usize = 4;
pub(crate) const LEN_MAX: u16 = (1 << 13) - 1;
pub(crate) const STARTS_COMMIT: u16 = 1 << 15;

/// A whole record as it stands in a file.
pub(crate) struct Frame<'a> {
    pub(crate) payload: &'a [u8],
    starts_commit: bool,
}

/// Bytes that are no whole record.
pub(crate) struct Bad {
    /// How many bytes it has, as far as that is known.
    pub(crate) len: usize,
    pub(crate) what: &'static str,
}

/// The record at the front of these bytes.
pub(crate) fn frame(rest: &[u8]) -> Result<Frame<'_>, Bad> {
    let bad = |len, what| Bad { len, what };
    let no_length = || bad(LENGTH_WORD, "the length of a record does not check");
    let (&[a, b, c, d], behind) = rest.split_first_chunk().ok_or_else(no_length)?;
    let word = u16::from_be_bytes([c, d]);
    let len = word & !STARTS_COMMIT;
    if !word != u16::from_be_bytes([a, b]) || len > LEN_MAX {
        return Err(no_length());
    }
    let no_checksum =
        || bad(FRAME_HEADER + usize::from(len), "the checksum of a record does not hold");
    let (crc, behind) = behind.split_first_chunk().ok_or_else(no_checksum)?;
    let payload = behind.get(..usize::from(len)).ok_or_else(no_checksum)?;
    if crc32fast::hash(payload) != u32::from_le_bytes(*crc) {
        return Err(no_checksum());
    }
    Ok(Frame { payload, starts_commit: word & STARTS_COMMIT != 0 })
}

/// Whether a whole record stands at the front of these bytes that is the first of its commit.
pub(crate) fn starts_commit(rest: &[u8]) -> bool {
    frame(rest).is_ok_and(|frame| frame.starts_commit)
}
