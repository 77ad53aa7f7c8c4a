//! The settings of the plugin.

use std::path::{Path, PathBuf};

use plugins::{ConfigProblem, ConfigTable};

/// Where the files are, and what they are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `directory`: where they lie. Required.
    pub(crate) directory: PathBuf,
    /// `layout`: `istio`, `kubernetes`, or `auto` (default), which takes the first of the two whose certificate is there.
    pub(crate) layout: Layout,
    /// `exclusive`: whether nobody else issues under these roots. Default false.
    pub(crate) exclusive: bool,
}

/// What the files are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Auto,
    Istio,
    Kubernetes,
}

impl Settings {
    pub(crate) fn read(table: &toml::Table, base: &Path) -> Result<Self, Vec<ConfigProblem>> {
        let mut fields = ConfigTable::new(table);
        let directory: Option<PathBuf> = fields.required("directory");
        let layout: Option<String> = fields.optional("layout");
        let exclusive = fields.optional("exclusive").unwrap_or(false);
        let layout = match layout.as_deref() {
            None | Some("auto") => Layout::Auto,
            Some("istio") => Layout::Istio,
            Some("kubernetes") => Layout::Kubernetes,
            Some(other) => {
                fields.problem("layout", format!("\"{other}\" is none; write auto, istio or kubernetes"));
                Layout::Auto
            }
        };
        fields.finish(directory.map(|path| Self { directory: base.join(path), layout, exclusive }))
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
        let settings = read("directory = 'cacerts'").expect("reads");
        assert_eq!(settings.directory, Path::new("/etc/banyan/cacerts"));
        assert_eq!((settings.layout, settings.exclusive), (Layout::Auto, false));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let problems = read("layout = 'x'\nexclusive = 3\nkey = 'a'").expect_err("four problems");
        let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, ["directory", "exclusive", "layout", "key"]);
    }
}
