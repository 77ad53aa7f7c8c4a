//! The data directory: what lies where, and whether this is the first start.
//!
//! | path | what | who writes it |
//! |---|---|---|
//! | `lock` | held by the one process that uses the directory | this module |
//! | `state.redb` | the state that all servers of the CA share, unless it is elsewhere; made before anything else | [`super::store`] |
//! | `keys/` | encrypted private keys of issuers | the key backend `file` |
//! | `ledger/` | rows of every leaf that may live | the ledger |
//! | `clock.json` | a moment that wall clock and uptime agreed on | [`control::clock`] |
//! | `crl.json` | the number of the revocation lists, where there are any | [`control::crl`] |
//! | `place` | a random name of the directory, where several servers share a store | [`super::joined`] |

use std::path::{Path, PathBuf};

use host::{DirLock, Disk, LoosePermissions, check_private};

use super::BootError;
use control::paths::{DIR_MODE, Paths};

/// A data directory that this process holds.
#[derive(Debug)]
pub(super) struct Layout {
    /// What lies where.
    pub(super) paths: Paths,
    lock: DirLock,
}

impl Layout {
    /// Makes the directory if it is missing, checks that nobody else can read it, and locks it.
    pub(super) fn claim(disk: &dyn Disk, root: &Path) -> Result<Self, BootError> {
        let failed = |source| BootError::DataDir { path: root.to_owned(), source };
        disk.create_dir_all(root, DIR_MODE).map_err(failed)?;
        check_private(root)?;
        let lock = DirLock::acquire(root)?;
        let loose = loose_below(root);
        match loose.is_empty() {
            true => Ok(Self { paths: Paths::below(root.to_owned()), lock }),
            false => Err(BootError::Loose { directory: root.to_owned(), loose }),
        }
    }

    /// What shows that a server started here before.
    ///
    /// The shared state is made first. So a directory with anything that comes after it belongs to a state: where that is
    /// missing it was lost, and starting anew would make a second root for a mesh that has one.
    pub(super) fn trace(&self) -> Result<Option<PathBuf>, BootError> {
        let paths = &self.paths;
        let later = [
            paths.keys(),
            paths.authorities(),
            paths.requests(),
            paths.bundles(),
            paths.ledger(),
            paths.directory().join("registry.redb"),
        ];
        for path in later {
            if exists(&path)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// The lock, to be held as long as anything writes.
    pub(super) fn into_lock(self) -> DirLock {
        self.lock
    }
}

/// Whether something is there.
pub(super) fn exists(path: &Path) -> Result<bool, BootError> {
    path.try_exists().map_err(|source| BootError::DataDir { path: path.to_owned(), source })
}

/// Everything below a directory that others could read or change, or that is not this user's.
pub(super) fn loose_below(directory: &Path) -> Vec<LoosePermissions> {
    let unreadable = |source| LoosePermissions::Unreadable { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return vec![unreadable(error)],
    };
    let mut loose = Vec::new();
    for entry in entries {
        let found = entry.and_then(|entry| entry.file_type().map(|kind| (entry.path(), kind)));
        let (path, kind) = match found {
            Ok(found) => found,
            Err(error) => {
                loose.push(unreadable(error));
                continue;
            }
        };
        // Sockets are made anew at each start. Where a link leads, the check follows.
        if kind.is_file() || kind.is_dir() || kind.is_symlink() {
            loose.extend(check_private(&path).err());
        }
        if kind.is_dir() {
            loose.extend(loose_below(&path));
        }
    }
    loose
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use host::RealDisk;

    use super::*;

    #[test]
    fn a_new_directory_is_private_and_locked_and_shows_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        let layout = Layout::claim(&RealDisk, &root).unwrap();
        assert_eq!(std::fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(layout.trace().unwrap(), None);
        assert!(matches!(Layout::claim(&RealDisk, &root), Err(BootError::Locked(_))));
    }

    #[test]
    fn whatever_a_server_made_is_a_trace_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        let layout = Layout::claim(&RealDisk, &root).unwrap();
        std::fs::write(layout.paths.state(), b"").unwrap();
        assert_eq!(layout.trace().unwrap(), None, "it is what the others are a trace of");
        std::fs::create_dir(layout.paths.keys()).unwrap();
        assert_eq!(layout.trace().unwrap(), Some(layout.paths.keys()));
    }

    #[test]
    fn every_file_below_that_others_can_read_is_named_with_the_command_that_helps() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        let layout = Layout::claim(&RealDisk, &root).unwrap();
        let private = |path: &Path, mode| {
            std::fs::write(path, b"x").unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        RealDisk.create_dir_all(&layout.paths.bundles(), 0o700).unwrap();
        RealDisk.create_dir_all(&layout.paths.ledger().join("seg"), 0o700).unwrap();
        private(&layout.paths.state(), 0o666);
        private(&layout.paths.directory().join("clock.json"), 0o640);
        private(&layout.paths.bundles().join("0000000001.json"), 0o644);
        private(&layout.paths.ledger().join("seg/00000001.log"), 0o604);
        private(&layout.paths.requests(), 0o600);
        drop(layout);
        let said = Layout::claim(&RealDisk, &root).unwrap_err().to_string();
        for named in [
            "state.redb",
            "clock.json",
            "0000000001.json",
            "00000001.log",
            "mode 0666",
            "chmod 0600",
        ] {
            assert!(said.contains(named), "{named} is missing in {said}");
        }
        assert!(said.contains(&format!("chmod -R go= {}", root.display())), "{said}");
        assert!(!said.contains("requests"), "{said}");
    }

    #[test]
    fn a_directory_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(Layout::claim(&RealDisk, dir.path()), Err(BootError::Permissions(_))));
    }
}
