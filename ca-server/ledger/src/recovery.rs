//! Reading what earlier incarnations left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use host::Disk;
use trust::{RootId, Serial, Timestamp};

use crate::error::{Damage, OpenError};
use crate::files::{self, FileUse, Listed};
use crate::frame::{self, Scan, Source};
use crate::index::Index;
use crate::manifest::{Manifest, SegmentFault, Stated};
use crate::record::Record;
use crate::row::Row;
use crate::segment::{ARCHIVE, FileId, SegmentId};
use crate::settings::OpenOptions;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The segments of which there are files, by id.
    pub segments: BTreeMap<SegmentId, RecoveredSegment>,
    /// The segments all of whose rows are known: those that were read to their ends, and those that a compaction emptied.
    pub whole: BTreeSet<SegmentId>,
    /// What is wrong with others.
    pub faults: Vec<SegmentFault>,
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

/// The files of former segments.
#[derive(Debug, Default)]
pub(crate) struct Closed {
    pub(crate) files: Vec<FileUse>,
    /// What is stated about them.
    pub(crate) manifest: Manifest,
}

/// Reads all files into an index. Nothing is changed on the disk before all of them were found good.
pub(crate) fn recover(options: &OpenOptions) -> Result<(Recovered, Index, Closed), OpenError> {
    let OpenOptions { dir, segment, disk, .. } = options;
    let stated = Manifest::read(disk.as_ref(), dir)?.unwrap_or_default();
    let mut recovery = Recovery { manifest: stated.clone(), ..Recovery::default() };
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
    recovery.look_for_missing(dir);
    if recovery.manifest != stated {
        let (written, path) = (recovery.manifest.write(disk.as_ref(), dir), Manifest::path(dir));
        written.map_err(|source| OpenError::Io { operation: "write", path, source })?;
    }
    Ok(recovery.finish(options))
}

#[derive(Default)]
struct Recovery {
    recovered: Recovered,
    index: Index,
    /// Each file, with the rows that it mentions without telling when they end.
    files: Vec<(FileUse, Vec<Serial>)>,
    /// What is stated about files; those that are read are added.
    manifest: Manifest,
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
        let fault = self.manifest.files.get(file).and_then(|stated| stated.fault(&bytes, whole));
        if let Some(what) = fault {
            // Nothing is changed in it: it may be mended from a backup.
            tracing::error!(file = %path.display(), what, "a closed file of the ledger is not what it was");
            let fault = SegmentFault { segment: file.segment.clone(), path: path.clone(), what };
            self.recovered.faults.push(fault);
            return Ok(());
        }
        if !self.manifest.files.contains_key(file) {
            let good = usize::try_from(whole)
                .ok()
                .and_then(|whole| bytes.get(..whole))
                .unwrap_or_default();
            let stated = Stated { len: whole, records, crc: crc32fast::hash(good), carried: false };
            self.manifest.files.insert(file.clone(), stated);
        }
        used.carried = self.manifest.files.get(file).is_some_and(|stated| stated.carried);
        if torn > 0 {
            found.torn = Some(TornTail { path: path.clone(), offset: whole, bytes: torn });
        }
        if whole < bytes.len() as u64 {
            self.to_cut.push((path.clone(), whole));
        }
        self.files.push((used, mentions));
        Ok(())
    }

    /// Files that are spoken of and not there: archived ones are struck out, others are faults of their segments.
    fn look_for_missing(&mut self, dir: &Path) {
        let read: BTreeSet<&FileId> = self.files.iter().map(|(used, _)| &used.file).collect();
        let faulty = |path: &Path| self.recovered.faults.iter().any(|fault| fault.path == path);
        let mut missing = Vec::new();
        for (file, stated) in &self.manifest.files {
            let path = file.path(dir);
            if !read.contains(file) && !faulty(&path) {
                missing.push((file.clone(), path, stated.carried));
            }
        }
        for (file, path, carried) in missing {
            if carried {
                // Of this start's own segment nothing was ever stated.
                self.manifest.files.remove(&file);
                if !self.manifest.has_files(&file.segment) {
                    self.manifest.emptied.insert(file.segment);
                }
                continue;
            }
            tracing::error!(file = %path.display(), "a closed file of the ledger is gone");
            let what = "is gone".to_owned();
            self.recovered.faults.push(SegmentFault { segment: file.segment, path, what });
        }
        let found = self.recovered.segments.keys().chain(&self.manifest.emptied).cloned();
        let faulty: BTreeSet<_> =
            self.recovered.faults.iter().map(|fault| &fault.segment).collect();
        self.recovered.whole = found.filter(|segment| !faulty.contains(segment)).collect();
    }

    fn finish(mut self, options: &OpenOptions) -> (Recovered, Index, Closed) {
        self.index.replayed();
        // With a wall clock that is not believed all rows stay: the running ledger drops them once it is.
        if let Ok(now) = options.clock.agreed() {
            self.index.expire(now.earlier, options.skew, usize::MAX);
        }
        self.recovered.rows = self.index.len() as u64;
        let index = &self.index;
        let resolve = |(mut used, mentions): (FileUse, Vec<Serial>)| {
            let ends = mentions.iter().filter_map(|serial| index.not_after(serial));
            ends.for_each(|not_after| used.mention(not_after));
            used
        };
        let files = self.files.into_iter().map(resolve).collect();
        (self.recovered, self.index, Closed { files, manifest: self.manifest })
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
