//! Section `[crl]`.

use control::crl::CrlSettings;
use plugins::ConfigProblem;
use trust::plain::span;

use super::leaf::LeafConfig;
use super::reader::Section;

/// Section `[crl]`.
#[derive(Debug, Clone)]
pub struct CrlConfig(Option<CrlSettings>);

impl CrlConfig {
    /// How revocation lists are kept, if they are: with `enabled`, by default `false`. `every` is `1h` by default, `10s` to `7d`;
    /// `lifetime` is seven times `leaf.ttl_max` by default, and at least twice that and four times `every`, at most `366d`; `keep` is
    /// `60s` by default, `2s` to `1d`, and at most a quarter of `lifetime`.
    pub const fn settings(&self) -> Option<CrlSettings> {
        self.0
    }
}

pub(super) fn crl(
    table: &toml::Table,
    leaf: Option<&LeafConfig>,
    problems: &mut Vec<ConfigProblem>,
) -> Option<CrlConfig> {
    let mut section = Section::open("crl", table, problems);
    let enabled = section.optional("enabled", "true or false").unwrap_or(false);
    let every = section.duration("every", "1h", ["10s", "7d"]);
    let keep = section.duration("keep", "60s", ["2s", "1d"]);
    let ttl_max = leaf.map(LeafConfig::ttl_max);
    let usual = span(ttl_max.unwrap_or_default().max(every.unwrap_or_default()) * 7);
    let lifetime = section.duration("lifetime", &usual, ["40s", "366d"]);
    if let (Some(lifetime), Some(every), Some(ttl_max)) = (lifetime, every, ttl_max) {
        let least = (ttl_max * 2).max(every * 4);
        // A proxy whose agent is gone keeps its last list: it must have lost its leaf by then.
        if lifetime < least {
            section.problem(
                "lifetime",
                format_args!(
                    "is shorter than twice leaf.ttl_max or four times crl.every; write at least \"{}\": a list that has ended makes verifiers \
                     refuse everybody",
                    span(least)
                ),
            );
        }
    }
    if let (Some(lifetime), Some(keep)) = (lifetime, keep)
        && keep > lifetime / 4
    {
        let most = span(lifetime / 4);
        section.problem(
            "keep",
            format_args!("is longer than a quarter of crl.lifetime; write at most \"{most}\""),
        );
    }
    section.close();
    let settings =
        CrlSettings { every: every?, lifetime: lifetime?, keep: keep?, skew: leaf?.skew() };
    Some(CrlConfig(enabled.then_some(settings)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(text: &str) -> Result<Option<CrlSettings>, String> {
        let (mut problems, table) = (Vec::new(), toml::Table::new());
        let leaf = super::super::leaf::leaf(&table, &mut problems);
        let read = crl(&text.parse().unwrap(), leaf.as_ref(), &mut problems);
        match problems.first() {
            None => Ok(read.unwrap().settings()),
            Some(problem) => Err(problem.to_string()),
        }
    }

    #[test]
    fn lists_are_off_by_default_and_outlive_leaves_when_they_are_on() {
        let (hour, day) = (Duration::from_secs(3_600), Duration::from_secs(86_400));
        assert_eq!(read("").unwrap(), None);
        let on = read("enabled = true").unwrap().unwrap();
        assert_eq!((on.every, on.lifetime, on.keep), (hour, day * 7, Duration::from_secs(60)));
        let short = read("enabled = true\nlifetime = \"47h\"").unwrap_err();
        assert!(short.contains("crl.lifetime") && short.contains("at least \"2d\""), "{short}");
        let seldom = read("enabled = true\nevery = \"3d\"\nlifetime = \"11d\"").unwrap_err();
        assert!(seldom.contains("at least \"12d\""), "{seldom}");
        let long = read("enabled = true\nlifetime = \"2d\"\nkeep = \"13h\"").unwrap_err();
        assert!(long.contains("crl.keep") && long.contains("at most \"12h\""), "{long}");
        assert!(read("enabled = 1").is_err() && read("every = \"1s\"").is_err());
    }
}
