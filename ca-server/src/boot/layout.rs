//! The data directory: what lies where, and whether this is the first start.
//!
//! | path | what | who writes it |
//! |---|---|---|
//! | `lock` | held by the one process that uses the directory | this module |
//! | `record.redb` | the record of roots and segments; made before anything else | the rotation driver |
//! | `keys/` | encrypted private keys | the key backend `file` |
//! | `authority/<name>/` | what a root authority keeps | [`super::authority_state`] |
//! | `requests/` | requests for issuers, so that a repeated one has the same bytes | [`super::effects`] |
//! | `bundles/` | bundles of the past, for whoever was away | [`crate::bundles`] |
//! | `ledger/` | rows of every leaf that may live | the ledger |
//! | `clock.json` | a moment that wall clock and uptime agreed on | [`super::clock`] |
//! | `registry.redb` | join tokens and agents | the registry |

use std::path::{Path, PathBuf};

use host::{DirLock, Disk, check_private};

use super::BootError;

/// Mode of directories in the data directory.
pub(super) const DIR_MODE: u32 = 0o700;
/// Mode of files in the data directory.
pub(super) const FILE_MODE: u32 = 0o600;

/// A data directory that this process holds.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    lock: DirLock,
}

impl Layout {
    /// Makes the directory if it is missing, checks that nobody else can read it, and locks it.
    pub(super) fn claim(disk: &dyn Disk, root: &Path) -> Result<Self, BootError> {
        let failed = |source| BootError::DataDir { path: root.to_owned(), source };
        disk.create_dir_all(root, DIR_MODE).map_err(failed)?;
        check_private(root)?;
        let lock = DirLock::acquire(root)?;
        Ok(Self { root: root.to_owned(), lock })
    }

    /// Whether no server ever started here.
    ///
    /// The record is made first. So a directory without a record, but with anything that comes after it, has lost its
    /// record: starting anew there would make a second root for a mesh that has one.
    pub(super) fn is_fresh(&self) -> Result<bool, BootError> {
        let exists = |path: PathBuf| {
            path.try_exists().map_err(|source| BootError::DataDir { path: path.clone(), source })
        };
        if exists(self.record())? {
            return Ok(false);
        }
        let later = [
            self.keys(),
            self.authorities(),
            self.requests(),
            self.bundles(),
            self.ledger(),
            self.registry(),
        ];
        for path in later {
            if exists(path.clone())? {
                return Err(BootError::RecordLost { record: self.record(), found: path });
            }
        }
        Ok(true)
    }

    pub(super) fn record(&self) -> PathBuf {
        self.root.join("record.redb")
    }

    pub(super) fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    pub(super) fn authorities(&self) -> PathBuf {
        self.root.join("authority")
    }

    pub(super) fn requests(&self) -> PathBuf {
        self.root.join("requests")
    }

    pub(super) fn bundles(&self) -> PathBuf {
        self.root.join("bundles")
    }

    pub(super) fn ledger(&self) -> PathBuf {
        self.root.join("ledger")
    }

    pub(super) fn clock(&self) -> PathBuf {
        self.root.join("clock.json")
    }

    pub(super) fn registry(&self) -> PathBuf {
        self.root.join("registry.redb")
    }

    /// The lock, to be held as long as anything writes.
    pub(super) fn into_lock(self) -> DirLock {
        self.lock
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use host::RealDisk;

    use super::*;

    #[test]
    fn a_new_directory_is_private_locked_and_fresh() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        let layout = Layout::claim(&RealDisk, &root).unwrap();
        assert_eq!(std::fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(layout.is_fresh().unwrap());
        assert!(matches!(Layout::claim(&RealDisk, &root), Err(BootError::Locked(_))));
    }

    #[test]
    fn a_directory_that_lost_its_record_is_not_fresh() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        let layout = Layout::claim(&RealDisk, &root).unwrap();
        std::fs::create_dir(layout.keys()).unwrap();
        let said = layout.is_fresh().unwrap_err().to_string();
        assert!(said.contains("restore"), "{said}");
        std::fs::write(layout.record(), b"").unwrap();
        assert!(!layout.is_fresh().unwrap());
    }

    #[test]
    fn a_directory_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(Layout::claim(&RealDisk, dir.path()), Err(BootError::Permissions(_))));
    }
}
