//! Sections `[neighbor.*]`: CAs of the same trust domain whose roots everybody here trusts too.

use std::collections::BTreeMap;
use std::time::Duration;

use plugins::ConfigProblem;
use rotation::AuthorityName;

use super::reader::Section;
use super::root::AuthorityConfig;

/// What a neighbor is asked with: the plugin that speaks to another CA of this kind.
const PLUGIN: &str = "banyan";

/// One section `[neighbor.NAME]`.
#[derive(Debug, Clone)]
pub struct NeighborConfig {
    name: String,
    asked: AuthorityConfig,
    keep: Duration,
    leave: bool,
}

impl NeighborConfig {
    /// The neighbor's name: the last part of the section's title.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is asked: `address`, `server_name`, `ca_file`, `token_file`, as of the plugin `banyan`.
    pub const fn asked(&self) -> &AuthorityConfig {
        &self.asked
    }

    /// `keep`: how long a root stays trusted that the neighbor no longer names, beyond `rotation.settle`. Default `0s`, at most
    /// `3650d`: a Banyan lets a root go when no leaf of it lives.
    pub const fn keep(&self) -> Duration {
        self.keep
    }

    /// `leave`: the trust in its roots ends, whatever it says; the section can go when they have left the bundle. Default false.
    pub const fn leave(&self) -> bool {
        self.leave
    }
}

pub(super) fn neighbors(
    sections: &toml::Table,
    authorities: &toml::Table,
    problems: &mut Vec<ConfigProblem>,
) -> Option<BTreeMap<String, NeighborConfig>> {
    for name in authorities.keys().filter(|name| name.starts_with(AuthorityName::NEIGHBOR)) {
        let problem = format!(
            "is the name of a neighbor; write [neighbor.NAME] for a CA whose roots are trusted beside yours, or leave out \"{}\"",
            AuthorityName::NEIGHBOR
        );
        problems.push(ConfigProblem::new(format!("authority.{name}"), problem));
    }
    let read = sections.iter().map(|(name, value)| {
        let neighbor = neighbor(name, value, problems)?;
        Some((name.clone(), neighbor))
    });
    // Every problem of every section is told.
    let read: Vec<_> = read.collect();
    read.into_iter().collect()
}

fn neighbor(
    name: &str,
    value: &toml::Value,
    problems: &mut Vec<ConfigProblem>,
) -> Option<NeighborConfig> {
    let field = format!("neighbor.{name}");
    let Some(table) = value.as_table() else {
        problems.push(ConfigProblem::new(&field, format!("is not a table; write [{field}]")));
        return None;
    };
    if let Err(error) = AuthorityName::of_neighbor(name) {
        problems.push(ConfigProblem::new(&field, error.to_string()));
        return None;
    }
    let mut settings = table.clone();
    let own: toml::Table = ["keep", "leave"]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), settings.remove(key)?)))
        .collect();
    let mut section = Section::open(&field, &own, problems);
    let keep = section.duration("keep", "0s", ["0s", "3650d"]);
    let leave = section.optional("leave", "true or false").unwrap_or(false);
    section.close();
    let asked = AuthorityConfig::plain(&field, PLUGIN.to_owned(), settings);
    Some(NeighborConfig { name: name.to_owned(), asked, keep: keep?, leave })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    fn read(lines: &str) -> Result<Config, String> {
        let text = format!(
            "trust_domain = \"example.org\"\ndata_dir = \"/d\"\n[keys]\npassphrase_env = \"P\"\n{lines}"
        );
        Config::parse(&text, Path::new("/etc/banyan")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_neighbor_is_asked_as_an_upstream_ca_is_and_never_is_an_authority() {
        let config = read("[neighbor.east]\naddress = \"a:1\"\nkeep = \"1h\"").unwrap();
        let east = &config.neighbors()["east"];
        assert_eq!((east.asked().plugin(), east.asked().name()), ("banyan", "neighbor.east"));
        assert_eq!((east.keep().as_secs(), east.leave()), (3_600, false));
        assert!(!east.asked().settings().contains_key("keep"));
        assert!(!config.root().authorities().contains_key("neighbor.east"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        for (lines, told) in [
            ("[neighbor]\neast = 1", "neighbor.east`: is not a table"),
            ("[neighbor.east]\nkeep = \"soon\"", "neighbor.east.keep"),
            ("[neighbor.east]\nleave = 1", "neighbor.east.leave"),
            ("[neighbor.\"a/b\"]\nkeep = \"1h\"", "neighbor.a/b"),
            (
                "[authority.main]\nplugin = \"self-signed\"\n[authority.\"neighbor.x\"]\nplugin = \"self-signed\"",
                "authority.neighbor.x`: is the name of a neighbor",
            ),
        ] {
            let error = read(lines).unwrap_err();
            assert!(error.contains(told), "{lines}: {error}");
        }
    }
}
