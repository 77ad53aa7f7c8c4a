//! The clock that a server lives by: guarded, and noted now and then, so that a restart explains no jump.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use host::Disk;
use serde::{Deserialize, Serialize};
use trust::{Accepted, Clock, ClockGuard, ClockMark};

use crate::paths::{FILE_MODE, Paths};

/// Version of the file.
const FORMAT: u32 = 1;

/// The guard of the clock, and the file that it is noted in.
#[derive(Debug)]
pub struct GuardedClock {
    guard: Arc<ClockGuard>,
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

/// The moment that a former run noted cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} cannot be read: {reason}; check with `date` that this machine's clock is right, remove it, then start again",
    path.display()
)]
pub struct ClockUnreadable {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: String,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Noted {
    format: u32,
    wall_millis: i64,
    uptime_millis: u64,
    boot: Option<String>,
}

impl GuardedClock {
    /// Goes on from what a former run noted. A server that never ran here believes the clock that it finds.
    ///
    /// # Errors
    /// When what was noted cannot be read.
    pub fn open(
        clock: Arc<dyn Clock>,
        disk: Arc<dyn Disk>,
        paths: &Paths,
        skew: Duration,
    ) -> Result<Self, ClockUnreadable> {
        let path = paths.clock();
        let mark = match disk.read(&path) {
            Ok(bytes) => Some(
                noted(&bytes).map_err(|reason| ClockUnreadable { path: path.clone(), reason })?,
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(ClockUnreadable { path, reason: error.to_string() }),
        };
        let guard = Arc::new(ClockGuard::new(clock, skew, mark.as_ref()));
        Ok(Self { guard, disk, path })
    }

    /// The guarded clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::<ClockGuard>::clone(&self.guard)
    }

    /// Notes the present moment, as far as it is known. Blocks on the disk.
    pub fn note(&self) -> io::Result<()> {
        let Some(ClockMark { wall_millis, uptime, boot }) = self.guard.mark() else {
            return Ok(());
        };
        let uptime_millis = u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX);
        let noted = Noted { format: FORMAT, wall_millis, uptime_millis, boot };
        self.disk.replace(&self.path, &serde_json::to_vec(&noted)?, FILE_MODE)
    }

    /// An operator says that the wall clock is right. What is believed from now on is noted before it is answered. Blocks on
    /// the disk.
    pub fn accept(&self) -> io::Result<Accepted> {
        let accepted = self.guard.accept();
        self.note()?;
        Ok(accepted)
    }
}

fn noted(bytes: &[u8]) -> Result<ClockMark, String> {
    let noted: Noted = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if noted.format != FORMAT {
        return Err(format!("it has format {}, this release reads format {FORMAT}", noted.format));
    }
    let uptime = Duration::from_millis(noted.uptime_millis);
    Ok(ClockMark { wall_millis: noted.wall_millis, uptime, boot: noted.boot })
}

#[cfg(test)]
mod tests {
    use host::FaultDisk;
    use trust::{ManualClock, Timestamp};

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn what_was_noted_is_believed_after_a_restart_and_an_operators_word_is_durable() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path().to_owned());
        let clock = Arc::new(ManualClock::at(NOW));
        clock.set_boot("one");
        let opened = |skew| {
            let disk = Arc::new(FaultDisk::default());
            GuardedClock::open(Arc::<ManualClock>::clone(&clock), disk, &paths, skew)
        };
        let open = || opened(Duration::from_secs(60)).unwrap();
        open().note().unwrap();
        clock.jump_to(NOW.minus(DAY));
        let guarded = open();
        assert!(guarded.clock().agreed().is_err());
        assert_eq!(guarded.accept().unwrap(), Accepted::AfterRestart);
        assert!(guarded.clock().agreed().is_err());
        assert_eq!(open().clock().agreed().unwrap().wall, NOW.minus(DAY));
        std::fs::write(paths.clock(), b"{}").unwrap();
        let said = opened(Duration::ZERO).unwrap_err().to_string();
        assert!(said.contains("clock.json") && said.contains("remove it"), "{said}");
    }
}
