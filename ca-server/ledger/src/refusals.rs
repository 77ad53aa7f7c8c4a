//! How many refusals are written: a flood of bad requests must not become a flood of writes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use trust::Timestamp;

/// Lets so many through in each second, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct RefusalGate(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    second: u64,
    written: u32,
    suppressed: u64,
    since: Timestamp,
}

/// Refusals that were counted only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suppressed {
    pub(crate) refusals: u64,
    pub(crate) since: Timestamp,
}

impl RefusalGate {
    /// Whether one more refusal may be written now.
    pub(crate) fn admit(&self, uptime: Duration, per_second: u32) -> bool {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.second != uptime.as_secs() {
            (window.second, window.written) = (uptime.as_secs(), 0);
        }
        let admitted = window.written < per_second;
        window.written += u32::from(admitted);
        admitted
    }

    /// Counts refusals that are not written.
    pub(crate) fn suppress(&self, Suppressed { refusals, since }: Suppressed) {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        window.since = if window.suppressed == 0 { since } else { window.since.min(since) };
        window.suppressed = window.suppressed.saturating_add(refusals);
    }

    /// Takes the count, for a summary to be written.
    pub(crate) fn take(&self) -> Option<Suppressed> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refusals = std::mem::take(&mut window.suppressed);
        (refusals > 0).then_some(Suppressed { refusals, since: window.since })
    }

    /// Whether a summary is due: the second in which refusals were counted is over.
    pub(crate) fn is_due(&self, uptime: Duration) -> bool {
        let window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        window.suppressed > 0 && window.second != uptime.as_secs()
    }
}
