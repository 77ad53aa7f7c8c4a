//! Until when a server may release anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A serving lease: held until a moment of the boot clock. Clones are the same lease.
#[derive(Clone, Debug)]
pub struct Lease(Arc<Held>);

#[derive(Debug)]
struct Held {
    /// Milliseconds of uptime.
    until: AtomicU64,
    ended: AtomicBool,
}

impl Lease {
    /// One that is held for ever: no other server can be there.
    #[must_use]
    pub fn unbounded() -> Self {
        Self::until_millis(u64::MAX)
    }

    pub(crate) fn new() -> Self {
        Self::until_millis(0)
    }

    fn until_millis(until: u64) -> Self {
        Self(Arc::new(Held { until: AtomicU64::new(until), ended: AtomicBool::new(false) }))
    }

    /// Whether it is held at this uptime.
    pub fn is_held(&self, uptime: Duration) -> bool {
        !self.0.ended.load(Ordering::Acquire)
            && millis(uptime) < self.0.until.load(Ordering::Acquire)
    }

    /// The uptime until which it is held.
    pub fn until(&self) -> Duration {
        Duration::from_millis(self.0.until.load(Ordering::Acquire))
    }

    /// Extends it; it never gets shorter by that.
    pub(crate) fn extend(&self, until: Duration) {
        self.0.until.fetch_max(millis(until), Ordering::AcqRel);
    }

    /// Ends it for ever.
    pub(crate) fn end(&self) {
        self.0.ended.store(true, Ordering::Release);
    }
}

fn millis(uptime: Duration) -> u64 {
    u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX)
}
