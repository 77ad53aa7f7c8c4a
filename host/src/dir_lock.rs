//! One process per data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The exclusive right to a data directory, held until it is dropped.
///
/// It is an advisory lock of the kernel on `<directory>/lock`: it ends with the process, however the process
/// ends, so that there is no stale lock to remove by hand.
#[derive(Debug)]
pub struct DirLock {
    // Held for its lock; never read.
    file: File,
    directory: PathBuf,
}

/// Why a directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum DirLockError {
    /// Another process holds it.
    #[error(
        "{} is in use by {}: stop that process, or give this one a data directory of its own",
        directory.display(),
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Held {
        /// The directory.
        directory: PathBuf,
        /// Process id of the holder, when it had already written it down.
        holder: Option<u32>,
    },
    /// The lock file could not be opened, locked or written.
    #[error("cannot lock {}: {source}; check that the directory exists and is writable for this user", directory.display())]
    Failed {
        /// The directory.
        directory: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl DirLock {
    /// Takes the lock, without waiting for it.
    ///
    /// # Errors
    /// [`DirLockError::Held`] when another process, or another part of this one, holds the directory.
    pub fn acquire(directory: &Path) -> Result<Self, DirLockError> {
        let failed = |source| DirLockError::Failed { directory: directory.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join("lock"))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DirLockError::Held {
                    directory: directory.to_owned(),
                    holder: read_pid(&mut file),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        write_pid(&mut file).map_err(failed)?;
        Ok(Self { file, directory: directory.to_owned() })
    }

    /// The directory that is held.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for DirLock {
    /// A child that was just forked has the file too until it runs its own program: closing it here would not let go.
    fn drop(&mut self) {
        // What cannot be let go ends with the process.
        let _ = self.file.unlock();
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// The pid is for people only: the lock itself is the kernel's, so this need not be durable.
fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_by_name_and_gets_in_when_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirLock::acquire(dir.path()).unwrap();
        assert_eq!(first.directory(), dir.path());
        let refused = DirLock::acquire(dir.path()).unwrap_err();
        let said = refused.to_string();
        assert!(said.contains(&format!("process {}", std::process::id())), "{said}");
        assert!(said.contains("stop that process"), "{said}");
        drop(first);
        DirLock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn a_child_that_was_just_forked_does_not_keep_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirLock::acquire(dir.path()).unwrap();
        let inherited = first.file.try_clone().unwrap();
        drop(first);
        DirLock::acquire(dir.path()).unwrap();
        drop(inherited);
    }

    #[test]
    fn a_lock_file_left_by_a_dead_process_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("lock"), "123456789012\n").unwrap();
        DirLock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn a_missing_directory_says_what_to_check() {
        let dir = tempfile::tempdir().unwrap();
        let said = DirLock::acquire(&dir.path().join("none")).unwrap_err().to_string();
        assert!(said.contains("check that the directory exists"), "{said}");
    }
}
