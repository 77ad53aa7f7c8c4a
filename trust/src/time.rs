//! Times, lifetimes, and the clock as a port.

use std::fmt;
use std::time::Duration;

/// A wall-clock time in whole seconds since the Unix epoch; may lie before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 9999-12-31T23:59:59Z, the last time that X.509 can write (RFC 5280 §4.1.2.5).
    pub const MAX: Self = Self(253_402_300_799);

    /// Takes seconds since the Unix epoch.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs)
    }

    /// Takes milliseconds since the Unix epoch, and drops what is less than a second.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.div_euclid(1_000))
    }

    /// Seconds since the Unix epoch.
    pub const fn as_secs(self) -> i64 {
        self.0
    }

    /// This time and `duration` more, in whole seconds, at most [`Self::MAX`].
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let secs = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(secs)).min(Self::MAX.max(self))
    }

    /// This time less `duration`, in whole seconds.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let secs = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(secs))
    }

    /// Time passed since `earlier`; zero if `earlier` is later than this.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Year, month, day, hour, minute, second in UTC.
    pub fn civil(self) -> Civil {
        let days = self.0.div_euclid(86_400);
        let second_of_day = self.0.rem_euclid(86_400);
        // Days are counted in eras of 400 years that start on a 1 March, so that leap days come last.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        Civil {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            hour: second_of_day / 3_600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
        }
    }
}

/// A time in UTC by its calendar parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Civil {
    /// Year of the Gregorian calendar.
    pub year: i64,
    /// 1..=12.
    pub month: i64,
    /// 1..=31.
    pub day: i64,
    /// 0..=23.
    pub hour: i64,
    /// 0..=59.
    pub minute: i64,
    /// 0..=59.
    pub second: i64,
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, whole seconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day, hour, minute, second } = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A validity period; both ends belong to it (RFC 5280 §4.1.2.5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Validity {
    not_before: Timestamp,
    not_after: Timestamp,
}

/// A period that ends before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("validity ends at {not_after}, before it starts at {not_before}")]
pub struct EmptyValidity {
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Validity {
    /// Takes both ends.
    ///
    /// # Errors
    /// [`EmptyValidity`] if `not_after` lies before `not_before`.
    pub fn new(not_before: Timestamp, not_after: Timestamp) -> Result<Self, EmptyValidity> {
        if not_after < not_before {
            return Err(EmptyValidity { not_before, not_after });
        }
        Ok(Self { not_before, not_after })
    }

    /// First second of the period.
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Last second of the period.
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether `now` lies in the period.
    pub fn contains(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// Whether the whole of `inner` lies in the period.
    pub fn encloses(&self, inner: &Self) -> bool {
        self.not_before <= inner.not_before && inner.not_after <= self.not_after
    }
}

/// The clock, as a port: pure code takes `now`, and whoever runs it asks one of these.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall-clock time in milliseconds since the Unix epoch. May jump in either direction.
    fn now_millis(&self) -> i64;

    /// Time since an arbitrary fixed point, never going back and counting while the machine is suspended
    /// (`CLOCK_BOOTTIME`). For durations, leases and deadlines.
    fn uptime(&self) -> Duration;

    /// Wall-clock time in whole seconds.
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now_millis())
    }

    /// Name of the machine's boot that [`uptime`](Self::uptime) counts from; `None` if that is not known.
    fn boot(&self) -> Option<String> {
        None
    }

    /// The wall clock, if it can be believed. What cannot be taken back rests on this and not on [`now`](Self::now). A
    /// clock that nobody guards is always believed ([`ClockGuard`](crate::ClockGuard)).
    ///
    /// # Errors
    /// [`ClockDiverged`] while the wall clock is not where the time that nobody sets says it should be.
    fn agreed(&self) -> Result<Agreed, ClockDiverged> {
        let wall = self.now();
        Ok(Agreed { wall, earlier: wall })
    }
}

/// A wall clock that can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// What it says. New leaves begin by it.
    pub wall: Timestamp,
    /// What it says, or what the time that nobody sets says, whichever is earlier. Ends have passed by it, so that nothing
    /// is over unless both clocks say so.
    pub earlier: Timestamp,
}

/// A wall clock that cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", said(self))]
pub struct ClockDiverged {
    /// What it says.
    pub wall: Timestamp,
    /// What it should say.
    pub expected: Timestamp,
    /// Whether it was accepted as it is, from the next start on.
    pub awaits_restart: bool,
}

fn said(diverged: &ClockDiverged) -> String {
    let ClockDiverged { wall, expected, awaits_restart } = diverged;
    if *awaits_restart {
        return format!("the wall clock was set back and accepted at {wall}: restart this server");
    }
    let (off, side) = match wall.since(*expected) {
        Duration::ZERO => (expected.since(*wall), "behind"),
        ahead => (ahead, "ahead of"),
    };
    format!(
        "the wall clock says {wall}, {} s {side} {expected}, where uptime says it should be",
        off.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManualClock;

    #[test]
    fn known_dates_are_written_in_rfc3339() {
        for (secs, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_392_000, "2026-11-23T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Timestamp::from_secs(secs).to_string(), text);
        }
    }

    #[test]
    fn sums_stay_inside_what_x509_can_write() {
        let now = Timestamp::from_secs(10);
        assert_eq!(now.plus(Duration::MAX), Timestamp::MAX);
        assert_eq!(now.plus(Duration::from_secs(5)).since(now), Duration::from_secs(5));
        assert_eq!(now.since(now.plus(Duration::from_secs(5))), Duration::ZERO);
    }

    #[test]
    fn both_ends_belong_to_a_validity() {
        let [a, b, c] = [1, 2, 3].map(Timestamp::from_secs);
        let validity = Validity::new(a, b).unwrap();
        assert!(validity.contains(a) && validity.contains(b) && !validity.contains(c));
        assert!(Validity::new(b, a).is_err());
    }

    #[test]
    fn a_jump_moves_the_wall_clock_only() {
        let clock = ManualClock::at(Timestamp::from_secs(100));
        clock.advance(Duration::from_secs(5));
        clock.jump_to(Timestamp::from_secs(50));
        assert_eq!(
            (clock.now(), clock.uptime()),
            (Timestamp::from_secs(50), Duration::from_secs(5))
        );
    }
}
