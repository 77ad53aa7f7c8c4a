//! A disk that fails on purpose: the fake that stands beside [`Disk`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::disk::{AppendFile, Disk};
use crate::real_disk::RealDisk;

pub use self::plan::{Fault, How, Operation};

mod plan;

/// Passes everything to another disk, counts it, and fails what was planned. Clones share plan and counts.
#[derive(Clone, Debug)]
pub struct FaultDisk {
    inner: Arc<dyn Disk>,
    state: Arc<Mutex<State>>,
    healed: Arc<Condvar>,
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<Fault>,
    /// How often it was healed.
    heals: u64,
    done: Vec<(Operation, PathBuf)>,
    dead: bool,
    // Append files and what a power cut would leave of them.
    synced: Vec<(PathBuf, Synced)>,
}

/// How an append file was when it was synced last.
#[derive(Clone, Copy, Debug)]
struct Synced {
    /// Its length.
    len: u64,
    /// Where the zeros behind that ended.
    reserved: u64,
}

/// A power cut leaves a sector as it was, or as it was to be.
const SECTOR: u64 = 512;

impl Default for FaultDisk {
    fn default() -> Self {
        Self::new(Arc::new(RealDisk))
    }
}

impl FaultDisk {
    /// A disk over `inner` that fails nothing yet.
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self { inner, state: Arc::default(), healed: Arc::default() }
    }

    /// Plans a failure. Of several that match one operation, the one planned first fires.
    pub fn plan(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Forgets what was planned and has not fired, and lets go on what waits.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.heals += 1;
        self.healed.notify_all();
    }

    /// From now on nothing has an effect and everything fails, as after `kill -9`. What was written stays.
    /// To start again, open the directory through a new disk.
    pub fn kill(&self) {
        self.state().dead = true;
    }

    /// Whether the process counts as dead, through [`kill`](Self::kill) or a planned death.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// As [`kill`](Self::kill), but what was done to append files and not synced is lost too. Reserved zeros that were
    /// synced are there, also where they had been written over or cut off since.
    ///
    /// # Errors
    /// As the disk below says.
    pub fn power_cut(&self) -> io::Result<()> {
        self.power_cut_that_keeps(|_| false)
    }

    /// As [`power_cut`](Self::power_cut), but of the sectors that were written and not synced some reached the disk, as
    /// `keeps` says of each by its number in its file. The sector that holds the end of what was synced counts too.
    ///
    /// # Errors
    /// As the disk below says.
    pub fn power_cut_that_keeps(&self, keeps: impl Fn(u64) -> bool) -> io::Result<()> {
        let mut state = self.state();
        state.dead = true;
        for (path, synced) in state.synced.drain(..) {
            let contents = match self.inner.read(&path) {
                Ok(contents) => contents,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let Some(behind) = usize::try_from(synced.len).ok().and_then(|len| contents.get(len..))
            else {
                // Cut to less than was synced, which is taken for durable.
                continue;
            };
            let left = left_behind(behind, synced, &keeps);
            let mut file = self.inner.append_open(&path, 0o600)?;
            file.truncate(synced.len)?;
            file.append(&left)?;
        }
        Ok(())
    }

    /// How many operations of this kind were asked for on paths that contain the text, failed ones included.
    #[must_use]
    pub fn count(&self, operation: Operation, path_contains: &str) -> usize {
        let state = self.state();
        let on_path = |path: &Path| path.to_string_lossy().contains(path_contains);
        state.done.iter().filter(|(kind, path)| *kind == operation && on_path(path)).count()
    }

    /// Decides about one operation, then does it. `torn` writes only a prefix.
    fn run<T>(
        &self,
        operation: Operation,
        path: &Path,
        real: impl FnOnce() -> io::Result<T>,
        torn: impl FnOnce(usize) -> io::Result<()>,
    ) -> io::Result<T> {
        let (how, heals) = {
            let mut state = self.state();
            (state.decide(operation, path)?, state.heals)
        };
        let Some(how) = how else { return real() };
        match how {
            How::NotStored | How::DiesBefore => Err(injected()),
            How::DiskFull => {
                Err(io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()))
            }
            How::Stored | How::DiesAfter => real().and_then(|_| Err(injected())),
            How::Torn(len) => torn(len).and_then(|()| Err(injected())),
            How::Waits => {
                let healed = self.healed.wait_while(self.state(), |state| state.heals == heals);
                drop(healed.unwrap_or_else(PoisonError::into_inner));
                real()
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn decide(&mut self, operation: Operation, path: &Path) -> io::Result<Option<How>> {
        if self.dead {
            return Err(injected());
        }
        self.done.push((operation, path.to_owned()));
        for fault in self.faults.iter_mut().filter(|fault| fault.matches(operation, path)) {
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if fault.times > 0 {
                fault.times -= 1;
                self.dead = matches!(fault.how, How::DiesBefore | How::DiesAfter);
                return Ok(Some(fault.how));
            }
        }
        Ok(None)
    }

    fn set_synced(&mut self, path: &Path, now: Synced) {
        match self.synced.iter_mut().find(|(known, _)| known == path) {
            Some((_, synced)) => *synced = now,
            None => self.synced.push((path.to_owned(), now)),
        }
    }

    fn renamed(&mut self, from: &Path, to: &Path) {
        self.synced.retain(|(path, _)| path != to);
        for (path, _) in self.synced.iter_mut().filter(|(path, _)| path == from) {
            to.clone_into(path);
        }
    }
}

/// What a power cut leaves of the bytes `behind` the synced ones.
fn left_behind(behind: &[u8], synced: Synced, keeps: impl Fn(u64) -> bool) -> Vec<u8> {
    let zeros = usize::try_from(synced.reserved.saturating_sub(synced.len)).unwrap_or(usize::MAX);
    let (mut left, mut end) = (behind.to_vec(), zeros);
    left.resize(behind.len().max(zeros), 0);
    for (index, byte) in left.iter_mut().enumerate() {
        if !keeps((synced.len + index as u64) / SECTOR) {
            *byte = 0;
        } else if index < behind.len() {
            end = end.max(index + 1);
        }
    }
    left.truncate(end);
    left
}

fn injected() -> io::Error {
    io::Error::other("injected fault")
}

fn nothing(_: usize) -> io::Result<()> {
    Ok(())
}

impl Disk for FaultDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.run(Operation::Read, path, || self.inner.read(path), nothing)
    }

    fn replace(&self, path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
        self.run(Operation::Replace, path, || self.inner.replace(path, contents, mode), nothing)
    }

    fn append_open(&self, path: &Path, mode: u32) -> io::Result<Box<dyn AppendFile>> {
        let open = || self.inner.append_open(path, mode);
        let file = self.run(Operation::AppendOpen, path, open, nothing)?;
        let reserved = file.len();
        self.state().set_synced(path, Synced { len: reserved, reserved });
        Ok(Box::new(FaultAppendFile { file, reserved, path: path.to_owned(), disk: self.clone() }))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        self.run(Operation::List, directory, || self.inner.list(directory), nothing)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.run(Operation::Remove, path, || self.inner.remove(path), nothing)
    }

    fn remove_dir(&self, directory: &Path) -> io::Result<()> {
        self.run(Operation::RemoveDir, directory, || self.inner.remove_dir(directory), nothing)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let rename = || self.inner.rename(from, to).inspect(|()| self.state().renamed(from, to));
        self.run(Operation::Rename, from, rename, nothing)
    }

    fn create_dir_all(&self, directory: &Path, mode: u32) -> io::Result<()> {
        let create = || self.inner.create_dir_all(directory, mode);
        self.run(Operation::CreateDirAll, directory, create, nothing)
    }
}

#[derive(Debug)]
struct FaultAppendFile {
    file: Box<dyn AppendFile>,
    /// Where the zeros end that were reserved.
    reserved: u64,
    path: PathBuf,
    disk: FaultDisk,
}

impl AppendFile for FaultAppendFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self { file, path, disk, .. } = self;
        let file = std::cell::RefCell::new(file);
        let torn = |len: usize| file.borrow_mut().append(bytes.get(..len).unwrap_or(bytes));
        disk.run(Operation::Append, path, || file.borrow_mut().append(bytes), torn)
    }

    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        let Self { file, reserved, path, disk } = self;
        let end = file.len().saturating_add(bytes);
        let reserve = || file.reserve(bytes).inspect(|()| *reserved = (*reserved).max(end));
        disk.run(Operation::Reserve, path, reserve, nothing)
    }

    fn sync(&mut self) -> io::Result<()> {
        let Self { file, reserved, path, disk } = self;
        let sync = || {
            file.sync()?;
            let len = file.len();
            disk.state().set_synced(path, Synced { len, reserved: (*reserved).max(len) });
            Ok(())
        };
        disk.run(Operation::Sync, path, sync, nothing)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let Self { file, reserved, path, disk } = self;
        let truncate = || file.truncate(len).inspect(|()| *reserved = len);
        disk.run(Operation::Truncate, path, truncate, nothing)
    }

    fn len(&self) -> u64 {
        self.file.len()
    }
}

#[cfg(test)]
mod tests;
