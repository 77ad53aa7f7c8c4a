//! Numbers for people: spans of time in the notation of the configuration (`100d`, `36h`, `90m`), and counted things.

use std::time::Duration;

/// Units with their seconds, longest first.
const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
/// A unit is used from so many of it on, so that a day is `24h` and a minute `60s`.
const LEAST: u64 = 2;

/// The span in the longest unit that fits, and what is left in the next one. Smaller rests are left out.
pub fn span(length: Duration) -> String {
    let secs = length.as_secs();
    let mut units = UNITS.iter().skip_while(|(size, _)| *size > 1 && secs < LEAST * size);
    let (size, unit) = units.next().unwrap_or(&(1, "s"));
    let whole = format!("{}{unit}", secs / size);
    let rest = units.next().map(|(below, smaller)| ((secs % size) / below, smaller));
    match rest {
        Some((rest @ 1.., smaller)) => format!("{whole} {rest}{smaller}"),
        _ => whole,
    }
}

/// A length of time as people say it.
pub fn about(length: Duration) -> String {
    let secs = length.as_secs();
    let rounded = |unit: u64| secs.saturating_add(unit / 2) / unit;
    match secs {
        0..120 => format!("{secs} s"),
        120..5_400 => format!("about {} min", rounded(60)),
        5_400..172_800 => format!("about {} h", rounded(3_600)),
        _ => format!("about {} days", rounded(86_400)),
    }
}

/// So many things, as in `1 leaf` and `2 leaves`.
pub fn counted(count: impl Into<Count>, one: &str, many: &str) -> String {
    let Count(count) = count.into();
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A number of things.
#[derive(Debug, Clone, Copy)]
pub struct Count(u64);

impl From<u64> for Count {
    fn from(count: u64) -> Self {
        Self(count)
    }
}

impl From<u32> for Count {
    fn from(count: u32) -> Self {
        Self(count.into())
    }
}

impl From<usize> for Count {
    fn from(count: usize) -> Self {
        Self(u64::try_from(count).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_as_it_is_written_in_a_configuration() {
        for (secs, told) in [
            (0, "0s"),
            (30, "30s"),
            (60, "60s"),
            (300, "5m"),
            (5_400, "90m"),
            (86_400, "24h"),
            (129_600, "36h"),
            (9_000, "2h 30m"),
            (8_640_000, "100d"),
            (315_360_000, "3650d"),
        ] {
            assert_eq!(span(Duration::from_secs(secs)), told);
        }
    }

    #[test]
    fn one_thing_is_one_and_none_and_more_are_many() {
        let leaves = [0_usize, 1, 2].map(|count| counted(count, "leaf", "leaves"));
        assert_eq!(leaves, ["0 leaves", "1 leaf", "2 leaves"]);
    }

    #[test]
    fn a_crooked_span_is_told_in_two_units() {
        assert_eq!(span(Duration::from_secs(8_640_000 + 7_201)), "100d 2h");
        assert_eq!(span(Duration::from_secs(8_640_001)), "100d");
        assert_eq!(span(Duration::from_secs(125)), "2m 5s");
    }

    #[test]
    fn a_length_of_time_is_said_as_people_say_it() {
        let said = |secs| about(Duration::from_secs(secs));
        assert_eq!(
            [0, 45, 119, 120, 3_599, 5_400, 86_510, 172_800, 8_640_000].map(said),
            [
                "0 s",
                "45 s",
                "119 s",
                "about 2 min",
                "about 60 min",
                "about 2 h",
                "about 24 h",
                "about 2 days",
                "about 100 days"
            ]
        );
    }
}
