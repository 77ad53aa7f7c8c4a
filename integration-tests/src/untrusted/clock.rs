//! The machine's clock, which tests may put forward.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use host::SystemClock;
use trust::{Clock, Timestamp};

/// The machine's clock, ahead by what a test added. It runs on by itself, so that nothing waits for a test to move it.
#[derive(Debug, Default)]
pub struct TestClock {
    ahead: Mutex<Duration>,
}

impl TestClock {
    /// Puts wall clock and uptime forward.
    pub fn advance(&self, by: Duration) {
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }

    fn ahead(&self) -> Duration {
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus(self.ahead())
    }

    fn now_millis(&self) -> i64 {
        SystemClock.now_millis() + i64::try_from(self.ahead().as_millis()).unwrap()
    }

    fn uptime(&self) -> Duration {
        SystemClock.uptime() + self.ahead()
    }
}

impl rustls::time_provider::TimeProvider for TestClock {
    fn current_time(&self) -> Option<rustls_pki_types::UnixTime> {
        let secs = u64::try_from(self.now().as_secs()).ok()?;
        Some(rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(secs)))
    }
}
