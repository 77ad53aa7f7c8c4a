//! Names of segments and of their files.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use trust::Timestamp;

/// Name of the directory that compacted files wait in before they are deleted. No segment may have it.
pub(crate) const ARCHIVE: &str = "archive";

/// Name of the file with what closed files are. No segment may have it either.
pub(crate) const MANIFEST: &str = "manifest.txt";

const LEN_MAX: usize = 128;

/// A segment: the rows of one incarnation of one replica. Never used twice.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(Arc<str>);

/// A text that is no segment id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no segment id: use 1 to 128 letters, digits, '.', '_' or '-', and not \"archive\""
)]
pub struct InvalidSegmentId(String);

impl SegmentId {
    /// Takes 1 to 128 letters, digits, `.`, `_` or `-`, the first a letter or a digit; not `archive` nor
    /// `manifest.txt`.
    ///
    /// # Errors
    /// [`InvalidSegmentId`] for anything else, since the id is the name of a directory.
    pub fn parse(text: &str) -> Result<Self, InvalidSegmentId> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let good = (1..=LEN_MAX).contains(&text.len())
            && text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.bytes().all(allowed)
            && text != ARCHIVE
            && text != MANIFEST;
        if good {
            Ok(Self(text.into()))
        } else {
            Err(InvalidSegmentId(text.chars().take(LEN_MAX).collect()))
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SegmentId({})", self.0)
    }
}

/// One file of a segment. Files of a segment are numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// The segment.
    pub segment: SegmentId,
    /// Number of the file in it.
    pub number: u64,
}

impl FileId {
    /// Where the file is, below the ledger's directory. Zeros in front make the order of names that of numbers.
    pub(crate) fn path(&self, dir: &Path) -> PathBuf {
        dir.join(self.segment.as_str()).join(format!("{:08}.log", self.number))
    }

    /// Reads the number back from a file's name; `None` for a file that is not ours.
    pub(crate) fn number_of(path: &Path) -> Option<u64> {
        let name = path.file_name()?.to_str()?.strip_suffix(".log")?;
        name.bytes().all(|byte| byte.is_ascii_digit()).then(|| name.parse().ok())?
    }

    /// The name in the archive, which says since when the file is there.
    pub(crate) fn archive_path(&self, dir: &Path, archived_at: Timestamp) -> PathBuf {
        dir.join(ARCHIVE).join(format!(
            "{}.{:08}.{}.log",
            self.segment,
            self.number,
            archived_at.as_secs()
        ))
    }

    /// Reads an archived file's name back, with when it was put there; `None` for a file that is not ours.
    pub(crate) fn from_archive(path: &Path) -> Option<(Self, Timestamp)> {
        let (rest, at) = path.file_name()?.to_str()?.strip_suffix(".log")?.rsplit_once('.')?;
        let (segment, number) = rest.rsplit_once('.')?;
        let segment = SegmentId::parse(segment).ok()?;
        Some((
            Self { segment, number: number.parse().ok()? },
            Timestamp::from_secs(at.parse().ok()?),
        ))
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:08}.log", self.segment, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_id_is_one_directory_name_and_never_the_archive() {
        assert!(SegmentId::parse("ca-1.0000017").is_ok());
        for bad in ["", ".", "..", "a/b", "archive", "manifest.txt", "-a", "ä", &"x".repeat(129)] {
            assert!(SegmentId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_of_files_read_back() {
        let file = FileId { segment: SegmentId::parse("ca-1.7").unwrap(), number: 12 };
        assert_eq!(FileId::number_of(&file.path(Path::new("/d"))), Some(12));
        assert_eq!(FileId::number_of(Path::new("/d/notes.log")), None);
        let at = Timestamp::from_secs(99);
        assert_eq!(FileId::from_archive(&file.archive_path(Path::new("/d"), at)), Some((file, at)));
    }
}
