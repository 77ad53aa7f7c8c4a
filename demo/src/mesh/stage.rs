//! What a run of the demo starts, and how it ends: whatever ends it, nothing stays behind.

use std::time::Duration;

use console::signals;

use super::ca::CaProcess;
use super::load::Load;
use super::members::Member;
use super::store::Store;

/// Longest time for everything to stop at the end.
const CLEAR_WITHIN: Duration = Duration::from_secs(10);

/// What was started and must end with the demo.
#[derive(Default)]
pub struct Stage {
    /// The servers of the CA.
    pub cas: Vec<CaProcess>,
    /// The store that they share, if they do.
    pub store: Option<Store>,
    /// Agents.
    pub members: Vec<Member>,
    /// Workloads and their traffic.
    pub load: Option<Load>,
}

impl Stage {
    /// Ends all of it, whatever is there.
    pub async fn clear(&mut self) {
        let all = async {
            if let Some(load) = self.load.take() {
                load.end().await;
            }
            for member in self.members.drain(..) {
                member.stop().await;
            }
            for mut ca in self.cas.drain(..) {
                // One that is dead already is what is wanted.
                let _ = ca.kill().await;
            }
            drop(self.store.take());
        };
        // What does not end in time is killed when it is dropped.
        let _ = tokio::time::timeout(CLEAR_WITHIN, all).await;
    }
}

/// Waits for Ctrl-C, SIGTERM, or the end of the terminal.
///
/// # Errors
/// If signals cannot be watched for.
pub async fn interrupted() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hung_up = signal(SignalKind::hangup())?;
    tokio::select! {
        stop = signals::stop_requested() => stop,
        _ = hung_up.recv() => Ok(()),
    }
}

/// Removes the directory, or keeps it, and says so.
pub fn leave(directory: tempfile::TempDir, keep: bool) -> String {
    let path = directory.path().display().to_string();
    if keep {
        let _ = directory.keep();
        return format!("{path} is kept");
    }
    match directory.close() {
        Ok(()) => format!("{path} is removed"),
        Err(error) => format!("{path} could not be removed: {error}"),
    }
}
