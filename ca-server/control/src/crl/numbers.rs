//! The number of the lists: durable before a list with it is seen, and never less than the time, so that it does not go back with a
//! data directory that was restored.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use host::Disk;
use serde::{Deserialize, Serialize};
use trust::Timestamp;

use crate::paths::FILE_MODE;

/// Where the last number is.
#[derive(Debug)]
pub(super) struct Numbers {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Nothing before it was read.
    last: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    number: u64,
}

impl Numbers {
    pub(super) const fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        Self { disk, path, last: None }
    }

    /// The next one, which is on the disk.
    pub(super) async fn next(&mut self, now: Timestamp) -> io::Result<u64> {
        let by_time = u64::try_from(now.as_secs()).unwrap_or_default();
        let (disk, path, known) = (Arc::clone(&self.disk), self.path.clone(), self.last);
        let work = move || {
            let last = known.map_or_else(|| read(disk.as_ref(), &path), Ok)?;
            let number = by_time.max(last.saturating_add(1));
            let bytes = serde_json::to_vec(&Stored { format: 1, number })?;
            disk.replace(&path, &bytes, FILE_MODE)?;
            Ok::<_, io::Error>(number)
        };
        let number = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)??;
        self.last = Some(number);
        Ok(number)
    }
}

fn read(disk: &dyn Disk, path: &std::path::Path) -> io::Result<u64> {
    let bytes = match disk.read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let stored: Stored =
        serde_json::from_slice(&bytes).map_err(|error| damaged(path, &error.to_string()))?;
    match stored.format {
        1 => Ok(stored.number),
        other => Err(damaged(path, &format!("format {other} is unknown"))),
    }
}

fn damaged(path: &std::path::Path, what: &str) -> io::Error {
    let text = format!(
        "{} is damaged ({what}); remove it if the clock is right: numbers go on from the time",
        path.display()
    );
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use host::RealDisk;

    use super::*;

    #[tokio::test]
    async fn a_number_never_goes_back_whatever_the_clock_and_the_disk_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("crl.json");
        let open = || Numbers::new(Arc::new(RealDisk), path.clone());
        let at = Timestamp::from_secs;
        let mut numbers = open();
        assert_eq!(numbers.next(at(1_000)).await.unwrap(), 1_000);
        assert_eq!(numbers.next(at(1_000)).await.unwrap(), 1_001);
        let backup = std::fs::read(&path).unwrap();
        assert_eq!(numbers.next(at(900)).await.unwrap(), 1_002, "the clock went back");
        assert_eq!(open().next(at(900)).await.unwrap(), 1_003, "it was started again");
        std::fs::write(&path, backup).unwrap();
        assert_eq!(open().next(at(2_000)).await.unwrap(), 2_000, "the disk went back");
        std::fs::write(&path, "{").unwrap();
        let refused = open().next(at(3_000)).await.unwrap_err().to_string();
        assert!(refused.contains("crl.json") && refused.contains("remove it"), "{refused}");
    }
}
