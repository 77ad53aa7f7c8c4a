//! The directory that people carry files to and from.
//!
//! | below the directory | what | who writes it |
//! |---|---|---|
//! | `outbox/NAME.txt` | the ceremony: what is asked | the authority |
//! | `inbox/NAME.pem` | the answer | people, or `banyan ceremony import` |
//! | `done/NAME.txt`, `done/NAME.pem` | both, after the answer was taken | the authority |
//! | `done/NAME.withdrawn.txt` | a ceremony that was taken back: nobody waits for it any more | the authority |

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use trust::{Root, Timestamp};

use crate::ceremony::{Ceremony, FILE_MAX};
use crate::judge::{Answer, Refused, judge};

/// Where requests go out and answers come in. All of it blocks.
#[derive(Clone, Debug)]
pub struct Folder {
    directory: PathBuf,
}

impl Folder {
    /// The folder at a directory, which need not be there yet.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Where the answer to a ceremony belongs.
    pub fn answer_path(&self, name: &str) -> PathBuf {
        self.inbox().join(format!("{name}.pem"))
    }

    /// Where the text of a ceremony is.
    pub fn request_path(&self, name: &str) -> PathBuf {
        self.outbox().join(format!("{name}.txt"))
    }

    fn outbox(&self) -> PathBuf {
        self.directory.join("outbox")
    }

    fn inbox(&self) -> PathBuf {
        self.directory.join("inbox")
    }

    fn done(&self) -> PathBuf {
        self.directory.join("done")
    }

    /// The ceremonies that wait for an answer, by name. Files that are none are left out.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn waiting(&self) -> io::Result<Vec<Ceremony>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.outbox())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "txt")
                && let Some(ceremony) =
                    read_text(&path).ok().and_then(|text| Ceremony::read(&text).ok())
            {
                found.push(ceremony);
            }
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// What was brought for a ceremony; none while nothing was.
    pub fn brought(
        &self,
        ceremony: &Ceremony,
        known: &[Root],
        now: Timestamp,
    ) -> Option<Result<Answer, Refused>> {
        match read_answer(&self.answer_path(&ceremony.name)) {
            Ok(None) => None,
            Ok(Some(bytes)) => Some(judge(ceremony, &bytes, known, now)),
            Err(refused) => Some(Err(refused)),
        }
    }

    /// Puts an answer into the inbox, whole or not at all.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn put(&self, name: &str, answer: &Answer) -> io::Result<PathBuf> {
        let pem: String = answer.certificates().iter().map(trust::Certificate::pem).collect();
        let path = self.answer_path(name);
        replace(&path, pem.as_bytes())?;
        Ok(path)
    }

    /// Makes what is missing, and refuses a directory that everybody may write into: whoever writes there brings roots.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        for path in [self.directory.clone(), self.outbox(), self.inbox(), self.done()] {
            DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
            let mode = fs::metadata(&path)?.permissions().mode();
            if mode & 0o002 != 0 {
                let path = path.display();
                return Err(io::Error::other(format!(
                    "every user may write into {path}: chmod o-w {path}"
                )));
            }
        }
        Ok(())
    }

    /// Lets a ceremony go out, unless it has.
    pub(crate) fn send(&self, ceremony: &Ceremony) -> io::Result<()> {
        self.prepare()?;
        let (path, text) = (self.request_path(&ceremony.name), ceremony.text());
        match read_text(&path) {
            Ok(present) if present == text => Ok(()),
            _ => replace(&path, text.as_bytes()),
        }
    }

    /// Takes a ceremony back: its text leaves the outbox, and what was brought for it leaves the inbox. Both are kept.
    pub(crate) fn withdraw(&self, name: &str) -> io::Result<()> {
        for (path, kept) in [
            (self.request_path(name), format!("{name}.withdrawn.txt")),
            (self.answer_path(name), format!("{name}.withdrawn.pem")),
        ] {
            match fs::rename(&path, self.done().join(kept)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Puts the files of an answered ceremony aside. Those that are not there any more were put aside before.
    pub(crate) fn put_aside(&self, name: &str) -> io::Result<()> {
        for path in [self.answer_path(name), self.request_path(name)] {
            let Some(file) = path.file_name() else { continue };
            match fs::rename(&path, self.done().join(file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads an answer, bounded.
///
/// # Errors
/// [`Refused`] if it is no plain file, too long or unreadable.
pub fn read_answer(path: &Path) -> Result<Option<Vec<u8>>, Refused> {
    let unreadable = |error: io::Error| Refused::Unreadable(error.to_string());
    // Looked at before it is opened: to open a pipe would wait for ever.
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
        Ok(metadata) if !metadata.is_file() => return Err(Refused::NotAFile),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(Refused::TooLong);
    }
    Ok(Some(bytes))
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Tells writes apart: one whose call was dropped may still go on beside the next.
static WRITES: AtomicU64 = AtomicU64::new(0);

fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}-{}.new", std::process::id(), WRITES.fetch_add(1, Ordering::Relaxed)));
    let new = path.with_file_name(name);
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&new, path)
}
