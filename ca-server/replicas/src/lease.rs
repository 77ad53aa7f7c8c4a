//! Until when a server may release anything.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A serving lease: held until a moment of the boot clock. Clones are the same lease.
#[derive(Clone, Debug)]
pub struct Lease(Arc<Held>);

#[derive(Debug)]
struct Held {
    /// Milliseconds of uptime.
    until: AtomicU64,
    ended: AtomicBool,
    /// Why it was not extended when that was tried last.
    trouble: Mutex<Option<String>>,
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
        let (until, ended) = (AtomicU64::new(until), AtomicBool::new(false));
        Self(Arc::new(Held { until, ended, trouble: Mutex::default() }))
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

    /// Why it was not extended when that was tried last; none if it was.
    pub fn trouble(&self) -> Option<String> {
        self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_trouble(&self, why: Option<String>) {
        *self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why;
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
