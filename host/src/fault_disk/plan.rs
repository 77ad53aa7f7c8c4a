//! What is to fail, and how.

use std::path::Path;

/// What a [`FaultDisk`](super::FaultDisk) can fail and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(
    missing_docs,
    reason = "each is named as the method of `Disk` or `AppendFile` that it stands for"
)]
pub enum Operation {
    Read,
    Replace,
    AppendOpen,
    Append,
    Reserve,
    Sync,
    Truncate,
    List,
    Remove,
    RemoveDir,
    Rename,
    CreateDirAll,
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// An I/O error, and nothing was done.
    NotStored,
    /// An I/O error, although everything was done.
    Stored,
    /// `ENOSPC`, and nothing was done.
    DiskFull,
    /// An append that wrote only this many bytes before its I/O error. Other operations do nothing.
    Torn(usize),
    /// The process dies before the operation: it, and every later one, fails without effect.
    DiesBefore,
    /// The process dies after the operation: it is done, but it and every later one answer an error.
    DiesAfter,
    /// It succeeds, but only once the disk is [healed](super::FaultDisk::heal): a disk that is slow.
    Waits,
}

/// One planned failure.
#[derive(Clone, Debug)]
pub struct Fault {
    operation: Option<Operation>,
    path_contains: String,
    pub(super) skip: u64,
    pub(super) times: u64,
    pub(super) how: How,
}

impl Fault {
    /// Fails the next operation of this kind, on any path, once.
    #[must_use]
    pub fn next(operation: Operation, how: How) -> Self {
        Self { operation: Some(operation), path_contains: String::new(), skip: 0, times: 1, how }
    }

    /// Fails the next operation that changes the disk, of whatever kind, on any path, once.
    #[must_use]
    pub fn next_change(how: How) -> Self {
        Self { operation: None, path_contains: String::new(), skip: 0, times: 1, how }
    }

    /// Only on paths that contain this text.
    #[must_use]
    pub fn on(mut self, path_contains: &str) -> Self {
        path_contains.clone_into(&mut self.path_contains);
        self
    }

    /// Lets this many matching operations pass first.
    #[must_use]
    pub fn after(mut self, operations: u64) -> Self {
        self.skip = operations;
        self
    }

    /// Fails this many matching operations in a row (default 1).
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    pub(super) fn matches(&self, operation: Operation, path: &Path) -> bool {
        let of_kind = match self.operation {
            Some(kind) => kind == operation,
            None => !matches!(operation, Operation::Read | Operation::List),
        };
        of_kind && path.to_string_lossy().contains(&self.path_contains)
    }
}
