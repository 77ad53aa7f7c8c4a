//! The one thread that writes: it takes whatever waits, writes it at once, syncs once, and wakes everybody.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use std::time::Duration;

use host::AppendFile;
use tokio::sync::mpsc::{Receiver, WeakSender};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::error::LedgerError;
use crate::files::FileUse;
use crate::frame;
use crate::intent::DurableIntent;
use crate::intent::Job;
use crate::manifest::Stated;
use crate::record::{Entry, Record};
use crate::segment::FileId;
use crate::shared::Shared;
use crate::shorthand::Writing;

/// Jobs in one write at most: about 150 KB of ordinary rows.
const BATCH_MAX: usize = 1_024;
/// How long records that nobody waits for may wait for a row to share its sync with. A crash loses no more than what
/// came in this time, and what it loses only makes gates open later.
const LATER_WAIT_MAX: Duration = Duration::from_millis(10);
/// Zeros written ahead of the records at a time: enough for about 7,000 ordinary rows.
const AHEAD_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    queue: WeakSender<Job>,
    file: OpenFile,
    /// What could not be written and nobody waits for; goes first into the next write. At most `queue_len`.
    backlog: Vec<Job>,
    pace: Pace,
    buffer: Vec<u8>,
}

/// When the last commit started, and whether it served several requests at once.
#[derive(Debug, Default)]
struct Pace {
    busy_since: Option<Instant>,
}

impl Pace {
    /// Collects jobs for one commit; `false` when there will be none any more.
    ///
    /// Somebody who waits is served at once, unless several were served at once the time before: then commits start
    /// at least `window` apart. What nobody waits for waits for somebody who does, but not for long.
    async fn gather(
        &mut self,
        queue: &mut Receiver<Job>,
        jobs: &mut Vec<Job>,
        window: Duration,
    ) -> bool {
        if queue.recv_many(jobs, BATCH_MAX).await == 0 {
            return false;
        }
        let deadline = Instant::now() + LATER_WAIT_MAX;
        while jobs.len() < BATCH_MAX && !jobs.iter().any(Job::is_awaited) {
            let room = BATCH_MAX - jobs.len();
            if !matches!(timeout_at(deadline, queue.recv_many(jobs, room)).await, Ok(1..)) {
                break;
            }
        }
        if let Some(since) = self.busy_since.filter(|_| !window.is_zero()) {
            sleep_until(since + window).await;
            while jobs.len() < BATCH_MAX
                && let Ok(job) = queue.try_recv()
            {
                jobs.push(job);
            }
        }
        let several = jobs.iter().filter(|job| job.is_awaited()).count() > 1;
        self.busy_since = several.then(Instant::now);
        true
    }
}

/// The file that is written.
#[derive(Debug)]
pub(crate) struct OpenFile {
    path: PathBuf,
    handle: Box<dyn AppendFile>,
    /// Everything up to here is durable.
    durable: u64,
    /// A commit that reaches beyond this writes zeros ahead first.
    ahead: u64,
    used: FileUse,
    /// What its records may refer to.
    writing: Writing,
    /// Checksum of everything up to there.
    checksum: crc32fast::Hasher,
    /// Its end mark is durable: the next record needs the next file.
    ended: bool,
}

impl OpenFile {
    /// Starts a file: it holds a durable header afterwards. What an attempt before left there is cut off.
    pub(crate) fn create(shared: &Shared, file: FileId) -> io::Result<Self> {
        let path = file.path(&shared.dir);
        let mut handle = shared.disk.append_open(&path, 0o600)?;
        if !handle.is_empty() {
            handle.truncate(0)?;
        }
        let header = frame::header(&file);
        handle.append(&header)?;
        handle.sync()?;
        let durable = handle.len();
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&header);
        shared.writes_to(path.clone());
        let (used, writing) = (FileUse::new(file), Writing::default());
        Ok(Self { path, handle, durable, ahead: durable, used, writing, checksum, ended: false })
    }

    /// Sees to it that the next `bytes` go over zeros that are there already, so that most commits change no metadata of
    /// the file. The zeros become durable with the commit. Without them the commit makes the file longer, as it does
    /// at the end of a full file; after a failure so do those that follow, for as many bytes as were asked for.
    fn write_ahead(&mut self, bytes: u64, file_bytes_max: u64) {
        let room = AHEAD_BYTES.min(file_bytes_max.saturating_sub(self.durable));
        if self.durable.saturating_add(bytes) <= self.ahead || bytes > room {
            return;
        }
        self.ahead = self.durable.saturating_add(room);
        if let Err(error) = self.handle.reserve(room) {
            tracing::debug!(file = %self.path.display(), %error, "no zeros are written ahead, commits take longer");
        }
    }

    /// Cuts off the zeros that were written ahead. Those that stay after a failure are cut off at the next start.
    fn drop_ahead(&mut self) {
        if let Err(error) = self.handle.truncate(self.durable) {
            tracing::debug!(file = %self.path.display(), %error, "zeros stay behind the end mark");
        }
    }
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, queue: WeakSender<Job>, file: OpenFile) -> Self {
        Self { shared, queue, file, backlog: Vec::new(), pace: Pace::default(), buffer: Vec::new() }
    }

    /// Runs until every sender is gone and everything is written.
    pub(crate) async fn run(mut self, mut queue: Receiver<Job>) {
        let mut jobs = Vec::with_capacity(BATCH_MAX);
        let window = self.shared.settings.commit_window;
        while self.pace.gather(&mut queue, &mut jobs, window).await {
            self.commit(&mut jobs);
        }
        self.finish();
    }

    fn commit(&mut self, jobs: &mut Vec<Job>) {
        if let Err(error) = self.shared.check_sound() {
            return self.refuse(jobs, &error);
        }
        let mut batch = std::mem::take(&mut self.backlog);
        batch.append(jobs);
        let started = self.shared.clock.uptime();
        match self.write(&batch) {
            Ok(records) => {
                self.shared.last_write(None);
                let took = self.shared.clock.uptime().saturating_sub(started);
                self.shared.counters.committed(records, self.buffer.len() as u64, took);
                self.note(&batch, records);
                self.tell(batch);
                self.roll();
            }
            Err(error @ LedgerError::Poisoned { .. }) => self.refuse(&mut batch, &error),
            Err(error) => self.give_back(batch, &error),
        }
    }

    /// Makes the batch durable. Answers how many records it had.
    fn write(&mut self, batch: &[Job]) -> Result<u64, LedgerError> {
        self.next_file_if_ended()?;
        self.buffer.clear();
        let mut records = 0;
        for job in batch {
            records += self.encode(job);
        }
        let written = self.append_and_sync();
        match &written {
            Ok(()) => self.file.writing.keep(),
            // It was cut off again, or nothing will be written any more.
            Err(_) => self.file.writing.take_back(),
        }
        written.map(|()| records)
    }

    fn encode(&mut self, job: &Job) -> u64 {
        let Self { file: OpenFile { writing, .. }, buffer, .. } = self;
        match job {
            Job::Intent { at, row, .. } => {
                frame::append(
                    &Entry { at: *at, record: Record::Intent(Arc::clone(row)) },
                    writing,
                    buffer,
                );
                1
            }
            Job::Later { entry, .. } | Job::Probe { entry } => {
                frame::append(entry, writing, buffer);
                1
            }
            Job::Carried { entries, .. } => {
                entries.iter().for_each(|entry| frame::append(entry, writing, buffer));
                entries.len() as u64
            }
        }
    }

    /// A failed append is taken back. A failed sync is never tried again: the kernel may have dropped the pages, and
    /// would then call the next sync a success.
    fn append_and_sync(&mut self) -> Result<(), LedgerError> {
        let file = &mut self.file;
        file.write_ahead(self.buffer.len() as u64, self.shared.settings.file_bytes_max);
        if let Err(error) = file.handle.append(&self.buffer) {
            self.shared.counters.writes_failed.fetch_add(1, Relaxed);
            if let Err(second) = file.handle.truncate(file.durable) {
                let reason = format!("{error}, and taking the write back failed too: {second}");
                return Err(self
                    .shared
                    .poison(LedgerError::Poisoned { path: file.path.clone(), reason }));
            }
            return Err(failed(file.path.clone(), &error));
        }
        if let Err(error) = file.handle.sync() {
            let reason = format!("sync: {error}");
            tracing::error!(file = %file.path.display(), %error, "the ledger is poisoned");
            return Err(self
                .shared
                .poison(LedgerError::Poisoned { path: file.path.clone(), reason }));
        }
        file.durable = file.handle.len();
        file.checksum.update(&self.buffer);
        Ok(())
    }

    /// Counts what the file is good for.
    fn note(&mut self, batch: &[Job], records: u64) {
        let used = &mut self.file.used;
        used.records += records;
        for job in batch {
            match job {
                Job::Intent { row, .. } => used.mention(row.not_after),
                Job::Probe { .. } => {}
                Job::Later { not_after, .. } => not_after.iter().for_each(|at| used.mention(*at)),
                Job::Carried { entries, .. } => {
                    for entry in entries {
                        if let Record::Carried(live) = &entry.record {
                            used.mention(live.row.not_after);
                        }
                    }
                }
            }
        }
    }

    /// Everything is durable. An answer that nobody waits for any more is dropped, which abandons its intent.
    fn tell(&self, batch: Vec<Job>) {
        for job in batch {
            match job {
                Job::Intent { row, done, .. } => {
                    let intent =
                        DurableIntent::new(row, Arc::clone(&self.shared), self.queue.clone());
                    let _ = done.send(Ok(intent));
                }
                Job::Later { .. } | Job::Probe { .. } => {}
                Job::Carried { done, .. } => _ = done.send(Ok(())),
            }
        }
    }

    /// Nothing was stored, and later writes may succeed: rows leave the index, for no leaf of theirs can ever be
    /// signed; records that nobody waits for are kept for the next write.
    fn give_back(&mut self, batch: Vec<Job>, error: &LedgerError) {
        // As long as it goes on it is said once: callers that try again must not fill the disk that is full.
        match self.shared.last_write(Some(error)) {
            true => {
                tracing::warn!(file = %self.file.path.display(), %error, "the ledger took a write back")
            }
            false => {
                tracing::debug!(file = %self.file.path.display(), %error, "the ledger took a write back")
            }
        }
        let mut lost = 0;
        for job in batch {
            match job {
                Job::Intent { row, done, .. } => {
                    self.shared.index().forget(&row.serial);
                    let _ = done.send(Err(error.clone()));
                }
                Job::Later { .. } if self.backlog.len() < self.shared.settings.queue_len => {
                    self.backlog.push(job)
                }
                Job::Later { .. } => lost += 1,
                Job::Probe { .. } => {}
                Job::Carried { done, .. } => _ = done.send(Err(error.clone())),
            }
        }
        self.shared.counters.lost(lost);
    }

    /// The ledger is poisoned. Rows stay in the index: they may be on the disk, and would be read back from there.
    fn refuse(&self, batch: &mut Vec<Job>, error: &LedgerError) {
        for job in batch.drain(..) {
            match job {
                Job::Intent { done, .. } => _ = done.send(Err(error.clone())),
                Job::Later { .. } => self.shared.counters.lost(1),
                Job::Probe { .. } => {}
                Job::Carried { done, .. } => _ = done.send(Err(error.clone())),
            }
        }
    }

    /// Closes the file when it is full. When that fails the file is used on, and the next commit tries again. So is one that was
    /// taken away.
    fn roll(&mut self) {
        if self.file.durable < self.shared.settings.file_bytes_max || self.shared.is_taken_away() {
            return;
        }
        if let Err(error) = self.end_file().and_then(|()| self.next_file_if_ended()) {
            tracing::warn!(file = %self.file.path.display(), %error, "the ledger could not go on to a new file");
        }
    }

    fn end_file(&mut self) -> Result<(), LedgerError> {
        let entry = self.shared.entry(Record::End { records: self.file.used.records });
        self.buffer.clear();
        frame::append(&entry, &mut self.file.writing, &mut self.buffer);
        self.append_and_sync()?;
        self.file.drop_ahead();
        self.file.used.records += 1;
        self.file.used.len = self.file.durable;
        self.file.ended = true;
        self.state_file();
        Ok(())
    }

    /// States what the file is that has its end mark now. When that cannot be written the next statement brings it.
    fn state_file(&self) {
        let OpenFile { used, checksum, .. } = &self.file;
        let (len, records, crc) = (used.len, used.records, checksum.clone().finalize());
        let stated = Stated { len, records, crc, carried: false };
        let written =
            self.shared.state(|manifest| _ = manifest.files.insert(used.file.clone(), stated));
        if let Err(error) = written {
            tracing::warn!(file = %self.file.path.display(), %error, "it is not stated yet what this file is");
        }
    }

    fn next_file_if_ended(&mut self) -> Result<(), LedgerError> {
        if !self.file.ended {
            return Ok(());
        }
        let FileId { segment, number } = self.file.used.file.clone();
        let next = FileId { segment, number: number.saturating_add(1) };
        let path = next.path(&self.shared.dir);
        let file = OpenFile::create(&self.shared, next).map_err(|error| failed(path, &error))?;
        let before = std::mem::replace(&mut self.file, file);
        self.shared.closed_files().push(before.used);
        Ok(())
    }

    /// The last words of an orderly end. Without them the next start reads the file as one that was killed: fine too. Of a file that
    /// was taken away nothing is stated: what is put back in its place may be a little shorter.
    fn finish(&mut self) {
        if self.shared.check_sound().is_err() {
            return;
        }
        if !self.backlog.is_empty() {
            self.commit(&mut Vec::new());
        }
        self.shared.counters.lost(self.backlog.len() as u64);
        if self.file.ended || self.shared.is_taken_away() || self.shared.check_sound().is_err() {
            return;
        }
        if let Err(error) = self.end_file() {
            tracing::warn!(file = %self.file.path.display(), %error, "the ledger's file has no end mark");
        }
    }
}

fn failed(path: PathBuf, error: &io::Error) -> LedgerError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => LedgerError::Full { path },
        _ => LedgerError::WriteFailed { path, reason: error.to_string() },
    }
}
