//! What closed files are: their length, records and checksum, stated apart from them; and which segments were emptied.
//!
//! The last file of a segment that was killed has no end mark, and neither has one that was cut in half afterwards. So what a
//! file was when it was closed is written into `manifest.txt` beside the segments: when it is full, at an orderly end, and
//! at the next start for what a crash left. A file that is shorter, another or gone is then a fault of its segment, and
//! a segment that is gone because a compaction emptied it is none.
//!
//! The text has one line for each statement and a checksum in the last. A ledger without it is of a former release: what is
//! found there is stated from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use host::Disk;

use crate::error::Damage;
use crate::files;
use crate::segment::{FileId, MANIFEST, SegmentId};

const FIRST_LINE: &str = "banyan ledger manifest 1";

/// What a closed file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stated {
    /// Bytes of its header and its records.
    pub(crate) len: u64,
    /// Records in it.
    pub(crate) records: u64,
    /// Checksum of these bytes.
    pub(crate) crc: u32,
    /// Whether every row in it that matters is durable elsewhere: it may be gone.
    pub(crate) carried: bool,
}

/// All statements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) files: BTreeMap<FileId, Stated>,
    /// Segments of which a compaction left no file.
    pub(crate) emptied: BTreeSet<SegmentId>,
}

/// A segment whose rows are not all known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} {what}", path.display())]
pub struct SegmentFault {
    /// The segment.
    pub segment: SegmentId,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

impl Manifest {
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join(MANIFEST)
    }

    /// Reads the statements; `None` when there are none.
    ///
    /// # Errors
    /// [`Damage`] when they cannot be read, or are not what was written.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, Damage> {
        let path = Self::path(dir);
        match disk.read(&path) {
            Ok(bytes) => Self::parse(&bytes).map(Some).ok_or(Damage::Statements { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(files::unreadable(&path, &error)),
        }
    }

    /// Puts the statements in place of the former ones.
    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        disk.replace(&Self::path(dir), self.text().as_bytes(), 0o600)
    }

    /// A file was archived: it is spoken of no more, and if it was the last of its segment, that is emptied.
    pub(crate) fn archived(&mut self, file: &FileId, own: &SegmentId) {
        self.files.remove(file);
        if file.segment != *own && !self.has_files(&file.segment) {
            self.emptied.insert(file.segment.clone());
        }
    }

    pub(crate) fn has_files(&self, segment: &SegmentId) -> bool {
        self.files.keys().any(|file| file.segment == *segment)
    }

    fn text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\n");
        for (FileId { segment, number }, Stated { len, records, crc, carried }) in &self.files {
            let state = if *carried { "carried" } else { "closed" };
            // Writing into a text cannot fail.
            let _ = writeln!(text, "file {segment} {number} {len} {records} {crc:08x} {state}");
        }
        for segment in &self.emptied {
            let _ = writeln!(text, "emptied {segment}");
        }
        let sum = crc32fast::hash(text.as_bytes());
        let _ = writeln!(text, "sum {sum:08x}");
        text
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
        let (stated, sum) = text.rsplit_once('\n')?;
        let sum = u32::from_str_radix(sum.strip_prefix("sum ")?, 16).ok()?;
        let (first, lines) = stated.split_once('\n').unwrap_or((stated, ""));
        if first != FIRST_LINE || sum != crc32fast::hash(format!("{stated}\n").as_bytes()) {
            return None;
        }
        let mut manifest = Self::default();
        for line in lines.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["file", segment, number, len, records, crc, state] => {
                    let file = FileId {
                        segment: SegmentId::parse(segment).ok()?,
                        number: number.parse().ok()?,
                    };
                    let stated = Stated {
                        len: len.parse().ok()?,
                        records: records.parse().ok()?,
                        crc: u32::from_str_radix(crc, 16).ok()?,
                        carried: state == "carried",
                    };
                    manifest.files.insert(file, stated);
                }
                ["emptied", segment] => {
                    _ = manifest.emptied.insert(SegmentId::parse(segment).ok()?)
                }
                _ => return None,
            }
        }
        Some(manifest)
    }
}

impl Stated {
    /// What is wrong with a file of these bytes, of which the first `whole` are whole records.
    pub(crate) fn fault(&self, bytes: &[u8], whole: u64) -> Option<String> {
        let len = self.len;
        if whole != len {
            return Some(format!("has {whole} good bytes, and had {len} when it was closed"));
        }
        let same = usize::try_from(len).ok().and_then(|len| bytes.get(..len)).map(crc32fast::hash);
        (same != Some(self.crc))
            .then(|| "is not the file that was closed: its checksum is another".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_read_back_and_no_changed_byte_goes_unnoticed() {
        let segment = |name| SegmentId::parse(name).unwrap();
        let mut manifest = Manifest::default();
        assert_eq!(Manifest::parse(manifest.text().as_bytes()), Some(manifest.clone()));
        for number in 1..4 {
            let stated = Stated {
                len: 100 + number,
                records: number,
                crc: 0xdead_beef,
                carried: number == 2,
            };
            manifest.files.insert(FileId { segment: segment("ca-1.7"), number }, stated);
        }
        manifest.emptied.insert(segment("ca-1.6"));
        let text = manifest.text();
        assert_eq!(Manifest::parse(text.as_bytes()), Some(manifest));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            assert_eq!(Manifest::parse(&changed), None, "{at}");
            assert_eq!(Manifest::parse(&text.as_bytes()[..at]), None, "{at}");
        }
    }
}
