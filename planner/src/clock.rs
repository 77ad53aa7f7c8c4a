//! The one clock of a plan: it follows the time of the runtime, which passes when nothing else is to be done.

use std::time::Duration;

use tokio::time::Instant;
use trust::{Clock, Timestamp};

/// What every plan's wall clock says when it begins: 15 January 2027. No plan depends on it.
pub(crate) const BEGINNING: Timestamp = Timestamp::from_secs(1_800_000_000);

/// The clock of a plan.
#[derive(Debug)]
pub(crate) struct PlanClock {
    began: Instant,
}

impl PlanClock {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now() }
    }

    /// Milliseconds since the plan began.
    pub(crate) fn elapsed_millis(&self) -> u64 {
        crate::chance::in_millis(self.began.elapsed())
    }
}

impl Clock for PlanClock {
    fn now_millis(&self) -> i64 {
        let elapsed = i64::try_from(self.elapsed_millis()).unwrap_or(i64::MAX);
        BEGINNING.as_secs() * 1_000 + elapsed
    }

    fn uptime(&self) -> Duration {
        self.began.elapsed()
    }
}
