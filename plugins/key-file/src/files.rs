//! Where the files of a key store are: in a directory of one process, or where several servers share them.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::{Disk, LoosePermissions, check_private};

use crate::open_error::OpenError;

/// Small files by name. Calls block.
pub trait Files: Send + Sync + Debug {
    /// How people find a file; without a name, all of them.
    fn shown(&self, name: Option<&str>) -> PathBuf;

    /// Makes the place if it is missing, and checks that nobody else can read it.
    ///
    /// # Errors
    /// [`OpenError`].
    fn open(&self) -> Result<(), OpenError>;

    /// The names that there are.
    ///
    /// # Errors
    /// [`OpenError`].
    fn names(&self) -> Result<Vec<String>, OpenError>;

    /// What is in a file; `None` if there is none.
    ///
    /// # Errors
    /// [`OpenError`]; what cannot be read is never answered as none.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, OpenError>;

    /// Makes a file that is not there. Where others write too and one was first, answers with what that one wrote.
    ///
    /// # Errors
    /// When it may be there or not; read it again.
    fn create(&self, name: &str, contents: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// Puts `contents` in place of what is there.
    ///
    /// # Errors
    /// When the one or the other may be there; read it again.
    fn replace(&self, name: &str, contents: &[u8]) -> io::Result<()>;

    /// Whether others write here too: then memory proves nothing.
    fn are_shared(&self) -> bool;
}

/// The files of a directory (0700) that one process uses.
#[derive(Debug)]
pub struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
}

impl Directory {
    /// The files of this directory.
    pub fn new(path: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self { path, disk }
    }
}

impl Files for Directory {
    fn shown(&self, name: Option<&str>) -> PathBuf {
        name.map_or_else(|| self.path.clone(), |name| self.path.join(name))
    }

    fn open(&self) -> Result<(), OpenError> {
        self.disk.create_dir_all(&self.path, 0o700).map_err(io_error("make", &self.path))?;
        Ok(check_private(&self.path)?)
    }

    fn names(&self) -> Result<Vec<String>, OpenError> {
        let listed = self.disk.list(&self.path).map_err(io_error("list", &self.path))?;
        let names = listed.iter().filter_map(|path| path.file_name());
        Ok(names.map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, OpenError> {
        let path = self.path.join(name);
        match check_private(&path) {
            Err(LoosePermissions::Unreadable { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                return Ok(None);
            }
            checked => checked?,
        }
        match self.disk.read(&path) {
            Ok(contents) => Ok(Some(contents)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    fn create(&self, name: &str, contents: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.replace(name, contents).map(|()| None)
    }

    fn replace(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        self.disk.replace(&self.path.join(name), contents, 0o600)
    }

    fn are_shared(&self) -> bool {
        false
    }
}

pub(crate) fn io_error(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { operation, path, source }
}
