//! The port that every durable write goes through.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

/// Durable files.
///
/// When a call returns `Ok`, its effect survives a power cut, with one exception: what is done to an [`AppendFile`] is
/// durable only after [`AppendFile::sync`]. When a call returns an error its effect
/// may or may not be on the disk: the caller must not assume either, and reads back what is there.
///
/// One writer at a time writes a path. Calls block. Async code calls them from a thread that may block.
pub trait Disk: Send + Sync + Debug {
    /// Reads a whole file.
    ///
    /// # Errors
    /// As the operating system says; `NotFound` when there is no such file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Puts `contents` in place of the file, atomically: a reader, or a crash, sees the old file or the new one.
    ///
    /// The file is created when it is missing, with permission bits `mode` (such as `0o600`).
    ///
    /// # Errors
    /// As the operating system says. The old contents may then still be there, or already be replaced.
    fn replace(&self, path: &Path, contents: &[u8], mode: u32) -> io::Result<()>;

    /// Opens a file to append to it, and creates it durably with permission bits `mode` when it is missing.
    ///
    /// # Errors
    /// As the operating system says.
    fn append_open(&self, path: &Path, mode: u32) -> io::Result<Box<dyn AppendFile>>;

    /// Lists the entries of a directory as full paths, sorted.
    ///
    /// # Errors
    /// As the operating system says; `NotFound` when there is no such directory.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;

    /// Removes a file.
    ///
    /// # Errors
    /// As the operating system says; `NotFound` when there is no such file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory that is empty.
    ///
    /// # Errors
    /// As the operating system says; `DirectoryNotEmpty` when it is not empty.
    fn remove_dir(&self, directory: &Path) -> io::Result<()>;

    /// Moves a file within one file system, replacing what is at `to`.
    ///
    /// # Errors
    /// As the operating system says. The file may then be at either place, never at both and never at none.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Creates a directory and its missing parents, each with permission bits `mode` (such as `0o700`).
    ///
    /// # Errors
    /// As the operating system says. A directory that is there already is no error, and its mode is left alone.
    fn create_dir_all(&self, directory: &Path, mode: u32) -> io::Result<()>;
}

/// A file open for appending. One writer holds it.
///
/// Its length is where the next append goes. Behind that there are zeros once [`reserve`](Self::reserve) was called:
/// whoever reads the file, or opens it anew, finds them in it. [`truncate`](Self::truncate) to the length drops them.
pub trait AppendFile: Send + Debug {
    /// Writes all bytes at the end, over the zeros that were reserved and beyond. They are durable only after
    /// [`sync`](Self::sync). Before it a power cut leaves any of their sectors (512 bytes of the file) and not the others.
    ///
    /// # Errors
    /// As the operating system says; any prefix of the bytes may then be in the file. [`truncate`](Self::truncate)
    /// to the length before takes it back.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Writes zeros behind the end until there are `bytes` of them; the length stays. Appends over them change no
    /// metadata of the file, which makes their sync cheaper. The zeros are durable with the next [`sync`](Self::sync).
    ///
    /// # Errors
    /// As the operating system says, such as for want of space. Nothing is lost: appends go on as without it.
    fn reserve(&mut self, bytes: u64) -> io::Result<()>;

    /// Makes everything appended and reserved so far durable (`fdatasync`).
    ///
    /// # Errors
    /// As the operating system says. The kernel may have dropped the unwritten pages: a later `Ok` proves nothing
    /// about bytes appended before the error, so never call it again to find out.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file to `len` bytes, reserved zeros included; the next append continues there. Durable with the next
    /// [`sync`](Self::sync).
    ///
    /// # Errors
    /// As the operating system says.
    fn truncate(&mut self, len: u64) -> io::Result<()>;

    /// Length of the file in bytes without reserved zeros, as far as this handle wrote it or found it.
    fn len(&self) -> u64;

    /// Whether the file holds no byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
