//! A clock that is ahead.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use host::SystemClock;
use trust::Clock;

/// The machine's clocks, ahead by as much as a test says: as if so much time had passed.
#[derive(Debug, Default)]
pub struct AheadClock(Mutex<Duration>);

impl AheadClock {
    /// Sets how far it is ahead of the machine's clock.
    pub fn set_ahead(&self, ahead: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ahead;
    }
}

impl Clock for AheadClock {
    fn now_millis(&self) -> i64 {
        let ahead = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        SystemClock.now_millis().saturating_add(i64::try_from(ahead.as_millis()).unwrap_or(i64::MAX))
    }

    fn uptime(&self) -> Duration {
        SystemClock.uptime().saturating_add(*self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
