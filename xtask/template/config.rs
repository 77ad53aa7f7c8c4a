//! The settings of `[authority.NAME]` with `plugin = "acme"`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use plugins::{ConfigProblem, ConfigTable};

const DAY: u64 = 86_400;

/// What the section says. FILL IN: a field for each setting, with its default and its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `token_file`: what opens Acme, in a file. Default none.
    pub(crate) token_file: Option<PathBuf>,
    /// `lifetime_days`: life of the root, 1 to 36500. Default 3650.
    pub(crate) lifetime: Duration,
}

impl Settings {
    /// Reads the section; relative paths are relative to `base`.
    pub(crate) fn read(table: &toml::Table, base: &Path) -> Result<Self, Vec<ConfigProblem>> {
        let mut fields = ConfigTable::new(table);
        let token_file = fields.optional::<PathBuf>("token_file").map(|path| base.join(path));
        let days: u64 = fields.optional("lifetime_days").unwrap_or(3650);
        if !(1..=36_500).contains(&days) {
            fields.problem("lifetime_days", "is out of bounds; write 1 to 36500");
        }
        fields.finish(Some(Self { token_file, lifetime: Duration::from_secs(days * DAY) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_told_at_once() {
        let table = "lifetime_days = 0\ntoken = 'x'".parse().expect("toml");
        let problems = Settings::read(&table, Path::new("")).expect_err("two problems");
        let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, ["lifetime_days", "token"]);
    }

    #[test]
    fn paths_start_at_the_configuration() {
        let table = "token_file = 'token'".parse().expect("toml");
        let settings = Settings::read(&table, Path::new("/etc/banyan")).expect("reads");
        assert_eq!(settings.token_file, Some(PathBuf::from("/etc/banyan/token")));
    }
}
