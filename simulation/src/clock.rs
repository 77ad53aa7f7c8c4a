//! The clocks of the simulated machines: all follow the one time of the runtime, each with a wall clock of its own.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use trust::{Clock, Timestamp};

/// The true time at which every run begins: 15 January 2027.
pub(crate) const BEGINNING: Timestamp = Timestamp::from_secs(1_800_000_000);

/// The clocks of one machine.
#[derive(Debug)]
pub(crate) struct MachineClock {
    began: Instant,
    /// By how much the wall clock is ahead of the true time, in milliseconds.
    ahead_millis: i64,
    /// By how much somebody set it off.
    off_millis: AtomicI64,
    /// When it booted, in milliseconds since the run began.
    booted_millis: AtomicU64,
}

impl MachineClock {
    pub(crate) fn new(began: Instant, ahead_millis: i64) -> Self {
        let booted_millis = AtomicU64::new(0);
        Self { began, ahead_millis, off_millis: AtomicI64::new(0), booted_millis }
    }

    fn elapsed(&self) -> Duration {
        Instant::now().saturating_duration_since(self.began)
    }

    /// Somebody sets the wall clock off by so much, or right again.
    pub(crate) fn set_off(&self, millis: i64) {
        self.off_millis.store(millis, Ordering::Relaxed);
    }

    /// Whether nobody has set it off.
    pub(crate) fn is_right(&self) -> bool {
        self.off_millis.load(Ordering::Relaxed) == 0
    }

    /// The machine starts anew: uptime begins at nothing.
    pub(crate) fn boot(&self) {
        let now = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.booted_millis.store(now, Ordering::Relaxed);
        // A machine asks for the time before anything runs on it.
        self.set_off(0);
    }
}

impl Clock for MachineClock {
    fn now_millis(&self) -> i64 {
        let elapsed = i64::try_from(self.elapsed().as_millis()).unwrap_or(i64::MAX);
        let ahead = self.ahead_millis + self.off_millis.load(Ordering::Relaxed);
        BEGINNING.as_secs() * 1_000 + elapsed + ahead
    }

    fn uptime(&self) -> Duration {
        let booted = Duration::from_millis(self.booted_millis.load(Ordering::Relaxed));
        // A machine is up for a while before anything runs on it.
        self.elapsed().saturating_sub(booted) + Duration::from_secs(5)
    }

    fn boot(&self) -> Option<String> {
        Some(format!("boot-{}", self.booted_millis.load(Ordering::Relaxed)))
    }
}
