//! Windows: days of the week and a time of the day.

use jiff::Zoned;
use jiff::civil::{Date, Time, Weekday};
use trust::Timestamp;

use super::zone::Zone;

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];
const MINUTES_OF_DAY: u16 = 24 * 60;

/// When rotations may begin: on some days of the week, from one time to another. One whose end is not after its beginning goes on into
/// the next day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    days: Vec<Weekday>,
    /// Minutes after midnight.
    from: u16,
    until: u16,
}

impl Window {
    /// Takes `Mon-Fri 02:00-05:00`, `Sat,Sun 00:00-24:00`, or `22:00-04:00` for every day.
    ///
    /// # Errors
    /// A few words, for anything else.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const WRITE: &str = "it is not like \"Mon-Fri 02:00-05:00\" or \"22:00-04:00\"";
        let (days, times) = match text.trim().rsplit_once(' ') {
            Some((days, times)) => (parse_days(days.trim()).ok_or(WRITE)?, times),
            None => (DAYS.map(|(_, day)| day).to_vec(), text.trim()),
        };
        let (from, until) = times.split_once('-').ok_or(WRITE)?;
        let (from, until) = (minutes(from).ok_or(WRITE)?, minutes(until).ok_or(WRITE)?);
        if from == MINUTES_OF_DAY || from == until {
            return Err("it opens at no time");
        }
        Ok(Self { days, from, until })
    }

    /// Whether it is open.
    pub(super) fn holds(&self, at: &Zoned) -> bool {
        let minute =
            u16::from(at.hour().unsigned_abs()) * 60 + u16::from(at.minute().unsigned_abs());
        let is_day = |day: Weekday| self.days.contains(&day);
        let (today, yesterday) = (at.weekday(), at.weekday().previous());
        match self.from < self.until {
            true => is_day(today) && (self.from..self.until).contains(&minute),
            false => {
                (is_day(today) && minute >= self.from) || (is_day(yesterday) && minute < self.until)
            }
        }
    }

    /// When it opens on a day, if it does.
    pub(super) fn start_on(&self, date: Date, zone: &Zone) -> Option<Timestamp> {
        if !self.days.contains(&date.weekday()) {
            return None;
        }
        let (hour, minute) = (self.from / 60, self.from % 60);
        let time = Time::new(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, 0, 0).ok()?;
        zone.when(date.to_datetime(time))
    }
}

fn parse_days(text: &str) -> Option<Vec<Weekday>> {
    let day = |text: &str| {
        let at = DAYS.iter().position(|(name, _)| text.trim().eq_ignore_ascii_case(name))?;
        Some((at, DAYS.get(at)?.1))
    };
    let mut days = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            None => days.push(day(part)?.1),
            Some((first, last)) => {
                let ((first, _), (last, _)) = (day(first)?, day(last)?);
                let span = (last + DAYS.len() - first) % DAYS.len();
                let all = DAYS.iter().cycle().skip(first).take(span + 1);
                days.extend(all.map(|(_, day)| *day));
            }
        }
    }
    Some(days)
}

/// Minutes after midnight, of `02:00` or `24:00`.
fn minutes(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let is_number = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(hour) || !is_number(minute) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    let total = hour * 60 + minute;
    (minute < 60 && total <= MINUTES_OF_DAY).then_some(total)
}
