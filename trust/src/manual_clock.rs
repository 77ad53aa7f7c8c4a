//! The fake of [`Clock`].

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::time::{Clock, Timestamp};

/// A fake for tests: a clock that moves only when told.
#[derive(Debug)]
pub struct ManualClock(Mutex<State>);

#[derive(Debug)]
struct State {
    now_millis: i64,
    uptime: Duration,
    boot: Option<String>,
}

impl ManualClock {
    /// Starts at `now` with an uptime of zero.
    pub fn at(now: Timestamp) -> Self {
        Self(Mutex::new(State { now_millis: millis(now), uptime: Duration::ZERO, boot: None }))
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state();
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        state.now_millis = state.now_millis.saturating_add(millis);
        state.uptime = state.uptime.saturating_add(by);
    }

    /// Names the boot, as a restart of the machine does.
    pub fn set_boot(&self, name: &str) {
        self.state().boot = Some(name.to_owned());
    }

    /// Sets the wall clock and leaves the uptime alone, as a clock jump does.
    pub fn jump_to(&self, now: Timestamp) {
        self.state().now_millis = millis(now);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now_millis(&self) -> i64 {
        self.state().now_millis
    }

    fn uptime(&self) -> Duration {
        self.state().uptime
    }

    fn boot(&self) -> Option<String> {
        self.state().boot.clone()
    }
}

fn millis(time: Timestamp) -> i64 {
    time.as_secs().saturating_mul(1_000)
}
