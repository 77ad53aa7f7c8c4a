//! Whether the files of the ledger are still there while the server runs.
//!
//! Its directories are the concern of `footing`; the files in them follow one another, so they are asked for at each look. The one that is
//! written is kept open here too: as long as this process lives, what it holds can be put back.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ledger::Ledger;

use crate::footing::{Missing, number};

/// What was seen at the last look.
#[derive(Debug, Default)]
pub struct Logs {
    /// The file that is written, opened when it was seen first. Held during a look only.
    written: Mutex<Option<(PathBuf, File)>>,
}

impl Logs {
    /// Holds the file that is written from the start on.
    pub fn of(ledger: &Ledger) -> Self {
        let logs = Self::default();
        logs.taken_away(&ledger.files().0);
        logs
    }

    /// Looks at all files, unless directories are missing already: that says more.
    pub fn look(&self, ledger: &Ledger, mut missing: Missing) -> Missing {
        if !missing.ground.is_empty() {
            return missing;
        }
        let (written, closed) = ledger.files();
        let taken_away = self.taken_away(&written);
        ledger.take_away(taken_away.is_some());
        missing.ground.extend(taken_away);
        missing.files.extend(closed.iter().filter_map(|path| gone(path)));
        missing
    }

    /// The file that is written must be the same at every look.
    fn taken_away(&self, path: &Path) -> Option<String> {
        let mut held = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_none_or(|(known, _)| known != path) {
            *held = File::open(path).ok().map(|file| (path.to_owned(), file));
        }
        let lost = "leaves that were issued since the last file was closed are not known to the next start";
        let Some((_, file)) = held.as_ref() else {
            return Some(format!(
                "{} was deleted while this server runs: {lost}; restart this server, and gates of a rotation wait for those leaves",
                path.display()
            ));
        };
        let what = match (std::fs::metadata(path), file.metadata()) {
            (Ok(found), Ok(same)) if number(&found) == number(&same) => return None,
            (Ok(_), _) => "was replaced",
            (Err(_), _) => "was deleted",
        };
        let (held, at, path) = (std::process::id(), file.as_raw_fd(), path.display());
        Some(format!(
            "{path} {what} while this server runs: {lost}; this server still holds the file: put it back with `install -m 0600 \
             /proc/{held}/fd/{at} {path}`, then restart this server"
        ))
    }
}

/// A closed file that is not there.
fn gone(path: &Path) -> Option<String> {
    let is_gone = matches!(path.try_exists(), Ok(false));
    is_gone.then(|| {
        format!(
            "{} was deleted while this server runs: the next start does not know its rows, and gates of a rotation wait for those \
             leaves; put it back from the latest backup of the data directory",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_written_and_taken_away_can_be_put_back_as_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let (logs, path) = (Logs::default(), dir.path().join("00000001.log"));
        std::fs::write(&path, b"rows").unwrap();
        assert_eq!(logs.taken_away(&path), None);
        std::fs::remove_file(&path).unwrap();
        let told = logs.taken_away(&path).unwrap();
        let command = told.split('`').nth(1).unwrap();
        assert!(
            std::process::Command::new("sh").args(["-c", command]).status().unwrap().success(),
            "{command}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"rows");
        let told = logs.taken_away(&path).unwrap();
        assert!(told.contains("was replaced") && told.contains("restart this server"), "{told}");
        // The next one is another file.
        let next = dir.path().join("00000002.log");
        assert!(logs.taken_away(&next).unwrap().contains("was deleted"), "gone before it was seen");
        std::fs::write(&next, b"").unwrap();
        assert_eq!(logs.taken_away(&next), None);
    }

    #[test]
    fn a_closed_file_that_is_gone_is_told_until_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("00000001.log");
        assert!(gone(&path).unwrap().contains("latest backup"));
        std::fs::write(&path, b"").unwrap();
        assert_eq!(gone(&path), None);
    }
}
