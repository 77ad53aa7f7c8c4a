//! A wall clock that is believed only as far as the time that nobody sets agrees with it.
//!
//! A wall clock can be set: by an operator, by a time server gone wrong, by a virtual machine that comes back. Uptime
//! (`CLOCK_BOOTTIME`) cannot: it runs on, through suspends too, and is slewed together with the wall clock. So both are noted
//! together once, and at every look the wall clock must be where uptime says it is, within the skew that all clocks are
//! allowed. While it is not, nobody here knows what time it is: [`Clock::agreed`] is an error, and [`Clock::now`] goes on
//! from the last time that both agreed on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::time::{Agreed, Clock, ClockDiverged, Timestamp};

/// Least difference that counts: readings of both clocks are some time apart on a busy machine.
const LIMIT_MIN: Duration = Duration::from_secs(2);
/// A difference within the limit is forgotten at this part of the time that passes: 3.6 s in an hour, 86 s in a day.
const FORGET: i64 = 1_000;
/// Differences are forgotten in steps of at least this.
const FORGET_EVERY: Duration = Duration::from_secs(1);

/// A clock that says whether its wall clock can be believed. See the module's text.
#[derive(Debug)]
pub struct ClockGuard {
    clock: Arc<dyn Clock>,
    limit: Duration,
    /// Held for arithmetic only.
    line: Mutex<Line>,
}

/// A moment that both clocks agreed on, to be kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockMark {
    /// The wall clock, in milliseconds since the epoch.
    pub wall_millis: i64,
    /// Uptime at the same moment.
    pub uptime: Duration,
    /// The boot that uptime counts from; `None` if that is not known.
    pub boot: Option<String>,
}

/// What came of an operator's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// The clocks agree already: there was nothing to accept.
    Nothing,
    /// The wall clock is believed from now on.
    Resumed,
    /// The wall clock is believed from the next start on. It went back: what this process dropped for being over may not be
    /// over, and only a start reads it again.
    AfterRestart,
}

/// Where the wall clock should be.
#[derive(Clone, Copy, Debug)]
struct Line {
    wall_millis: i64,
    uptime: Duration,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The wall clock should be exactly there.
    Known,
    /// It should be there or later: nobody knows how long the machine was off.
    AtLeast,
    /// It should be there, and nothing rests on it before the next start.
    AwaitsRestart,
}

impl ClockGuard {
    /// Guards a clock, from what a former process noted on. Without a note the present moment is believed. `skew` is
    /// how far a wall clock may be off.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, skew: Duration, mark: Option<&ClockMark>) -> Self {
        let (wall_millis, uptime) = (clock.now_millis(), clock.uptime());
        let line = match mark {
            None => Line { wall_millis, uptime, kind: Kind::Known },
            Some(mark)
                if mark.boot.is_some() && mark.boot == clock.boot() && mark.uptime <= uptime =>
            {
                Line { wall_millis: mark.wall_millis, uptime: mark.uptime, kind: Kind::Known }
            }
            Some(mark) => Line { wall_millis: mark.wall_millis, uptime, kind: Kind::AtLeast },
        };
        Self { clock, limit: skew.max(LIMIT_MIN), line: Mutex::new(line) }
    }

    /// The moment to keep for the next start. `None` while it is not known when the machine was started.
    #[must_use]
    pub fn mark(&self) -> Option<ClockMark> {
        // A look first: the line follows the wall clock as far as it is believed.
        let _ = self.agreed();
        let line = *self.line();
        let uptime = self.clock.uptime();
        let known = line.kind != Kind::AtLeast;
        known.then(|| ClockMark { wall_millis: line.at(uptime), uptime, boot: self.clock.boot() })
    }

    /// An operator says that the wall clock is right as it is now.
    #[must_use]
    pub fn accept(&self) -> Accepted {
        if self.agreed().is_ok() {
            return Accepted::Nothing;
        }
        let (wall_millis, uptime) = (self.clock.now_millis(), self.clock.uptime());
        let mut line = self.line();
        let forward = line.kind != Kind::AwaitsRestart && wall_millis >= line.at(uptime);
        let kind = if forward { Kind::Known } else { Kind::AwaitsRestart };
        *line = Line { wall_millis, uptime, kind };
        if forward { Accepted::Resumed } else { Accepted::AfterRestart }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads both clocks: the wall clock, and where it should be at least and at most.
    fn look(&self, line: &Line) -> Look {
        let before = self.clock.uptime();
        let wall = self.clock.now_millis();
        // The process may have been held up between the readings.
        let uptime = self.clock.uptime();
        Look { wall, least: line.at(before), most: line.at(uptime), uptime }
    }
}

struct Look {
    wall: i64,
    least: i64,
    most: i64,
    uptime: Duration,
}

impl Line {
    fn at(&self, uptime: Duration) -> i64 {
        self.wall_millis.saturating_add(millis(uptime.saturating_sub(self.uptime)))
    }

    /// Follows the wall clock, which was found within the limit: slowly, so that many small steps are seen as what they are.
    fn follow(&mut self, look: &Look) {
        let passed = look.uptime.saturating_sub(self.uptime);
        if passed < FORGET_EVERY {
            return;
        }
        let most = millis(passed) / FORGET;
        let off = look.wall.saturating_sub(look.most);
        self.wall_millis = look.most.saturating_add(off.clamp(-most, most));
        self.uptime = look.uptime;
    }
}

impl Clock for ClockGuard {
    /// The wall clock while it is believed, and otherwise the time that it should say.
    fn now_millis(&self) -> i64 {
        let mut line = self.line();
        let look = self.look(&line);
        if judge(&mut line, &look, self.limit) { look.wall } else { look.most }
    }

    fn uptime(&self) -> Duration {
        self.clock.uptime()
    }

    fn boot(&self) -> Option<String> {
        self.clock.boot()
    }

    fn agreed(&self) -> Result<Agreed, ClockDiverged> {
        let mut line = self.line();
        let look = self.look(&line);
        let believed = judge(&mut line, &look, self.limit);
        let [wall, least, most] = [look.wall, look.least, look.most].map(Timestamp::from_millis);
        if believed && line.kind == Kind::Known {
            return Ok(Agreed { wall, earlier: wall.min(least) });
        }
        Err(ClockDiverged {
            wall,
            expected: most,
            awaits_restart: line.kind == Kind::AwaitsRestart,
        })
    }
}

/// Whether the wall clock is where it should be. If so the line follows it.
fn judge(line: &mut Line, look: &Look, limit: Duration) -> bool {
    let limit = millis(limit);
    let late_enough = look.wall >= look.least.saturating_sub(limit);
    if line.kind == Kind::AtLeast {
        if late_enough {
            *line = Line { wall_millis: look.wall, uptime: look.uptime, kind: Kind::Known };
        }
        return late_enough;
    }
    let believed = late_enough && look.wall <= look.most.saturating_add(limit);
    if believed {
        line.follow(look);
    }
    believed
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManualClock;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const SKEW: Duration = Duration::from_secs(60);
    const DAY: Duration = Duration::from_secs(86_400);

    fn guarded() -> (Arc<ManualClock>, ClockGuard) {
        let clock = Arc::new(ManualClock::at(NOW));
        let guard = ClockGuard::new(Arc::clone(&clock) as Arc<dyn Clock>, SKEW, None);
        (clock, guard)
    }

    fn again(clock: &Arc<ManualClock>, mark: Option<&ClockMark>) -> ClockGuard {
        ClockGuard::new(Arc::clone(clock) as Arc<dyn Clock>, SKEW, mark)
    }

    #[test]
    fn a_jump_is_seen_at_the_first_look_and_time_goes_on_as_if_it_had_not_been() {
        let (clock, guard) = guarded();
        for jump in [NOW.plus(DAY * 2), NOW.minus(DAY * 2)] {
            clock.jump_to(jump);
            let diverged = guard.agreed().unwrap_err();
            assert_eq!((diverged.wall, diverged.expected), (jump, NOW));
            assert_eq!(guard.now(), NOW);
        }
        clock.advance(Duration::from_secs(5));
        assert_eq!(guard.now(), NOW.plus(Duration::from_secs(5)));
        clock.jump_to(NOW.plus(Duration::from_secs(5)));
        assert_eq!(guard.agreed().unwrap().wall, NOW.plus(Duration::from_secs(5)), "back is back");
    }

    #[test]
    fn within_the_skew_the_wall_clock_is_believed_and_ends_are_judged_by_the_earlier_time() {
        let (clock, guard) = guarded();
        clock.jump_to(NOW.plus(SKEW));
        assert_eq!(guard.agreed(), Ok(Agreed { wall: NOW.plus(SKEW), earlier: NOW }));
        clock.jump_to(NOW.minus(SKEW));
        assert_eq!(guard.agreed(), Ok(Agreed { wall: NOW.minus(SKEW), earlier: NOW.minus(SKEW) }));
    }

    #[test]
    fn a_clock_that_drifts_for_months_raises_no_alarm_and_many_small_steps_do() {
        let (clock, guard) = guarded();
        let second = Duration::from_secs(1);
        let mut off = 0;
        for hour in 0..24 * 100 {
            clock.advance(second * 3_600);
            // Two seconds in an hour: 80 minutes in all.
            off += 2;
            clock.jump_to(NOW.plus(second * 3_600 * (hour + 1)).plus(second * off));
            assert!(guard.agreed().is_ok(), "hour {hour}");
        }
        let (clock, guard) = guarded();
        let steps = (1..10).take_while(|step| {
            clock.advance(second * 3_600);
            clock.jump_to(NOW.plus(second * 3_600 * *step).plus(second * 50 * *step));
            guard.agreed().is_ok()
        });
        assert!(steps.count() < 3, "50 s an hour is no drift");
    }

    #[test]
    fn looking_often_forgets_no_faster() {
        let (clock, guard) = guarded();
        clock.jump_to(NOW.plus(SKEW));
        for _ in 0..10_000 {
            clock.advance(Duration::from_millis(1));
            guard.agreed().unwrap();
        }
        clock.jump_to(NOW.plus(SKEW + Duration::from_secs(12)));
        assert!(guard.agreed().is_err(), "10 s have passed, which forget 10 ms");
    }

    #[test]
    fn a_suspend_is_no_jump() {
        let (clock, guard) = guarded();
        clock.advance(DAY * 3);
        assert_eq!(guard.agreed().unwrap().wall, NOW.plus(DAY * 3));
    }

    #[test]
    fn a_restart_on_the_same_boot_explains_no_jump() {
        let (clock, guard) = guarded();
        clock.set_boot("one");
        clock.advance(Duration::from_secs(10));
        let mark = guard.mark();
        drop(guard);
        clock.advance(Duration::from_secs(100));
        assert!(again(&clock, mark.as_ref()).agreed().is_ok());
        clock.jump_to(NOW.plus(DAY * 2));
        let guard = again(&clock, mark.as_ref());
        assert_eq!(guard.agreed().unwrap_err().expected, NOW.plus(Duration::from_secs(110)));
        assert_eq!(
            guard.mark().unwrap().wall_millis,
            (NOW.as_secs() + 110) * 1_000,
            "nor does the next"
        );
    }

    #[test]
    fn a_machine_that_comes_up_with_a_clock_behind_waits_until_it_is_set() {
        let (clock, guard) = guarded();
        clock.set_boot("one");
        clock.advance(DAY);
        let mark = guard.mark();
        clock.set_boot("two");
        clock.jump_to(Timestamp::from_secs(0));
        let guard = again(&clock, mark.as_ref());
        assert_eq!(guard.agreed().unwrap_err().expected, NOW.plus(DAY));
        assert_eq!(guard.mark(), None);
        clock.jump_to(NOW.plus(DAY * 9));
        assert_eq!(
            guard.agreed().unwrap().wall,
            NOW.plus(DAY * 9),
            "it may have been off for days"
        );
        clock.jump_to(NOW.plus(DAY * 12));
        assert!(guard.agreed().is_err(), "once it is known it is known");
    }

    #[test]
    fn a_step_that_stays_is_taken_by_an_operators_word_and_backwards_only_with_a_restart() {
        let (clock, guard) = guarded();
        clock.set_boot("one");
        assert_eq!(guard.accept(), Accepted::Nothing);
        clock.jump_to(NOW.plus(DAY));
        assert_eq!(guard.accept(), Accepted::Resumed);
        assert_eq!(guard.agreed().unwrap().wall, NOW.plus(DAY));
        clock.jump_to(NOW);
        assert_eq!(guard.accept(), Accepted::AfterRestart);
        assert!(guard.agreed().unwrap_err().awaits_restart);
        assert_eq!(guard.now(), NOW);
        assert_eq!(guard.accept(), Accepted::AfterRestart);
        let mark = guard.mark();
        assert_eq!(again(&clock, mark.as_ref()).agreed().unwrap().wall, NOW);
    }
}
