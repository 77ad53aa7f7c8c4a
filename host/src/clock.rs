//! The system's clocks.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};
use trust::Clock;

/// The machine's wall clock, and its time since boot.
///
/// `uptime` reads `CLOCK_BOOTTIME`, which goes on while the machine sleeps and is never set: a lease that is
/// measured with it ends when it should, even if the wall clock is stepped or the host was suspended.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_millis(&self) -> i64 {
        let time = clock_gettime(ClockId::Realtime);
        time.tv_sec.saturating_mul(1_000).saturating_add(time.tv_nsec / 1_000_000)
    }

    fn uptime(&self) -> Duration {
        duration(clock_gettime(ClockId::Boottime))
    }

    /// The kernel's random name of this boot.
    fn boot(&self) -> Option<String> {
        let name = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(name.trim().to_owned()).filter(|name| !name.is_empty())
    }
}

fn duration(time: Timespec) -> Duration {
    // The kernel answers CLOCK_BOOTTIME with seconds >= 0 and nanoseconds below one second.
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_milliseconds_tell_the_same_time() {
        let before = SystemClock.now_millis();
        let now = SystemClock.now().as_secs();
        let after = SystemClock.now_millis();
        assert!(before / 1_000 <= now && now <= after / 1_000);
        assert!(now > 1_600_000_000, "the wall clock is read, not the time since boot");
    }

    #[test]
    fn a_boot_keeps_its_name() {
        assert!(SystemClock.boot().is_some());
        assert_eq!(SystemClock.boot(), SystemClock.boot());
    }

    #[test]
    fn uptime_never_goes_back() {
        let first = SystemClock.uptime();
        assert!(first > Duration::ZERO);
        assert!(SystemClock.uptime() >= first);
    }
}
