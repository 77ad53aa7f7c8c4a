//! The disk of one simulated machine: files in memory, and what a power cut leaves of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use host::{AppendFile, Disk};

use crate::dice::Dice;
use crate::run::Run;
use crate::trap::{Blow, Failure};

/// A power cut leaves a sector as it was, or as it was to be.
const SECTOR: usize = 512;

/// The medium: it outlives the processes that use it.
#[derive(Debug, Default)]
pub(crate) struct Medium {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<PathBuf, Contents>,
    directories: BTreeSet<PathBuf>,
    /// Syncs that fail from now on.
    failing_syncs: u32,
    /// Appends that fail from now on.
    failing_appends: u32,
    /// A broken disk: it says that it synced, and did not.
    lies: bool,
}

#[derive(Debug, Clone, Default)]
struct Contents {
    bytes: Vec<u8>,
    /// What a power cut surely leaves.
    durable: Vec<u8>,
}

impl Medium {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lie(&self) {
        self.state().lies = true;
    }

    pub(crate) fn fail_syncs(&self, times: u32) {
        self.state().failing_syncs = times;
    }

    pub(crate) fn fail_appends(&self, times: u32) {
        self.state().failing_appends = times;
    }

    /// All is well from now on.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        (state.failing_syncs, state.failing_appends) = (0, 0);
    }

    /// The machine gets a new one.
    pub(crate) fn replace(&self) {
        let mut state = self.state();
        *state = State { lies: state.lies, ..State::default() };
    }

    /// What was not synced is lost, but for some sectors.
    pub(crate) fn power_cut(&self, dice: &mut Dice) {
        for contents in self.state().files.values_mut() {
            let (new, mut left) = (std::mem::take(&mut contents.bytes), contents.durable.clone());
            let differs = new.iter().zip(&left).take_while(|(new, old)| new == old).count();
            let first = differs / SECTOR;
            for sector in first..new.len().div_ceil(SECTOR) {
                if dice.happens(500) {
                    continue;
                }
                let end = ((sector + 1) * SECTOR).min(new.len());
                let begin = (sector * SECTOR).min(end);
                if left.len() < end {
                    left.resize(end, 0);
                }
                if let (Some(to), Some(from)) = (left.get_mut(begin..end), new.get(begin..end)) {
                    to.copy_from_slice(from);
                }
            }
            contents.durable.clone_from(&left);
            contents.bytes = left;
        }
    }
}

/// The disk as one process sees it, until that process is dead.
#[derive(Debug, Clone)]
pub(crate) struct ProcessDisk {
    pub(crate) run: Arc<Run>,
    pub(crate) medium: Arc<Medium>,
    /// The number of the machine.
    pub(crate) machine: usize,
    pub(crate) dead: Arc<AtomicBool>,
}

/// How much of an operation is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    All,
    /// As far as an operation has halves; else nothing.
    Half,
}

impl ProcessDisk {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        match self.dead.load(Ordering::Relaxed) {
            true => Err(dead()),
            false => Ok(self.medium.state()),
        }
    }

    /// An operation that outlives the process. The medium itself decides how one of them fails.
    fn durably<T>(
        &self,
        what: &str,
        path: &Path,
        act: impl FnOnce(&mut State, Done) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state()?;
        let note = |failure: &dyn std::fmt::Display| {
            self.run.note(
                &format_args!("ca-{}", self.machine),
                &format_args!("{what} of {}: {failure}", path.display()),
            );
        };
        let Some(failure) = self.run.trap.operation(note) else {
            return act(&mut state, Done::All);
        };
        match failure {
            Failure::Killed | Failure::PowerCut => _ = act(&mut state, Done::All),
            Failure::Torn => _ = act(&mut state, Done::Half),
            Failure::Full => {
                let _ = act(&mut state, Done::Half);
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            Failure::Faulty => return Err(faulty()),
            Failure::SaidToFail => {
                return act(&mut state, Done::All).and_then(|_| Err(faulty()));
            }
        }
        self.dead.store(true, Ordering::Relaxed);
        let blow = if failure == Failure::Killed { Blow::Kill } else { Blow::PowerCut };
        self.run.trap.hit(self.machine, blow);
        Err(dead())
    }
}

fn dead() -> io::Error {
    io::Error::other("the process is dead")
}

fn faulty() -> io::Error {
    io::Error::other("the simulated disk failed")
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Disk for ProcessDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.state()?.files.get(path).map(|file| file.bytes.clone()).ok_or_else(not_found)
    }

    fn replace(&self, path: &Path, contents: &[u8], _: u32) -> io::Result<()> {
        self.durably("replacing", path, |state, done| {
            if done == Done::All {
                let (bytes, durable) = (contents.to_vec(), contents.to_vec());
                state.files.insert(path.to_owned(), Contents { bytes, durable });
            }
            Ok(())
        })
    }

    fn append_open(&self, path: &Path, _: u32) -> io::Result<Box<dyn AppendFile>> {
        let len = self.state()?.files.entry(path.to_owned()).or_default().bytes.len();
        Ok(Box::new(Open { disk: self.clone(), path: path.to_owned(), len }))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state()?;
        let inside = |path: &&PathBuf| path.parent() == Some(directory);
        let mut found: BTreeSet<PathBuf> =
            state.files.keys().chain(&state.directories).filter(inside).cloned().collect();
        for path in state.files.keys() {
            let above = path.ancestors().find(|above| above.parent() == Some(directory));
            found.extend(above.map(Path::to_owned));
        }
        if found.is_empty() && !state.directories.contains(directory) {
            return Err(not_found());
        }
        Ok(found.into_iter().collect())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.durably("removal", path, |state, done| match done {
            Done::All => state.files.remove(path).map(drop).ok_or_else(not_found),
            Done::Half => Ok(()),
        })
    }

    fn remove_dir(&self, directory: &Path) -> io::Result<()> {
        match self.state()?.directories.remove(directory) {
            true => Ok(()),
            false => Err(not_found()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.durably("renaming", from, |state, done| {
            if done == Done::All {
                let moved = state.files.remove(from).ok_or_else(not_found)?;
                state.files.insert(to.to_owned(), moved);
            }
            Ok(())
        })
    }

    fn create_dir_all(&self, directory: &Path, _: u32) -> io::Result<()> {
        let mut state = self.state()?;
        state.directories.extend(directory.ancestors().map(Path::to_owned));
        Ok(())
    }
}

#[derive(Debug)]
struct Open {
    disk: ProcessDisk,
    path: PathBuf,
    /// Where the next append goes.
    len: usize,
}

impl AppendFile for Open {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self { disk, path, len } = self;
        disk.durably("append", path, |state, done| {
            let fails = state.failing_appends > 0;
            state.failing_appends = state.failing_appends.saturating_sub(1);
            let half = fails || done == Done::Half;
            let bytes = if half { bytes.get(..bytes.len() / 2).unwrap_or(bytes) } else { bytes };
            let file = state.files.get_mut(path).ok_or_else(not_found)?;
            let end = *len + bytes.len();
            if file.bytes.len() < end {
                file.bytes.resize(end, 0);
            }
            if let Some(to) = file.bytes.get_mut(*len..end) {
                to.copy_from_slice(bytes);
            }
            *len = end;
            if fails { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
        })
    }

    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state()?;
        let file = state.files.get_mut(&self.path).ok_or_else(not_found)?;
        let end = self.len + usize::try_from(bytes).unwrap_or(0);
        if file.bytes.len() < end {
            file.bytes.resize(end, 0);
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.durably("sync", &self.path, |state, done| {
            if state.failing_syncs > 0 {
                state.failing_syncs -= 1;
                return Err(faulty());
            }
            if !state.lies
                && done == Done::All
                && let Some(file) = state.files.get_mut(&self.path)
            {
                file.durable.clone_from(&file.bytes);
            }
            Ok(())
        })
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state()?;
        let file = state.files.get_mut(&self.path).ok_or_else(not_found)?;
        self.len = usize::try_from(len).unwrap_or(usize::MAX);
        file.bytes.truncate(self.len);
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len as u64
    }
}
