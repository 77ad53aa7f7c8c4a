//! What came of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// When this variable of the environment names a directory, [`Report::assert_conforms`] leaves each report there.
pub const REPORT_DIR: &str = "BANYAN_CONFORMANCE_REPORT_DIR";
/// Reports of one subject that a directory takes.
const REPORTS_MAX: u32 = 1_000;

/// What came of one rule.
pub type Verdict = Result<(), Broken>;

/// Why a rule did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The plugin breaks the rule.
    Failed(String),
    /// The rule could not be tried, since the plugin does not claim the ability.
    Skipped(String),
}

/// What came of all rules, in the order they were tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    subject: String,
    gaps: Gaps,
    verdicts: Vec<(&'static str, Verdict)>,
}

/// Rules that a plugin is known to break, each with the reason.
pub(crate) type Gaps = BTreeMap<String, String>;

impl Report {
    /// An empty report about a plugin, or about one way of setting it up.
    pub(crate) fn about(plugin: &str, variant: Option<&str>, gaps: &Gaps) -> Self {
        let subject =
            variant.map_or_else(|| plugin.to_owned(), |variant| format!("{plugin}-{variant}"));
        Self { subject, gaps: gaps.clone(), verdicts: Vec::new() }
    }

    /// Adds what came of a rule. A declared gap excuses a failure; one that is none any more is a failure itself.
    pub(crate) fn rule(&mut self, name: &'static str, verdict: Verdict) {
        let verdict = match (self.gaps.remove(name), verdict) {
            (Some(reason), Err(Broken::Failed(_))) => {
                Err(Broken::Skipped(format!("declared gap: {reason}")))
            }
            (Some(reason), _) => Err(Broken::Failed(format!(
                "it is declared as a gap ({reason}) and was not broken; remove the declaration"
            ))),
            (None, verdict) => verdict,
        };
        self.verdicts.push((name, verdict));
    }

    /// Ends the run: a gap in a rule that there is none of is a failure.
    pub(crate) fn ended(mut self) -> Self {
        for (name, reason) in std::mem::take(&mut self.gaps) {
            let why =
                format!("`{name}` is declared as a gap ({reason}), and there is no such rule");
            self.verdicts.push(("gaps-are-rules", Err(Broken::Failed(why))));
        }
        self
    }

    /// The plugin that was tried, and the way of setting it up: `file-kubernetes`. Key backends begin with `key-`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The names of the rules that failed.
    pub fn failed(&self) -> Vec<&'static str> {
        self.named(|verdict| matches!(verdict, Err(Broken::Failed(_))))
    }

    /// The names of the rules that could not be tried.
    pub fn skipped(&self) -> Vec<&'static str> {
        self.named(|verdict| matches!(verdict, Err(Broken::Skipped(_))))
    }

    /// The names of the rules that passed.
    pub fn passed(&self) -> Vec<&'static str> {
        self.named(Result::is_ok)
    }

    /// Every rule with what came of it, in the order they were tried.
    pub fn verdicts(&self) -> impl Iterator<Item = (&'static str, &Verdict)> {
        self.verdicts.iter().map(|(name, verdict)| (*name, verdict))
    }

    /// Ends a test. The report is left in the directory that the environment names in [`REPORT_DIR`], if it does.
    ///
    /// # Panics
    /// When a rule failed, and the message is the report; and when the report cannot be left.
    pub fn assert_conforms(&self) {
        if let Some(directory) = std::env::var_os(REPORT_DIR).filter(|value| !value.is_empty()) {
            let exported = self.export(Path::new(&directory));
            assert!(exported.is_ok(), "{REPORT_DIR} names a directory for reports: {exported:?}");
        }
        assert!(self.failed().is_empty(), "the plugin does not conform\n{self}");
    }

    /// Writes the report into a directory: a file `SUBJECT.tsv` with a line `rule, verdict, reason` for each rule, parted by
    /// tabs. A report of the same subject that is there already is left alone; this one is `SUBJECT-2.tsv` then.
    ///
    /// # Errors
    /// When the directory cannot be made or written into.
    pub fn export(&self, directory: &Path) -> io::Result<PathBuf> {
        std::fs::create_dir_all(directory)?;
        let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let subject: String = self.subject.chars().map(safe).collect();
        for n in 1..=REPORTS_MAX {
            let name = if n == 1 { format!("{subject}.tsv") } else { format!("{subject}-{n}.tsv") };
            let path = directory.join(name);
            match std::fs::File::create_new(&path) {
                Ok(mut file) => {
                    file.write_all(self.lines().as_bytes())?;
                    return Ok(path);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(format!("{} is full of reports about {subject}", directory.display())))
    }

    fn lines(&self) -> String {
        let line = |(name, verdict): (&str, &Verdict)| {
            let (word, why) = match verdict {
                Ok(()) => ("passed", ""),
                Err(Broken::Skipped(why)) => ("skipped", why.as_str()),
                Err(Broken::Failed(why)) => ("failed", why.as_str()),
            };
            let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            format!("{name}\t{word}\t{why}\n")
        };
        self.verdicts().map(line).collect()
    }

    fn named(&self, wanted: impl Fn(&Verdict) -> bool) -> Vec<&'static str> {
        self.verdicts.iter().filter(|(_, verdict)| wanted(verdict)).map(|(name, _)| *name).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, verdict) in &self.verdicts {
            match verdict {
                Ok(()) => writeln!(f, "  passed   {name}")?,
                Err(Broken::Skipped(why)) => writeln!(f, "  skipped  {name}: {why}")?,
                Err(Broken::Failed(why)) => writeln!(f, "  FAILED   {name}: {why}")?,
            }
        }
        Ok(())
    }
}

/// Fails the rule unless something holds.
pub(crate) fn demand(holds: bool, otherwise: impl Into<String>) -> Verdict {
    if holds { Ok(()) } else { Err(Broken::Failed(otherwise.into())) }
}

/// Fails the rule when a call that must work does not.
pub(crate) fn works<T, E: fmt::Display>(call: &str, result: Result<T, E>) -> Result<T, Broken> {
    result.map_err(|error| Broken::Failed(format!("{call} failed: {error}")))
}

/// Fails the rule unless a call was refused in the right way.
pub(crate) fn refused<T: fmt::Debug, E: fmt::Debug>(
    call: &str,
    result: &Result<T, E>,
    as_what: &str,
    right: impl FnOnce(&E) -> bool,
) -> Verdict {
    demand(
        result.as_ref().is_err_and(right),
        format!("{call} must be refused as {as_what}, and gave {result:?}"),
    )
}

/// Stops the rule without a verdict.
pub(crate) fn skip<T>(why: &str) -> Result<T, Broken> {
    Err(Broken::Skipped(why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(names: &[&str]) -> Gaps {
        names.iter().map(|name| ((*name).to_owned(), "why".to_owned())).collect()
    }

    fn failed(why: &str) -> Verdict {
        Err(Broken::Failed(why.to_owned()))
    }

    #[test]
    fn a_declared_gap_excuses_its_rule_alone_and_only_while_it_is_one() {
        let mut report = Report::about("p", None, &gaps(&["a", "b", "no-rule"]));
        report.rule("a", failed("x"));
        report.rule("b", Ok(()));
        report.rule("c", failed("x"));
        let report = report.ended();
        assert_eq!(report.skipped(), ["a"]);
        assert_eq!(report.failed(), ["b", "c", "gaps-are-rules"]);
    }

    #[test]
    fn a_report_is_a_file_and_a_second_one_does_not_replace_it() {
        let directory = std::env::temp_dir().join(format!("banyan-reports-{}", std::process::id()));
        let mut report = Report::about("p/q", Some("v"), &Gaps::new());
        report.rule("a", Ok(()));
        report.rule("b", failed("one\ntwo\tthree"));
        let first = report.export(&directory).expect("written");
        let second = report.export(&directory).expect("written");
        let read = |path: &Path| std::fs::read_to_string(path).expect("read");
        assert_eq!(read(&first), "a\tpassed\t\nb\tfailed\tone two three\n");
        assert_eq!(read(&first), read(&second));
        let names =
            [&first, &second].map(|path| path.strip_prefix(&directory).expect("inside").to_owned());
        assert_eq!(names, [PathBuf::from("p_q-v.tsv"), PathBuf::from("p_q-v-2.tsv")]);
        std::fs::remove_dir_all(&directory).expect("removed");
    }
}
