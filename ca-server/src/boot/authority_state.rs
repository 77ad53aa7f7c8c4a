//! The durable state of one root authority: one file for each name.
//!
//! Beside the files lies a list of their names, so that a file that is deleted is told from one that never was: an
//! authority that lost its book would make a second root for a mesh that has one.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use host::Disk;
use plugins::{AuthorityState, StateError, StateName};

use control::paths::{DIR_MODE, FILE_MODE};

/// The list of names; no state is called so.
const NAMES: &str = ".names";

/// Values in files of one directory, each replaced atomically.
#[derive(Debug)]
pub(super) struct FileState {
    directory: PathBuf,
    disk: Arc<dyn Disk>,
    /// It was missing at the start, and should not have been.
    lost: bool,
}

impl FileState {
    /// Makes the directory, unless roots `in_use` come from this authority: then a missing one was deleted, and stays
    /// missing until it is put back.
    pub(super) fn open(directory: PathBuf, disk: Arc<dyn Disk>, in_use: bool) -> io::Result<Self> {
        let there = directory.try_exists()?;
        if there || !in_use {
            disk.create_dir_all(&directory, DIR_MODE)?;
        }
        if there {
            adopt(disk.as_ref(), &directory)?;
        }
        Ok(Self { directory, disk, lost: in_use && !there })
    }

    /// Disks block, so each use gets a thread that may.
    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        name: &str,
        work: impl FnOnce(&dyn Disk, &Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StateError> {
        let (disk, directory, lost) = (Arc::clone(&self.disk), self.directory.clone(), self.lost);
        let failed = |detail| StateError { operation, name: name.to_owned(), detail };
        let done = tokio::task::spawn_blocking(move || match gone(&directory, lost)? {
            Some(path) => Ok(Err(path)),
            None => work(disk.as_ref(), &directory).map(Ok),
        });
        match done.await.map_err(io::Error::other).and_then(|done| done) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(path)) => Err(failed(deleted(&path, &self.directory))),
            Err(error) => {
                let path = self.directory.join(name);
                let text = format!(
                    "{}: {error}; check the disk that holds the data directory",
                    path.display()
                );
                Err(failed(text))
            }
        }
    }
}

#[async_trait]
impl AuthorityState for FileState {
    async fn get(&self, name: &StateName) -> Result<Option<Vec<u8>>, StateError> {
        let file = name.to_string();
        self.run("read", name.as_str(), move |disk, directory| {
            match disk.read(&directory.join(file)) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn put(&self, name: &StateName, contents: &[u8]) -> Result<(), StateError> {
        let (file, contents) = (name.to_string(), contents.to_vec());
        self.run("store", name.as_str(), move |disk, directory| {
            disk.replace(&directory.join(&file), &contents, FILE_MODE)?;
            // The file first: a name without a file would be taken for a file that was deleted.
            list(disk, directory, [file])
        })
        .await
    }

    async fn check(&self) -> Result<(), StateError> {
        self.run("read", "*", |_, _| Ok(())).await
    }
}

/// The first file or directory that was there and is not any more.
fn gone(directory: &Path, lost: bool) -> io::Result<Option<PathBuf>> {
    // Its own keys may have been made there meanwhile; they are no book.
    if !directory.try_exists()? || (lost && files(directory)?.is_empty()) {
        return Ok(Some(directory.to_owned()));
    }
    for name in names(directory)? {
        let path = directory.join(name);
        if !path.try_exists()? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn deleted(path: &Path, directory: &Path) -> String {
    format!(
        "{} was deleted; nothing is made in its place: put {} back from the latest backup of the data directory, or write \
         another section [authority.NAME] and rotate to it",
        path.display(),
        directory.display()
    )
}

/// Lists the files of a release that kept no list.
fn adopt(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    list(disk, directory, files(directory)?)
}

fn files(directory: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_file() && StateName::parse(&name).is_ok() {
            found.push(name);
        }
    }
    Ok(found)
}

fn list(
    disk: &dyn Disk,
    directory: &Path,
    more: impl IntoIterator<Item = String>,
) -> io::Result<()> {
    let listed = names(directory)?;
    let mut all = listed.clone();
    all.extend(more);
    if all == listed {
        return Ok(());
    }
    let text: String = all.iter().map(|name| format!("{name}\n")).collect();
    disk.replace(&directory.join(NAMES), text.as_bytes(), FILE_MODE)
}

fn names(directory: &Path) -> io::Result<BTreeSet<String>> {
    match std::fs::read_to_string(directory.join(NAMES)) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use host::{Fault, FaultDisk, How, Operation, RealDisk};

    use super::*;

    fn book() -> StateName {
        StateName::parse("book").unwrap()
    }

    #[tokio::test]
    async fn what_was_put_is_got_and_a_failed_put_keeps_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(FaultDisk::new(Arc::new(RealDisk)));
        let state = FileState::open(dir.path().join("main"), disk.clone(), false).unwrap();
        assert_eq!(state.get(&book()).await, Ok(None));
        state.put(&book(), b"one").await.unwrap();
        disk.plan(Fault::next(Operation::Replace, How::NotStored));
        assert!(state.put(&book(), b"two").await.is_err());
        assert_eq!(state.get(&book()).await, Ok(Some(b"one".to_vec())));
        disk.plan(Fault::next(Operation::Read, How::NotStored));
        assert!(state.get(&book()).await.is_err(), "never answered as none");
    }

    #[tokio::test]
    async fn what_was_deleted_is_never_answered_as_none_while_it_runs_or_at_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("main");
        let open = || FileState::open(main.clone(), Arc::new(RealDisk), true).unwrap();
        std::fs::create_dir(&main).unwrap();
        let state = open();
        state.put(&book(), b"one").await.unwrap();
        for whole in [false, true] {
            match whole {
                false => std::fs::remove_file(main.join("book")).unwrap(),
                true => std::fs::remove_dir_all(&main).unwrap(),
            }
            for state in [&state, &open()] {
                let told = state.get(&book()).await.unwrap_err().detail;
                assert!(told.contains("was deleted") && told.contains("backup"), "{told}");
                assert!(state.check().await.is_err() && state.put(&book(), b"new").await.is_err());
            }
        }
        assert!(!main.exists(), "nothing is made in its place");
        let late = open();
        std::fs::create_dir_all(main.join("keys")).unwrap();
        assert!(late.get(&book()).await.is_err(), "a directory alone is no book");
        std::fs::write(main.join("book"), b"one").unwrap();
        for state in [state, late] {
            assert_eq!(
                state.get(&book()).await,
                Ok(Some(b"one".to_vec())),
                "put back, without a restart"
            );
        }
    }

    #[tokio::test]
    async fn a_new_authority_begins_with_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let state = FileState::open(dir.path().join("new"), Arc::new(RealDisk), false).unwrap();
        assert_eq!((state.check().await, state.get(&book()).await), (Ok(()), Ok(None)));
    }
}
