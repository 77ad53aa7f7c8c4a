//! Which files there are, and how many of their records still matter.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use host::Disk;
use trust::Timestamp;

use crate::error::Damage;
use crate::index::is_over;
use crate::segment::{ARCHIVE, FileId, MANIFEST, SegmentId};

/// A file that was found.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) file: FileId,
    pub(crate) path: PathBuf,
    /// Whether no file of its segment follows.
    pub(crate) last: bool,
}

/// Lists all files of all segments, by segment and number. A directory that is missing has none.
///
/// # Errors
/// [`Damage`] for a directory that cannot be read, and for a file that is not ours: it may hold rows under a wrong
/// name, and rows are never taken for gone.
pub(crate) fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<Listed>, Damage> {
    let mut files = Vec::new();
    for path in entries(disk, dir)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == ARCHIVE || name == MANIFEST {
            continue;
        }
        let Ok(segment) = SegmentId::parse(name) else { return Err(foreign(&path)) };
        let first = files.len();
        for path in entries(disk, &path)? {
            let number = FileId::number_of(&path).ok_or_else(|| foreign(&path))?;
            files.push(Listed {
                file: FileId { segment: segment.clone(), number },
                path,
                last: false,
            });
        }
        if let Some(of_segment) = files.get_mut(first..) {
            of_segment.sort_unstable_by_key(|listed| listed.file.number);
            if let Some(listed) = of_segment.last_mut() {
                listed.last = true;
            }
        }
    }
    Ok(files)
}

/// Lists the archive: path, file, and when it was put there.
pub(crate) fn archived(
    disk: &dyn Disk,
    dir: &Path,
) -> Result<Vec<(PathBuf, FileId, Timestamp)>, Damage> {
    let paths = entries(disk, &dir.join(ARCHIVE))?;
    let known = |path: PathBuf| FileId::from_archive(&path).map(|(file, at)| (path, file, at));
    Ok(paths.into_iter().filter_map(known).collect())
}

/// Entries of a directory but hidden ones, which are temporary files.
fn entries(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>, Damage> {
    match disk.list(dir) {
        Ok(mut paths) => {
            paths.retain(|path| {
                path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
            });
            Ok(paths)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(unreadable(dir, &error)),
    }
}

pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Damage {
    Damage::Unreadable { path: path.to_owned(), reason: error.to_string() }
}

fn foreign(path: &Path) -> Damage {
    Damage::Corrupt {
        path: path.to_owned(),
        offset: 0,
        what: "its name is not that of a segment or of a file in one",
    }
}

/// What a closed file is good for.
#[derive(Clone, Debug)]
pub(crate) struct FileUse {
    pub(crate) file: FileId,
    /// Length in bytes when it was closed.
    pub(crate) len: u64,
    /// Records in it, of all kinds.
    pub(crate) records: u64,
    /// Records about rows whose leaves end in a minute (since the epoch).
    by_minute: BTreeMap<i64, u64>,
    /// Whether every row in it that matters is durable elsewhere, so that only its move is left to do.
    pub(crate) carried: bool,
}

impl FileUse {
    pub(crate) const fn new(file: FileId) -> Self {
        Self { file, len: 0, records: 0, by_minute: BTreeMap::new(), carried: false }
    }

    /// Counts a record about a row whose leaf ends at `not_after`.
    pub(crate) fn mention(&mut self, not_after: Timestamp) {
        *self.by_minute.entry(minute(not_after)).or_default() += 1;
    }

    /// How many of its records are about live rows, or a few more.
    pub(crate) fn live_at_most(&self, now: Timestamp, skew: Duration) -> u64 {
        let live = |minute: i64| {
            !is_over(Timestamp::from_secs(minute.saturating_mul(60).saturating_add(59)), now, skew)
        };
        self.by_minute.iter().filter(|(minute, _)| live(**minute)).map(|(_, records)| records).sum()
    }
}

const fn minute(at: Timestamp) -> i64 {
    at.as_secs().div_euclid(60)
}
