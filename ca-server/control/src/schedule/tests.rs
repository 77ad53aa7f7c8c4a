use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp::from_secs(text.parse::<jiff::Timestamp>().unwrap().as_second())
}

fn berlin(cron: &str) -> Schedule {
    let cron = Some(Expression::parse(cron).unwrap());
    Schedule { cron, ..Schedule::within(Zone::parse("Europe/Berlin").unwrap()) }
}

#[test]
fn due_times_follow_the_zone_through_summer_and_winter() {
    let schedule = berlin("0 3 1 */3 *");
    let next = schedule.next_due(at("2026-03-15T00:00:00Z"), 4);
    let wanted = [
        "2026-04-01T01:00:00Z",
        "2026-07-01T01:00:00Z",
        "2026-10-01T01:00:00Z",
        "2027-01-01T02:00:00Z",
    ];
    assert_eq!(next, wanted.map(at));
    assert_eq!(schedule.last_due(at("2026-04-01T01:00:00Z")), Some(at("2026-04-01T01:00:00Z")));
    assert_eq!(schedule.last_due(at("2026-04-01T00:59:59Z")), Some(at("2026-01-01T02:00:00Z")));
    assert_eq!(schedule.zone.told(next[0]), "2026-04-01T03:00:00+02:00[Europe/Berlin]");
}

#[test]
fn a_due_time_that_the_clock_skips_comes_right_after_and_one_that_comes_twice_is_due_once() {
    // 2026-03-29: 02:00 becomes 03:00. 2026-10-25: 03:00 becomes 02:00.
    let schedule = berlin("30 2 * * *");
    let spring = schedule.next_due(at("2026-03-28T12:00:00Z"), 2);
    assert_eq!(spring, ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"].map(at));
    for now in ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-29T23:00:00Z"] {
        assert_eq!(schedule.last_due(at(now)), Some(spring[0]), "{now}");
    }
    let autumn = schedule.next_due(at("2026-10-24T12:00:00Z"), 2);
    assert_eq!(autumn, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"].map(at));
    for now in ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T12:00:00Z"] {
        assert_eq!(schedule.last_due(at(now)), Some(autumn[0]), "{now}");
    }
}

#[test]
fn what_is_no_expression_or_never_comes_is_refused() {
    for bad in ["", "* * * *", "0 0 3 1 * *", "61 * * * *", "0 3 30 2 *", "tomorrow"] {
        assert!(Expression::parse(bad).is_err(), "{bad}");
    }
    assert!(Zone::parse("Europe/Berlin").is_ok() && Zone::parse("UTC").is_ok());
    assert!(Zone::parse("Mars/Olympus").is_err());
    let often = Expression::parse("0,10 * * * *").unwrap();
    assert_eq!(often.least_apart(&Zone::utc()), Some(Duration::from_secs(600)));
}

#[test]
fn windows_are_days_and_times_and_may_go_over_midnight() {
    let zone = Zone::utc();
    let holds = |window: &str, time: &str| {
        Window::parse(window).unwrap().holds(&zone.at(at(time)).unwrap())
    };
    // 2026-11-30 is a Monday.
    for (window, time, is) in [
        ("Mon-Fri 02:00-05:00", "2026-11-30T02:00:00Z", true),
        ("Mon-Fri 02:00-05:00", "2026-11-30T05:00:00Z", false),
        ("Mon-Fri 02:00-05:00", "2026-11-29T03:00:00Z", false),
        ("Sat,Sun 00:00-24:00", "2026-11-29T23:59:59Z", true),
        ("Fri-Mon 12:00-13:00", "2026-11-29T12:30:00Z", true),
        ("Fri-Mon 12:00-13:00", "2026-12-01T12:30:00Z", false),
        ("22:00-04:00", "2026-11-30T23:00:00Z", true),
        ("22:00-04:00", "2026-11-30T03:59:00Z", true),
        ("22:00-04:00", "2026-11-30T04:00:00Z", false),
        ("Sun 22:00-04:00", "2026-11-30T03:00:00Z", true),
        ("Sun 22:00-04:00", "2026-12-01T03:00:00Z", false),
    ] {
        assert_eq!(holds(window, time), is, "{window} at {time}");
    }
    for bad in [
        "",
        "Mon",
        "Mon-Fri",
        "2:00-5:00",
        "25:00-26:00",
        "24:00-02:00",
        "03:00-03:00",
        "Mo 02:00-03:00",
    ] {
        assert!(Window::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_freeze_holds_its_last_day_and_the_next_open_moment_is_found_behind_it() {
    let zone = Zone::parse("Europe/Berlin").unwrap();
    let christmas = Freeze::new("christmas", "2026-12-20", "2027-01-06", &zone).unwrap();
    assert_eq!(christmas.until(), at("2027-01-06T23:00:00Z"));
    let schedule = Schedule {
        windows: vec![Window::parse("Sat 02:00-05:00").unwrap()],
        freezes: vec![christmas],
        ..Schedule::within(zone.clone())
    };
    let frozen = at("2026-12-26T02:00:00Z");
    assert_eq!(schedule.closed(frozen), Some(Closed::Freeze("christmas".to_owned())));
    assert_eq!(schedule.opens(frozen), Some(at("2027-01-09T01:00:00Z")), "a Saturday");
    assert_eq!(schedule.closed(at("2027-01-09T01:00:00Z")), None);
    assert_eq!(schedule.opens(at("2026-12-10T12:00:00Z")), Some(at("2026-12-12T01:00:00Z")));
    assert_eq!(schedule.closed(at("2026-12-10T12:00:00Z")), Some(Closed::Window));
    for (from, until) in
        [("2026-12-20", "2026-12-19"), ("christmas", "2027-01-06"), ("2026-13-01", "2027-01-06")]
    {
        assert!(Freeze::new("x", from, until, &zone).is_err(), "{from} {until}");
    }
    let never = Schedule {
        freezes: vec![Freeze::new("for ever", "2020-01-01", "2099-01-01", &zone).unwrap()],
        ..Schedule::within(zone)
    };
    assert_eq!(never.opens(at("2026-12-10T12:00:00Z")), None);
}
