//! When rotations that nobody asks for may begin: due times, windows, and freezes. Pure: everything takes the time.
//!
//! Due times are those of a cron expression in a time zone. Where a clock is put forward over a due time it is due right after; where it
//! is put back it is due once. Windows and freezes say when a rotation by schedule, by age or by a change of the configuration may
//! *begin*; one that began goes on.

mod freeze;
mod window;
mod zone;

use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use trust::Timestamp;

pub use freeze::Freeze;
pub use window::Window;
pub use zone::Zone;

use zone::stamp;

/// How far ahead an open moment is looked for.
const AHEAD_MAX: Duration = Duration::from_secs(400 * 86_400);
/// Due times that are compared to find out how far they are apart.
const COMPARED: usize = 100;
/// From when on they are compared: the first day of 2026.
const SOME_DAY: Timestamp = Timestamp::from_secs(1_767_225_600);

/// What the configuration says.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The time zone of all of it.
    pub zone: Zone,
    /// When a root is replaced; none if only age, expiry and people begin rotations.
    pub cron: Option<Expression>,
    /// When rotations may begin; at any time where there is none.
    pub windows: Vec<Window>,
    /// When none may begin.
    pub freezes: Vec<Freeze>,
    /// How late one that is due may begin.
    pub make_up_within: Duration,
    /// Whether a root is replaced before it ends.
    pub before_expiry: bool,
    /// Whether a change of the authority, or of the root's algorithm, in the configuration begins a rotation.
    pub on_config_change: bool,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            zone: Zone::utc(),
            cron: None,
            windows: Vec::new(),
            freezes: Vec::new(),
            make_up_within: Duration::from_secs(86_400),
            before_expiry: false,
            on_config_change: false,
        }
    }
}

/// A cron expression of five fields.
#[derive(Clone, Debug)]
pub struct Expression(Cron);

/// Why nothing may begin at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// No window is open.
    Window,
    /// A freeze of this name.
    Freeze(String),
}

impl Expression {
    /// Takes minute, hour, day of the month, month and day of the week.
    ///
    /// # Errors
    /// A few words, for what is no such expression or names no time at all.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parser =
            CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|error| error.to_string())?;
        let expression = Self(cron);
        match expression.after(&Zone::utc(), SOME_DAY) {
            Some(_) => Ok(expression),
            None => Err("it names no time that ever comes".to_owned()),
        }
    }

    fn after(&self, zone: &Zone, time: Timestamp) -> Option<Timestamp> {
        self.0.find_next_occurrence(&zone.at(time)?, false).ok().as_ref().map(stamp)
    }

    fn until(&self, zone: &Zone, time: Timestamp) -> Option<Timestamp> {
        self.0.find_previous_occurrence(&zone.at(time)?, true).ok().as_ref().map(stamp)
    }

    /// The shortest time between two due times that follow each other, of a hundred.
    pub fn least_apart(&self, zone: &Zone) -> Option<Duration> {
        let next = |time: &Timestamp| self.after(zone, *time);
        let times: Vec<_> =
            std::iter::successors(self.after(zone, SOME_DAY), next).take(COMPARED).collect();
        times.iter().zip(times.iter().skip(1)).map(|(one, next)| next.since(*one)).min()
    }
}

impl Schedule {
    /// One in this zone, without anything else.
    pub fn within(zone: Zone) -> Self {
        Self { zone, ..Self::default() }
    }

    /// The last due time that has come.
    pub fn last_due(&self, now: Timestamp) -> Option<Timestamp> {
        self.cron.as_ref()?.until(&self.zone, now)
    }

    /// The due times that come next.
    pub fn next_due(&self, now: Timestamp, count: usize) -> Vec<Timestamp> {
        let Some(cron) = &self.cron else { return Vec::new() };
        let next = |time: &Timestamp| cron.after(&self.zone, *time);
        std::iter::successors(cron.after(&self.zone, now), next).take(count).collect()
    }

    /// Why nothing may begin now; `None` where it may.
    pub fn closed(&self, now: Timestamp) -> Option<Closed> {
        if let Some(freeze) = self.freezes.iter().find(|freeze| freeze.holds(now)) {
            return Some(Closed::Freeze(freeze.name().to_owned()));
        }
        let Some(zoned) = self.zone.at(now) else { return Some(Closed::Window) };
        let is_open =
            self.windows.is_empty() || self.windows.iter().any(|window| window.holds(&zoned));
        (!is_open).then_some(Closed::Window)
    }

    /// The first moment from now on at which a rotation may begin; none within 400 days.
    pub fn opens(&self, now: Timestamp) -> Option<Timestamp> {
        if self.closed(now).is_none() {
            return Some(now);
        }
        let latest = now.plus(AHEAD_MAX);
        let ends = self.freezes.iter().map(Freeze::until);
        let starts = self.windows.iter().flat_map(|window| self.starts(window, now));
        let mut moments: Vec<_> =
            ends.chain(starts).filter(|time| (now..latest).contains(time)).collect();
        moments.sort_unstable();
        moments.into_iter().find(|time| self.closed(*time).is_none())
    }

    /// When a window opens, day by day.
    fn starts<'s>(
        &'s self,
        window: &'s Window,
        now: Timestamp,
    ) -> impl Iterator<Item = Timestamp> + 's {
        let days = AHEAD_MAX.as_secs() / 86_400;
        (0..days).filter_map(move |day| {
            let at = self.zone.at(now.plus(Duration::from_secs(day * 86_400)))?;
            window.start_on(at.date(), &self.zone)
        })
    }
}

#[cfg(test)]
mod tests;
