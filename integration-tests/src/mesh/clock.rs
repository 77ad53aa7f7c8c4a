//! A wall clock that is wrong.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use host::SystemClock;
use trust::{Clock, Timestamp};

/// The machine's clock, with a wall clock that is off by what a test says. Durations are right.
#[derive(Debug, Default)]
pub struct ShiftedClock {
    off_by_secs: AtomicI64,
}

impl ShiftedClock {
    /// Sets the wall clock off by so many seconds; negative is slow.
    pub fn set_off_by(&self, secs: i64) {
        self.off_by_secs.store(secs, Ordering::Relaxed);
    }

    fn off_by(&self) -> i64 {
        self.off_by_secs.load(Ordering::Relaxed)
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(SystemClock.now().as_secs() + self.off_by())
    }

    fn now_millis(&self) -> i64 {
        SystemClock.now_millis() + self.off_by() * 1_000
    }

    fn uptime(&self) -> Duration {
        SystemClock.uptime()
    }
}
