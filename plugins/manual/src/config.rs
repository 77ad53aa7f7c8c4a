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
    /// `exclusive`: whether nobody else issues under these roots. Required: a root keeps what was said when it came, and
    /// only the operator knows whose it is.
    pub(crate) exclusive: bool,
    /// `look_every_secs`: how long a caller waits before the inbox is looked at again. Default 10 s, 1 s to an hour.
    pub(crate) look_every: Duration,
}

impl Settings {
    pub(crate) fn read(table: &toml::Table, base: &Path) -> Result<Self, Vec<ConfigProblem>> {
        let mut fields = ConfigTable::new(table);
        let directory: Option<PathBuf> = fields.required("directory");
        let exclusive: Option<bool> = fields.optional("exclusive");
        if exclusive.is_none() && !table.contains_key("exclusive") {
            fields.problem(
                "exclusive",
                "missing: write true if the offline root is made for this mesh alone, so that nobody else issues under it; \
                 write false if others do, and the mesh leaves that root only when they have stopped (foreign_leaf_max)",
            );
        }
        let look_every: u64 = fields.optional("look_every_secs").unwrap_or(LOOK_EVERY_DEFAULT_SECS);
        if !(1..=LOOK_EVERY_MAX_SECS).contains(&look_every) {
            fields.problem("look_every_secs", format!("must be 1 to {LOOK_EVERY_MAX_SECS}"));
        }
        let look_every = Duration::from_secs(look_every);
        fields.finish(directory.zip(exclusive).map(|(path, exclusive)| Self {
            directory: base.join(path),
            exclusive,
            look_every,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, Vec<ConfigProblem>> {
        Settings::read(&text.parse().expect("toml"), Path::new("/etc/banyan"))
    }

    #[test]
    fn a_directory_is_beside_the_configuration() {
        let settings = read("directory = 'ceremonies'\nexclusive = false").expect("reads");
        assert_eq!(settings.directory, Path::new("/etc/banyan/ceremonies"));
        assert_eq!((settings.exclusive, settings.look_every), (false, Duration::from_secs(10)));
    }

    /// The page of the plugin.
    const PAGE: &str = include_str!("../../../docs/plugins/manual.md");

    #[test]
    fn the_snippet_of_the_page_makes_a_root_that_is_this_mesh_s_alone() {
        let snippet = PAGE
            .split("```toml\n")
            .nth(1)
            .and_then(|rest| rest.split("```").next())
            .expect("a snippet");
        let table: toml::Table = snippet.parse().expect("toml");
        let section = table["authority"]["offline"].as_table().expect("a section").clone();
        let of_the_plugin = |key: &str| !["plugin", "foreign_leaf_max"].contains(&key);
        let section: toml::Table =
            section.into_iter().filter(|(key, _)| of_the_plugin(key)).collect();
        let settings = Settings::read(&section, Path::new("/etc/banyan"))
            .expect("the page's own snippet reads");
        assert!(settings.exclusive, "with it the way off this root needs nobody's word");
    }

    #[test]
    fn whose_a_root_is_must_be_said() {
        let problems = read("directory = 'ceremonies'").expect_err("nothing is said of it");
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert_eq!(problem.field, "exclusive");
        assert!(
            problem.problem.contains("write true if the offline root is made for this mesh alone"),
            "{problem:?}"
        );
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let problems =
            read("exclusive = 3\nlook_every_secs = 0\ninbox = 'a'").expect_err("four problems");
        let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, ["directory", "exclusive", "look_every_secs", "inbox"]);
    }
}
