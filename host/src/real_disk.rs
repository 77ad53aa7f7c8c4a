//! Durable files of the operating system.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

use crate::disk::{AppendFile, Disk};

/// What is reserved is written from here.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn replace(&self, path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
        let temporary = temporary_beside(path)?;
        let _turn = Turn::at(path);
        let written =
            write_new(&temporary, contents, mode).and_then(|()| fs::rename(&temporary, path));
        if let Err(error) = written {
            // Best effort: the error that matters is the one that stopped the write.
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        sync_parent(path)
    }

    fn append_open(&self, path: &Path, mode: u32) -> io::Result<Box<dyn AppendFile>> {
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(mode).open(path)?;
        sync_parent(path)?;
        let len = file.metadata()?.len();
        Ok(Box::new(RealAppendFile { file, len, reserved: len }))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mut paths = fs::read_dir(directory)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()?;
        paths.sort_unstable();
        Ok(paths)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        sync_parent(path)
    }

    fn remove_dir(&self, directory: &Path) -> io::Result<()> {
        fs::remove_dir(directory)?;
        sync_parent(directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        sync_parent(to)?;
        if parent(from) != parent(to) { sync_parent(from) } else { Ok(()) }
    }

    fn create_dir_all(&self, directory: &Path, mode: u32) -> io::Result<()> {
        if directory.is_dir() {
            return Ok(());
        }
        let above = parent(directory);
        if above != directory {
            self.create_dir_all(above, mode)?;
        }
        match DirBuilder::new().mode(mode).create(directory) {
            Ok(()) => sync_parent(directory),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

#[derive(Debug)]
struct RealAppendFile {
    file: File,
    len: u64,
    /// Up to here the file has blocks: bytes, then zeros.
    reserved: u64,
}

impl AppendFile for RealAppendFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.len)?;
        self.len = self.len.saturating_add(bytes.len() as u64);
        self.reserved = self.reserved.max(self.len);
        Ok(())
    }

    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        let end = self.len.saturating_add(bytes);
        if let Err(error) = write_zeros(&self.file, self.reserved, end) {
            // Best effort, so that what is scarce is not spent on zeros. Those that stay do no harm.
            let _ = self.file.set_len(self.reserved);
            return Err(error);
        }
        self.reserved = self.reserved.max(end);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        (self.len, self.reserved) = (len, len);
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len
    }
}

/// Real zeros: blocks that are only promised (`fallocate`) would cost a change of metadata when they are first written.
fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let part = usize::try_from(to - at)
            .map_or(ZEROS.as_slice(), |left| ZEROS.get(..left).unwrap_or(&ZEROS));
        file.write_all_at(part, at)?;
        at += part.len() as u64;
    }
    Ok(())
}

/// A name beside `path` that no reader takes for it. One process owns a directory (`DirLock`), so that a leftover
/// of a crash may be written over.
fn temporary_beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{} names no file", path.display()))
    })?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".tmp");
    Ok(path.with_file_name(hidden))
}

fn write_new(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    // A leftover of a crash keeps its old mode, and the umask may have cut bits off a new file's.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(contents)?;
    file.sync_all()
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// A new name is durable only once its directory is.
fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

/// The files that are being replaced, and whoever waits for one of them.
static REPLACED: (Mutex<BTreeSet<PathBuf>>, Condvar) =
    (Mutex::new(BTreeSet::new()), Condvar::new());

/// The right to replace a file. Two that did so at once would write into one temporary file, and one would move it away under
/// the other.
struct Turn(PathBuf);

impl Turn {
    fn at(path: &Path) -> Self {
        let (replaced, over) = (&REPLACED.0, &REPLACED.1);
        let mut replaced = replaced.lock().unwrap_or_else(PoisonError::into_inner);
        while !replaced.insert(path.to_owned()) {
            replaced = over.wait(replaced).unwrap_or_else(PoisonError::into_inner);
        }
        Self(path.to_owned())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        REPLACED.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
        REPLACED.1.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replace_leaves_the_new_contents_the_mode_and_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        fs::write(dir.path().join(".state.tmp"), b"leftover of a crash").unwrap();
        RealDisk.replace(&path, b"one", 0o600).unwrap();
        RealDisk.replace(&path, b"two", 0o600).unwrap();
        assert_eq!(RealDisk.read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(RealDisk.list(dir.path()).unwrap(), [path]);
    }

    #[test]
    fn several_that_replace_one_file_at_once_do_so_one_after_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let whole: Vec<Vec<u8>> = (0..8).map(|n| vec![n; 10_000]).collect();
        std::thread::scope(|scope| {
            for contents in &whole {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        RealDisk.replace(path, contents, 0o600).unwrap();
                    }
                });
            }
        });
        assert!(whole.contains(&RealDisk.read(&path).unwrap()), "one of them, and whole");
        assert_eq!(RealDisk.list(dir.path()).unwrap(), [path]);
    }

    #[test]
    fn append_goes_on_after_truncate_and_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut file = RealDisk.append_open(&path, 0o600).unwrap();
        assert!(file.is_empty());
        file.append(b"abcdef").unwrap();
        file.truncate(3).unwrap();
        file.append(b"X").unwrap();
        file.sync().unwrap();
        drop(file);
        let mut file = RealDisk.append_open(&path, 0o600).unwrap();
        assert_eq!(file.len(), 4);
        file.append(b"Y").unwrap();
        assert_eq!(RealDisk.read(&path).unwrap(), b"abcXY");
    }

    #[test]
    fn appends_go_over_what_was_reserved_and_the_length_does_not_count_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut file = RealDisk.append_open(&path, 0o600).unwrap();
        file.append(b"ab").unwrap();
        file.reserve(100_000).unwrap();
        file.append(b"cd").unwrap();
        file.reserve(10).unwrap();
        assert_eq!(file.len(), 4);
        let read = RealDisk.read(&path).unwrap();
        assert_eq!((&read[..4], read.len()), (b"abcd".as_slice(), 100_002));
        assert!(read[4..].iter().all(|byte| *byte == 0));
        file.append(&[7; 100_000]).unwrap();
        assert_eq!(
            RealDisk.read(&path).unwrap().len(),
            100_004,
            "what does not fit makes the file longer"
        );
        file.reserve(5).unwrap();
        file.truncate(3).unwrap();
        file.append(b"X").unwrap();
        assert_eq!(RealDisk.read(&path).unwrap(), b"abcX");
    }

    #[test]
    fn missing_parents_are_made_private() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        RealDisk.create_dir_all(&deep, 0o700).unwrap();
        RealDisk.create_dir_all(&deep, 0o700).unwrap();
        for made in ["a", "a/b", "a/b/c"] {
            let mode = fs::metadata(dir.path().join(made)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{made}");
        }
    }

    #[test]
    fn rename_moves_between_directories_and_remove_says_when_nothing_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("sub/to"));
        RealDisk.create_dir_all(&dir.path().join("sub"), 0o700).unwrap();
        RealDisk.replace(&from, b"x", 0o600).unwrap();
        RealDisk.rename(&from, &to).unwrap();
        assert_eq!(RealDisk.read(&to).unwrap(), b"x");
        assert_eq!(RealDisk.remove(&from).unwrap_err().kind(), io::ErrorKind::NotFound);
        let sub = dir.path().join("sub");
        assert_eq!(RealDisk.remove_dir(&sub).unwrap_err().kind(), io::ErrorKind::DirectoryNotEmpty);
        RealDisk.remove(&to).unwrap();
        RealDisk.remove_dir(&sub).unwrap();
        assert_eq!(RealDisk.read(&to).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
