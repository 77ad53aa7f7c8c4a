//! The form of a backup.
//!
//! ```text
//! 8 bytes "BANYANBK" · u32 format · frames                                       (integers big-endian)
//! frame: u8 kind · u32 length · body · u32 CRC-32 of the frame's number (u64), kind, length and body
//! kind 'H', the first: the header, as JSON
//! kind 'E': u8 length of the space's name, name · u16 length of the id, id · value
//! kind 'Z', the last: u64 number of entries · SHA-256 of all bytes before this frame
//! ```
//! A frame that was moved, left out or repeated has another number, and its checksum is wrong.

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use stores::{ID_BYTES_MAX, VALUE_BYTES_MAX};

use super::error::BackupError;
use super::header::{FORMAT, Header};

pub(super) const MAGIC: &[u8; 8] = b"BANYANBK";
/// Before the first frame.
pub(super) const PREFIX_BYTES: usize = 12;
/// Kind and length.
pub(super) const HEAD_BYTES: usize = 5;
/// No frame is longer: a damaged length is told before it is believed.
pub(super) const BODY_BYTES_MAX: usize = VALUE_BYTES_MAX + ID_BYTES_MAX + 1_024;

pub(super) const HEADER: u8 = b'H';
pub(super) const ENTRY: u8 = b'E';
pub(super) const END: u8 = b'Z';

/// Makes the bytes of a file, frame by frame.
pub(super) struct Frames {
    digest: Context,
    number: u64,
}

impl Frames {
    /// The beginning, with the header.
    pub(super) fn begin(header: &Header) -> Result<(Self, Vec<u8>), BackupError> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORMAT.to_be_bytes());
        let mut frames = Self { digest: Context::new(&SHA256), number: 0 };
        frames.digest.update(&bytes);
        let json =
            serde_json::to_vec(header).map_err(|error| BackupError::Record(error.to_string()))?;
        bytes.extend(frames.frame(HEADER, &json));
        Ok((frames, bytes))
    }

    /// One entry.
    pub(super) fn entry(&mut self, space: &str, id: &str, value: &[u8]) -> Vec<u8> {
        let name = u8::try_from(space.len()).unwrap_or(u8::MAX);
        let length = u16::try_from(id.len()).unwrap_or(u16::MAX);
        let mut body = vec![name];
        body.extend(space.as_bytes());
        body.extend(length.to_be_bytes());
        body.extend(id.as_bytes());
        body.extend(value);
        self.frame(ENTRY, &body)
    }

    /// The end.
    pub(super) fn end(mut self) -> Vec<u8> {
        let entries = self.number.saturating_sub(1);
        let mut body = entries.to_be_bytes().to_vec();
        body.extend(self.digest.clone().finish().as_ref());
        self.frame(END, &body)
    }

    fn frame(&mut self, kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let mut bytes = vec![kind];
        bytes.extend(length.to_be_bytes());
        bytes.extend(body);
        bytes.extend(checksum(self.number, &bytes).to_be_bytes());
        self.digest.update(&bytes);
        self.number = self.number.saturating_add(1);
        bytes
    }
}

/// The checksum of a frame without it.
pub(super) fn checksum(number: u64, frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_be_bytes());
    hasher.update(frame);
    hasher.finalize()
}

/// What an entry's frame says.
pub(super) struct Entry<'a> {
    pub(super) space: &'a str,
    pub(super) id: &'a str,
    pub(super) value: &'a [u8],
}

impl<'a> Entry<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (length, rest) = body.split_first()?;
        let (space, rest) = rest.split_at_checked(usize::from(*length))?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (id, value) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let [space, id] = [std::str::from_utf8(space).ok()?, std::str::from_utf8(id).ok()?];
        Some(Self { space, id, value })
    }
}

/// The number of entries and the digest of what is before, as the last frame says.
pub(super) fn parse_end(body: &[u8]) -> Option<(u64, &[u8; SHA256_OUTPUT_LEN])> {
    let (entries, digest) = body.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*entries), digest.try_into().ok()?))
}
