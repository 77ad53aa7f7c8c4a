//! Section `[rotation.schedule]`: when rotations that nobody asks for may begin.

use control::schedule::{Expression, Freeze, Schedule, Window, Zone};
use plugins::ConfigProblem;
use trust::plain::span;

use super::leaf::LeafConfig;
use super::reader::Section;

/// Most windows, and most freezes.
const MANY: usize = 100;

/// Reads the section; `is_there` says whether the file has it.
pub(super) fn schedule(
    table: &toml::Table,
    is_there: bool,
    leaf: Option<&LeafConfig>,
    problems: &mut Vec<ConfigProblem>,
) -> Option<Schedule> {
    let mut section = Section::open("rotation.schedule", table, problems);
    let zone = section.parsed_or(
        "zone",
        "UTC",
        "the name of a time zone, such as \"Europe/Berlin\"",
        Zone::parse,
    );
    let write = "minute, hour, day, month and day of the week, such as \"0 3 1 */3 *\"";
    let cron = match table.contains_key("cron") {
        true => section.parsed("cron", write, Expression::parse).map(Some),
        // Known, though absent.
        false => Some(section.optional::<String>("cron", write).and(None)),
    };
    let here = zone.clone().unwrap_or_else(Zone::utc);
    let apart = cron.as_ref().and_then(|cron| cron.as_ref()?.least_apart(&here));
    if let (Some(apart), Some(leaf)) = (apart, leaf)
        && apart < leaf.ttl_max() * 4
    {
        let (apart, least) = (span(apart), span(leaf.ttl_max() * 4));
        section.problem(
            "cron",
            format_args!(
                "has due times {apart} apart, and a rotation takes longer: write one with at least {least} (four times leaf.ttl_max) \
                 between them"
            ),
        );
    }
    let windows = windows(&mut section);
    let freezes = freezes(&mut section, &here);
    let make_up_within = section.duration("make_up_within", "24h", ["1m", "30d"]);
    let before_expiry = section.optional("before_expiry", "true or false").unwrap_or(is_there);
    let on_config_change = section.optional("on_config_change", "true or false").unwrap_or(false);
    section.close();
    Some(Schedule {
        cron: cron?,
        windows,
        freezes,
        make_up_within: make_up_within?,
        before_expiry,
        on_config_change,
        ..Schedule::within(zone?)
    })
}

fn windows(section: &mut Section<'_>) -> Vec<Window> {
    let write = "a list such as [\"Mon-Fri 02:00-05:00\", \"22:00-04:00\"]";
    let texts: Vec<String> = section.optional("windows", write).unwrap_or_default();
    if texts.len() > MANY {
        section.problem("windows", format_args!("has more than {MANY}; write fewer"));
    }
    let mut windows = Vec::new();
    for text in texts {
        match Window::parse(&text) {
            Ok(window) => windows.push(window),
            Err(error) => {
                section.problem(
                    "windows",
                    format_args!("{text:?} is not right ({error}); write {write}"),
                );
            }
        }
    }
    windows
}

fn freezes(section: &mut Section<'_>, zone: &Zone) -> Vec<Freeze> {
    let write = "tables [[rotation.schedule.freeze]] with name, from and until";
    let tables: Vec<toml::Table> = section.optional("freeze", write).unwrap_or_default();
    if tables.len() > MANY {
        section.problem("freeze", format_args!("there are more than {MANY}; write fewer"));
    }
    let mut freezes: Vec<Freeze> = Vec::new();
    for table in tables {
        let text = |key: &str| table.get(key).and_then(toml::Value::as_str);
        let (Some(name), Some(from), Some(until), 3) =
            (text("name"), text("from"), text("until"), table.len())
        else {
            section.problem("freeze", format_args!("has other keys or no texts; write {write}"));
            continue;
        };
        if freezes.iter().any(|other| other.name() == name) {
            section.problem("freeze", format_args!("{name:?} is there twice; write another name"));
        }
        match Freeze::new(name, from, until, zone) {
            Ok(freeze) => freezes.push(freeze),
            Err(error) => section.problem("freeze", format_args!("{name:?}: {error}")),
        }
    }
    freezes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Schedule, String> {
        let file: toml::Table = text.parse().unwrap();
        let mut problems = Vec::new();
        let read = schedule(&file, !file.is_empty(), None, &mut problems);
        match read {
            Some(schedule) if problems.is_empty() => Ok(schedule),
            _ => Err(problems.iter().map(|problem| format!("{problem}\n")).collect()),
        }
    }

    #[test]
    fn without_the_section_nothing_is_scheduled_and_with_it_a_root_is_replaced_before_it_ends() {
        let none = read("").unwrap();
        assert!(none.cron.is_none() && !none.before_expiry && !none.on_config_change);
        assert!(read("zone = \"UTC\"\n").unwrap().before_expiry);
        assert!(!read("before_expiry = false\n").unwrap().before_expiry);
    }

    #[test]
    fn a_whole_section_is_read() {
        let whole = read(
            "cron = \"0 3 1 */3 *\"\nzone = \"Europe/Berlin\"\nwindows = [\"Mon-Fri 02:00-05:00\"]\nmake_up_within = \"2d\"\n\
             on_config_change = true\n[[freeze]]\nname = \"christmas\"\nfrom = \"2026-12-20\"\nuntil = \"2027-01-06\"\n",
        )
        .unwrap();
        assert!(whole.cron.is_some() && whole.on_config_change);
        assert_eq!((whole.windows.len(), whole.freezes.len()), (1, 1));
        assert_eq!(whole.freezes[0].name(), "christmas");
    }

    #[test]
    fn every_fault_is_told_with_its_key() {
        for (text, key, why) in [
            ("cron = \"0 3 30 2 *\"", "rotation.schedule.cron", "no time that ever comes"),
            ("zone = \"Europe/Nowhere\"", "rotation.schedule.zone", "no such time zone"),
            ("windows = [\"Mon 9-17\"]", "rotation.schedule.windows", "Mon-Fri 02:00-05:00"),
            ("windows = \"02:00-05:00\"", "rotation.schedule.windows", "a list"),
            ("[[freeze]]\nname = \"x\"", "rotation.schedule.freeze", "name, from and until"),
            (
                "[[freeze]]\nname = \"x\"\nfrom = \"2026-12-20\"\nuntil = \"2026-12-01\"",
                "rotation.schedule.freeze",
                "ends before it begins",
            ),
            ("hour = 3", "rotation.schedule.hour", "is not a key here"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(key) && said.contains(why), "{text}: {said}");
        }
    }
}
