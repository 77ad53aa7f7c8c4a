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
    /// `further_roots`: what becomes of roots in the file of roots beside the one that signs: `trust`, `refuse`, `leave_out`,
    /// or `warn`, which leaves them out and says so. Without it they are trusted, which is what the file means in Istio, and
    /// that is said until somebody decides.
    pub(crate) further_roots: FurtherRoots,
}

/// What becomes of roots beside the one that signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FurtherRoots {
    /// Nobody has decided: they are trusted, aloud.
    Undecided,
    Warn,
    Trust,
    LeaveOut,
    Refuse,
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
                fields.problem(
                    "layout",
                    format!("\"{other}\" is none; write auto, istio or kubernetes"),
                );
                Layout::Auto
            }
        };
        let further: Option<String> = fields.optional("further_roots");
        let further_roots = match further.as_deref() {
            None => FurtherRoots::Undecided,
            Some("warn") => FurtherRoots::Warn,
            Some("trust") => FurtherRoots::Trust,
            Some("leave_out") => FurtherRoots::LeaveOut,
            Some("refuse") => FurtherRoots::Refuse,
            Some(other) => {
                let problem =
                    format!("\"{other}\" is none; write warn, trust, leave_out or refuse");
                fields.problem("further_roots", problem);
                FurtherRoots::Refuse
            }
        };
        let settings = |path| Self { directory: base.join(path), layout, exclusive, further_roots };
        fields.finish(directory.map(settings))
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
        assert_eq!(settings.further_roots, FurtherRoots::Undecided, "loud by default");
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let problems = read("layout = 'x'\nexclusive = 3\nkey = 'a'\nfurther_roots = 'x'")
            .expect_err("five problems");
        let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, ["directory", "exclusive", "layout", "further_roots", "key"]);
    }
}
