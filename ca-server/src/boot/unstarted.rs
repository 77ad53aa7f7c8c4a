//! A start that breaks off.

use tokio_util::sync::DropGuard;
use transport::accept::Stop;

/// Ends the tasks of a server whose start broke off: they would hold its files open.
#[derive(Debug)]
pub(super) struct Unstarted([DropGuard; 2]);

impl Unstarted {
    pub(super) fn new(stop: &Stop) -> Self {
        Self([stop.gently.clone().drop_guard(), stop.now.clone().drop_guard()])
    }

    /// The start is over: from now on [`shutdown`](super::Running::shutdown) ends them.
    pub(super) fn disarm(self) {
        for guard in self.0 {
            guard.disarm();
        }
    }
}
