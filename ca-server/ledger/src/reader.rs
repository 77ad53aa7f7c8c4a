//! Reading all records of a ledger's directory, for audits and tests; the server may run meanwhile.

use std::path::{Path, PathBuf};

use host::Disk;

use crate::error::Damage;
use crate::files::{self, Listed};
use crate::frame::{self, Source};
use crate::record::Entry;
use crate::segment::FileId;

/// The records of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRecords {
    /// The file.
    pub file: FileId,
    /// Where it is.
    pub path: PathBuf,
    /// Its records, in the order they were written.
    pub entries: Vec<Entry>,
    /// Bytes behind them of a write that was cut short, or is going on. None when there are only zeros.
    pub torn: u64,
}

/// Reads every file, the archive's first, then by segment and number. Nothing on the disk is changed.
///
/// Each file is read when the iterator comes to it, so that one of them is in memory at a time.
///
/// # Errors
/// [`Damage`] when the directory cannot be listed. The iterator's items are errors for files that are damaged, and for
/// files that a compaction moved meanwhile: list again then.
pub fn read<'a>(
    disk: &'a dyn Disk,
    dir: &Path,
) -> Result<impl Iterator<Item = Result<FileRecords, Damage>> + use<'a>, Damage> {
    let archived = files::archived(disk, dir)?.into_iter();
    // A segment that was killed has no end mark in its last file, wherever that file is now.
    let archived = archived.map(|(path, file, _)| Listed { file, path, last: true });
    let all: Vec<Listed> = archived.chain(files::list(disk, dir)?).collect();
    Ok(all.into_iter().map(move |listed| read_file(disk, listed)))
}

/// A file that is written meanwhile may be seen with a later commit and without an earlier one, whose place was read
/// before it was written. At the next look that one is there; damage is where it was.
fn read_file(disk: &dyn Disk, listed: Listed) -> Result<FileRecords, Damage> {
    let Listed { file, path, last } = listed;
    let mut before = None;
    loop {
        let bytes = disk.read(&path).map_err(|error| files::unreadable(&path, &error))?;
        let mut entries = Vec::new();
        let source = Source { file: &file, path: &path };
        match frame::scan(&source, &bytes, last, |entry| entries.push(entry)) {
            Ok(scan) => return Ok(FileRecords { file, path, entries, torn: scan.torn }),
            Err(damage) if last && before.as_ref() != Some(&damage) => before = Some(damage),
            Err(damage) => return Err(damage),
        }
    }
}
