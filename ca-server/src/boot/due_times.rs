//! What `[rotation.schedule]` comes to, for who checks the file.

use control::schedule::Schedule;
use trust::Timestamp;

/// Due times that are named.
const NAMED: usize = 3;

/// The next due times, with when a rotation may begin; nothing without a schedule.
pub(super) fn notes(schedule: &Schedule, now: Timestamp) -> Vec<String> {
    let zone = &schedule.zone;
    let one = |due: &Timestamp| match schedule.opens(*due) {
        Some(opens) if opens == *due => zone.told(*due),
        Some(opens) if opens.since(*due) <= schedule.make_up_within => {
            format!("{} (begins at {})", zone.told(*due), zone.told(opens))
        }
        _ => format!(
            "{} (MISSED: windows and freezes leave no moment within make_up_within)",
            zone.told(*due)
        ),
    };
    let next: Vec<_> = schedule.next_due(now, NAMED).iter().map(one).collect();
    let mut notes = Vec::new();
    if !next.is_empty() {
        notes.push(format!("rotation.schedule: the next due times are {}", next.join(", ")));
    }
    let last = schedule.last_due(now);
    if let Some(last) = last.filter(|last| now.since(*last) <= schedule.make_up_within) {
        notes.push(format!(
            "rotation.schedule: where no rotation came of the due time {}, one begins as soon as the server runs (make_up_within)",
            zone.told(last)
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use control::schedule::{Expression, Freeze, Window, Zone};

    use super::*;

    /// 2027-01-15T08:00:00Z, a Friday.
    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[test]
    fn the_next_due_times_are_named_with_when_a_rotation_may_begin() {
        let schedule = Schedule {
            cron: Some(Expression::parse("0 9 * * *").unwrap()),
            windows: vec![Window::parse("09:00-10:00").unwrap()],
            freezes: vec![
                Freeze::new("sale", "2027-01-16", "2027-01-16T12:00", &Zone::utc()).unwrap(),
            ],
            make_up_within: Duration::from_secs(12 * 3_600),
            ..Schedule::default()
        };
        let said = notes(&schedule, NOW);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0]
                .contains("2027-01-15T09:00:00+00:00[UTC], 2027-01-16T09:00:00+00:00[UTC] (MISSED"),
            "{said:?}"
        );
        let wider = Schedule { make_up_within: Duration::from_secs(86_400), ..schedule };
        let said = notes(&wider, NOW);
        assert!(said[0].contains("(begins at 2027-01-17T09:00:00+00:00[UTC])"), "{said:?}");
        assert!(
            said[1].contains("no rotation came of the due time 2027-01-14T09:00:00"),
            "{said:?}"
        );
        assert_eq!(notes(&Schedule::default(), NOW), Vec::<String>::new());
    }
}
