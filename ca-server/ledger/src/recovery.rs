//! Reading what earlier incarnations left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use host::Disk;
use trust::{RootId, Serial, Timestamp};

use crate::error::{Damage, OpenError};
use crate::files::{self, FileUse, Listed};
use crate::frame::{self, Scan, Source};
use crate::index::Index;
use crate::record::Record;
use crate::row::Row;
use crate::segment::{ARCHIVE, SegmentId};
use crate::settings::OpenOptions;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The segments, by id.
    pub segments: BTreeMap<SegmentId, RecoveredSegment>,
    /// Rows in the index, those that have ended included.
    pub rows: u64,
}

/// What was found of a segment. Its live rows are in the index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredSegment {
    /// Files in it.
    pub files: u64,
    /// Records in them.
    pub records: u64,
    /// Rows in them, expired ones included.
    pub rows: u64,
    /// For each root, the latest end of validity among these rows.
    pub bounds: BTreeMap<RootId, Timestamp>,
    /// A write that was cut short, at the segment's end.
    pub torn: Option<TornTail>,
}

/// Bytes at the end of a segment that were never durable. Nothing was released on the strength of them. They are cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The file.
    pub path: PathBuf,
    /// Where it was cut.
    pub offset: u64,
    /// How many bytes were cut off, with the zeros behind them that were written ahead.
    pub bytes: u64,
}

/// Reads all files into an index. Nothing is changed on the disk before all of them were found good.
pub(crate) fn recover(options: &OpenOptions) -> Result<(Recovered, Index, Vec<FileUse>), OpenError> {
    let OpenOptions { dir, segment, disk, .. } = options;
    let mut recovery = Recovery::default();
    for listed in files::list(disk.as_ref(), dir)? {
        if listed.file.segment == *segment {
            let path = dir.join(segment.as_str());
            return Err(OpenError::SegmentInUse { segment: segment.clone(), path });
        }
        recovery.read(disk.as_ref(), &listed)?;
    }
    for torn in recovery.recovered.segments.values().filter_map(|found| found.torn.as_ref()) {
        let TornTail { path, offset, bytes } = torn;
        tracing::warn!(file = %path.display(), offset, bytes, "cutting off a write that was cut short");
    }
    for (path, offset) in &recovery.to_cut {
        cut(disk.as_ref(), path, *offset)?;
    }
    make_directory(options, ARCHIVE)?;
    make_directory(options, segment.as_str())?;
    Ok(recovery.finish(options))
}

#[derive(Default)]
struct Recovery {
    recovered: Recovered,
    index: Index,
    /// Each file, with the rows that it mentions without telling when they end.
    files: Vec<(FileUse, Vec<Serial>)>,
    /// Files with something behind their records, and where that begins.
    to_cut: Vec<(PathBuf, u64)>,
}

impl Recovery {
    fn read(&mut self, disk: &dyn Disk, listed: &Listed) -> Result<(), Damage> {
        let Listed { file, path, last } = listed;
        let bytes = disk.read(path).map_err(|error| files::unreadable(path, &error))?;
        let found = self.recovered.segments.entry(file.segment.clone()).or_default();
        let (mut used, mut mentions) = (FileUse::new(file.clone()), Vec::new());
        let index = &mut self.index;
        let scan = frame::scan(&Source { file, path }, &bytes, *last, |entry| {
            match &entry.record {
                Record::Intent(row) => found.count(row, &mut used),
                Record::Carried(live) => found.count(&live.row, &mut used),
                other => mentions.extend(other.serial()),
            }
            index.replay(&entry.record);
        })?;
        let Scan { records, whole, torn } = scan;
        (used.records, used.len) = (records, whole);
        found.files += 1;
        found.records += records;
        if torn > 0 {
            found.torn = Some(TornTail { path: path.clone(), offset: whole, bytes: torn });
        }
        if whole < bytes.len() as u64 {
            self.to_cut.push((path.clone(), whole));
        }
        self.files.push((used, mentions));
        Ok(())
    }

    fn finish(mut self, options: &OpenOptions) -> (Recovered, Index, Vec<FileUse>) {
        self.index.replayed();
        // With a wall clock that is not believed all rows stay: the running ledger drops them once it is.
        if let Ok(now) = options.clock.agreed() {
            self.index.expire(now.earlier, options.skew);
        }
        self.recovered.rows = self.index.len() as u64;
        let index = &self.index;
        let resolve = |(mut used, mentions): (FileUse, Vec<Serial>)| {
            let rows = mentions.iter().filter_map(|serial| index.get(serial));
            rows.for_each(|live| used.mention(live.row.not_after));
            used
        };
        let files = self.files.into_iter().map(resolve).collect();
        (self.recovered, self.index, files)
    }
}

impl RecoveredSegment {
    fn count(&mut self, row: &Row, used: &mut FileUse) {
        self.rows += 1;
        let bound = self.bounds.entry(row.root).or_insert(row.not_after);
        *bound = (*bound).max(row.not_after);
        used.mention(row.not_after);
    }
}

fn make_directory(options: &OpenOptions, name: &str) -> Result<(), OpenError> {
    let path = options.dir.join(name);
    let made = options.disk.create_dir_all(&path, 0o700);
    made.map_err(|source| OpenError::Io { operation: "create the directory", path, source })
}

fn cut(disk: &dyn Disk, path: &Path, offset: u64) -> Result<(), OpenError> {
    let cut = disk.append_open(path, 0o600).and_then(|mut file| {
        file.truncate(offset)?;
        file.sync()
    });
    cut.map_err(|source| OpenError::Io { operation: "cut", path: path.to_owned(), source })
}
