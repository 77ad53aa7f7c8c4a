//! The settings of the plugin.

use std::path::{Path, PathBuf};
use std::time::Duration;

use plugins::{ConfigProblem, ConfigTable};

const LOOK_EVERY_DEFAULT_SECS: u64 = 10;
const LOOK_EVERY_MAX_SECS: u64 = 3_600;

/// Where requests go and answers come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `directory`: where `outbox`, `inbox` and `done` lie; made if missing. Required.
    pub(crate) directory: PathBuf,
    /// `exclusive`: whether nobody else issues under these roots. Default false.
    pub(crate) exclusive: bool,
    /// `look_every_secs`: how long a caller waits before the inbox is looked at again. Default 10 s, 1 s to an hour.
    pub(crate) look_every: Duration,
}

impl Settings {
    pub(crate) fn read(table: &toml::Table, base: &Path) -> Result<Self, Vec<ConfigProblem>> {
        let mut fields = ConfigTable::new(table);
        let directory: Option<PathBuf> = fields.required("directory");
        let exclusive = fields.optional("exclusive").unwrap_or(false);
        let look_every: u64 = fields.optional("look_every_secs").unwrap_or(LOOK_EVERY_DEFAULT_SECS);
        if !(1..=LOOK_EVERY_MAX_SECS).contains(&look_every) {
            fields.problem("look_every_secs", format!("must be 1 to {LOOK_EVERY_MAX_SECS}"));
        }
        let look_every = Duration::from_secs(look_every);
        fields.finish(directory.map(|path| Self { directory: base.join(path), exclusive, look_every }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, Vec<ConfigProblem>> {
        Settings::read(&text.parse().expect("toml"), Path::new("/etc/banyan"))
    }

    #[test]
    fn a_directory_is_enough_and_is_beside_the_configuration() {
        let settings = read("directory = 'ceremonies'").expect("reads");
        assert_eq!(settings.directory, Path::new("/etc/banyan/ceremonies"));
        assert_eq!((settings.exclusive, settings.look_every), (false, Duration::from_secs(10)));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let problems = read("exclusive = 3\nlook_every_secs = 0\ninbox = 'a'").expect_err("four problems");
        let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, ["directory", "exclusive", "look_every_secs", "inbox"]);
    }
}
