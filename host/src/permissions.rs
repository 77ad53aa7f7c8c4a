//! Who may read our files.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// A file or directory that others could read or change.
#[derive(Debug, thiserror::Error)]
pub enum LoosePermissions {
    /// Its group, or everybody, has rights to it.
    #[error("{} has mode {mode:04o}, which lets other users in: run `chmod {wanted:04o} {}`", path.display(), path.display())]
    Mode {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The bits it should have.
        wanted: u32,
    },
    /// It belongs to another user, who may change it at will.
    #[error("{} belongs to user {owner}, not to user {user} who runs this process: run `chown {user} {}`", path.display(), path.display())]
    Owner {
        /// The file or directory.
        path: PathBuf,
        /// The user it belongs to.
        owner: u32,
        /// The user this process runs as.
        user: u32,
    },
    /// It could not be looked at.
    #[error("cannot check who may read {}: {source}", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Checks that only this user may read or write the file or directory (at most 0600, or 0700 for a directory).
///
/// A symbolic link is followed: what counts is the file that is read. An owner of 0 (root) is accepted, since
/// root may read everything anyway. A file of root's may be readable by one group (0440 or 0640), if this process is not
/// root's: that is how a cluster gives a Secret to a process of any user, and nobody but root can have wanted it.
///
/// # Errors
/// Says the mode or the owner that is wrong, and the command that puts it right.
pub fn check_private(path: &Path) -> Result<(), LoosePermissions> {
    let metadata = fs::metadata(path)
        .map_err(|source| LoosePermissions::Unreadable { path: path.to_owned(), source })?;
    let found = Found {
        mode: metadata.permissions().mode() & 0o7777,
        is_dir: metadata.is_dir(),
        owner: metadata.uid(),
        user: rustix::process::geteuid().as_raw(),
    };
    found.judge(path)
}

struct Found {
    mode: u32,
    is_dir: bool,
    owner: u32,
    user: u32,
}

impl Found {
    fn judge(&self, path: &Path) -> Result<(), LoosePermissions> {
        let Self { mode, is_dir, owner, user } = *self;
        let lent_by_root = owner == 0 && user != 0 && !is_dir;
        let others = if lent_by_root { 0o037 } else { 0o077 };
        if mode & others != 0 {
            let wanted = if is_dir { 0o700 } else { 0o600 };
            return Err(LoosePermissions::Mode { path: path.to_owned(), mode, wanted });
        }
        if owner != user && owner != 0 {
            return Err(LoosePermissions::Owner { path: path.to_owned(), owner, user });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn every_bit_for_group_or_others_is_refused_with_the_command_that_helps() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        fs::write(&file, b"secret").unwrap();
        for bit in [0o040, 0o020, 0o010, 0o004, 0o002, 0o001] {
            set(&file, 0o600 | bit);
            let said = check_private(&file).unwrap_err().to_string();
            assert!(said.contains("chmod 0600"), "{said}");
        }
        for private in [0o600, 0o400] {
            set(&file, private);
            check_private(&file).unwrap();
        }
    }

    #[test]
    fn a_directory_must_be_closed_too() {
        let dir = tempfile::tempdir().unwrap();
        set(dir.path(), 0o750);
        assert!(check_private(dir.path()).unwrap_err().to_string().contains("chmod 0700"));
        set(dir.path(), 0o700);
        check_private(dir.path()).unwrap();
    }

    #[test]
    fn a_file_that_root_lends_to_one_group_is_private_and_nothing_else_of_that_kind() {
        let judge = |mode, is_dir, owner, user| {
            Found { mode, is_dir, owner, user }.judge(Path::new("/run/secrets/kek")).is_ok()
        };
        assert!(judge(0o440, false, 0, 1000) && judge(0o640, false, 0, 1000));
        assert!(!judge(0o440, false, 0, 0), "the group of root's own file is others");
        assert!(!judge(0o440, false, 1000, 1000) && !judge(0o440, false, 2000, 1000));
        assert!(!judge(0o660, false, 0, 1000) && !judge(0o444, false, 0, 1000));
        assert!(!judge(0o750, true, 0, 1000), "in a folder the group could put files");
    }

    #[test]
    fn what_is_missing_is_not_taken_for_private() {
        let dir = tempfile::tempdir().unwrap();
        let refused = check_private(&dir.path().join("none")).unwrap_err();
        assert!(matches!(refused, LoosePermissions::Unreadable { .. }));
    }
}
