//! The durable state of one root authority: one file for each name.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use host::Disk;
use plugins::{AuthorityState, StateError, StateName};

use super::layout::{DIR_MODE, FILE_MODE};

/// Values in files of one directory, each replaced atomically.
#[derive(Debug)]
pub(super) struct FileState {
    directory: PathBuf,
    disk: Arc<dyn Disk>,
}

impl FileState {
    pub(super) fn open(directory: PathBuf, disk: Arc<dyn Disk>) -> io::Result<Self> {
        disk.create_dir_all(&directory, DIR_MODE)?;
        Ok(Self { directory, disk })
    }

    /// Disks block, so each use gets a thread that may.
    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        name: &StateName,
        work: impl FnOnce(&dyn Disk, PathBuf) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StateError> {
        let (disk, path) = (Arc::clone(&self.disk), self.directory.join(name.as_str()));
        let shown = path.display().to_string();
        let done = tokio::task::spawn_blocking(move || work(disk.as_ref(), path)).await;
        done.map_err(io::Error::other).and_then(|done| done).map_err(|error| StateError {
            operation,
            name: name.to_string(),
            detail: format!("{shown}: {error}; check the disk that holds the data directory"),
        })
    }
}

#[async_trait]
impl AuthorityState for FileState {
    async fn get(&self, name: &StateName) -> Result<Option<Vec<u8>>, StateError> {
        self.run("read", name, |disk, path| match disk.read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    async fn put(&self, name: &StateName, contents: &[u8]) -> Result<(), StateError> {
        let contents = contents.to_vec();
        self.run("store", name, move |disk, path| disk.replace(&path, &contents, FILE_MODE)).await
    }
}

#[cfg(test)]
mod tests {
    use host::{Fault, FaultDisk, How, Operation, RealDisk};

    use super::*;

    #[tokio::test]
    async fn what_was_put_is_got_and_a_failed_put_keeps_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(FaultDisk::new(Arc::new(RealDisk)));
        let state = FileState::open(dir.path().join("main"), disk.clone()).unwrap();
        let name = StateName::parse("book").unwrap();
        assert_eq!(state.get(&name).await, Ok(None));
        state.put(&name, b"one").await.unwrap();
        disk.plan(Fault::next(Operation::Replace, How::NotStored));
        assert!(state.put(&name, b"two").await.is_err());
        assert_eq!(state.get(&name).await, Ok(Some(b"one".to_vec())));
        disk.plan(Fault::next(Operation::Read, How::NotStored));
        assert!(state.get(&name).await.is_err(), "never answered as none");
    }
}
