//! Freezes: named times in which nothing begins.

use jiff::civil::{Date, DateTime, Time};
use trust::Timestamp;

use super::zone::Zone;

/// A time in which no rotation begins but one that cannot wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    name: String,
    from: Timestamp,
    until: Timestamp,
}

impl Freeze {
    /// From a day or a moment until another; a last day is frozen as a whole.
    ///
    /// # Errors
    /// A few words, for what is neither `2026-12-20` nor `2026-12-20T18:00`, or ends before it begins.
    pub fn new(name: &str, from: &str, until: &str, zone: &Zone) -> Result<Self, String> {
        let from = moment(from, false, zone)?;
        let until = moment(until, true, zone)?;
        if until <= from {
            return Err("it ends before it begins".to_owned());
        }
        Ok(Self { name: name.to_owned(), from, until })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Since when nothing begins.
    pub const fn from(&self) -> Timestamp {
        self.from
    }

    /// The first moment at which something may begin again.
    pub const fn until(&self) -> Timestamp {
        self.until
    }

    /// Whether nothing may begin.
    pub(super) fn holds(&self, now: Timestamp) -> bool {
        (self.from..self.until).contains(&now)
    }
}

fn moment(text: &str, is_last: bool, zone: &Zone) -> Result<Timestamp, String> {
    let wrong = || {
        format!(
            "{text:?} is neither a day such as \"2026-12-20\" nor a moment such as \"2026-12-20T18:00\""
        )
    };
    let civil = match text.contains('T') {
        true => text.parse::<DateTime>().map_err(|_| wrong())?,
        false => {
            let day: Date = text.parse().map_err(|_| wrong())?;
            let day = if is_last { day.tomorrow().map_err(|_| wrong())? } else { day };
            day.to_datetime(Time::midnight())
        }
    };
    zone.when(civil).ok_or_else(wrong)
}
