//! The machine's clock, which tests may put wrong.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host::SystemClock;
use trust::Clock;

/// The machine's clock, off by what a test said. It runs on by itself, so that nothing waits for a test to move it.
#[derive(Debug, Default)]
pub struct TestClock(Mutex<Off>);

#[derive(Debug, Default)]
struct Off {
    wall_millis: i64,
    uptime: Duration,
}

impl TestClock {
    /// Puts wall clock and uptime forward, as if so much time had passed.
    pub fn advance(&self, by: Duration) {
        let mut off = self.off();
        off.wall_millis = off.wall_millis.saturating_add(millis(by));
        off.uptime += by;
    }

    /// Puts wall clock and uptime so far ahead of the machine's.
    pub fn set_ahead(&self, ahead: Duration) {
        *self.off() = Off { wall_millis: millis(ahead), uptime: ahead };
    }

    /// Sets the wall clock off by so many seconds; negative is slow. Durations stay right.
    pub fn set_off_by(&self, secs: i64) {
        self.off().wall_millis = secs.saturating_mul(1_000);
    }

    fn off(&self) -> MutexGuard<'_, Off> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for TestClock {
    fn now_millis(&self) -> i64 {
        SystemClock.now_millis().saturating_add(self.off().wall_millis)
    }

    fn uptime(&self) -> Duration {
        SystemClock.uptime().saturating_add(self.off().uptime)
    }
}

impl rustls::time_provider::TimeProvider for TestClock {
    fn current_time(&self) -> Option<rustls_pki_types::UnixTime> {
        let secs = u64::try_from(self.now().as_secs()).ok()?;
        Some(rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(secs)))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
