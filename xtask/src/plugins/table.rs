//! Reports of the conformance suite, side by side.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

/// Reports by subject.
#[derive(Debug, Default)]
pub(crate) struct Table {
    reports: BTreeMap<String, Report>,
}

/// A rule, what came of it, and why.
type Line = (String, Verdict, String);
type Report = Vec<Line>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Skipped,
    Failed,
}

impl Table {
    /// Reads every report in a directory.
    pub(crate) fn read(directory: &Path) -> anyhow::Result<Self> {
        let mut table = Self::default();
        for entry in
            fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?
        {
            let path = entry?.path();
            let subject = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let text =
                fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            table.add(&subject, &text).with_context(|| format!("parse {}", path.display()))?;
        }
        Ok(table)
    }

    fn add(&mut self, subject: &str, text: &str) -> anyhow::Result<()> {
        let report = text.lines().map(line).collect::<anyhow::Result<Report>>()?;
        if report.is_empty() {
            bail!("the report is empty");
        }
        self.reports.insert(subject.to_owned(), report);
        Ok(())
    }

    /// Whether there is a report about a plugin, set up in whatever way.
    pub(crate) fn tells_of(&self, plugin: &str) -> bool {
        let about = |subject: &String| {
            subject
                .strip_prefix(plugin)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        self.reports.keys().any(about)
    }

    /// Verdicts that are good.
    pub(crate) fn passed(&self) -> usize {
        self.count(Verdict::Passed)
    }

    /// Verdicts that are bad.
    pub(crate) fn failed(&self) -> usize {
        self.count(Verdict::Failed)
    }

    fn count(&self, wanted: Verdict) -> usize {
        self.reports.values().flatten().filter(|(_, verdict, _)| *verdict == wanted).count()
    }

    /// Subjects whose rules are those of key backends, or those of authorities.
    fn part(&self, keys: bool) -> Vec<(&String, &Report)> {
        self.reports.iter().filter(|(subject, _)| subject.starts_with("key-") == keys).collect()
    }
}

fn line(text: &str) -> anyhow::Result<Line> {
    let mut parts = text.splitn(3, '\t');
    let (Some(rule), Some(word), Some(why)) = (parts.next(), parts.next(), parts.next()) else {
        bail!("a line has no three parts: {text:?}");
    };
    let verdict = match word {
        "passed" => Verdict::Passed,
        "skipped" => Verdict::Skipped,
        "failed" => Verdict::Failed,
        other => bail!("a verdict is {other:?}"),
    };
    Ok((rule.to_owned(), verdict, why.to_owned()))
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, keys) in [("root authorities", false), ("key backends", true)] {
            let part = self.part(keys);
            if !part.is_empty() {
                writeln!(f, "{title}")?;
                show(f, &part)?;
            }
        }
        Ok(())
    }
}

/// One column for each subject, numbered; one row for each rule, in the order of the first report that has it.
fn show(f: &mut fmt::Formatter<'_>, part: &[(&String, &Report)]) -> fmt::Result {
    let mut rules: Vec<&str> = Vec::new();
    for (rule, ..) in part.iter().flat_map(|(_, report)| report.iter()) {
        if !rules.contains(&rule.as_str()) {
            rules.push(rule);
        }
    }
    for (number, (subject, report)) in part.iter().enumerate() {
        let count = |wanted| report.iter().filter(|(_, verdict, _)| *verdict == wanted).count();
        let (passed, skipped, failed) =
            (count(Verdict::Passed), count(Verdict::Skipped), count(Verdict::Failed));
        writeln!(
            f,
            "  {:>3}  {subject}: {passed} passed, {skipped} not applicable, {failed} failed",
            number + 1
        )?;
    }
    let widest = rules.iter().map(|rule| rule.len()).max().unwrap_or_default();
    write!(f, "  {:widest$}", "")?;
    for number in 1..=part.len() {
        write!(f, " {number:>4}")?;
    }
    writeln!(f)?;
    for rule in &rules {
        write!(f, "  {rule:widest$}")?;
        for (_, report) in part {
            let found =
                report.iter().find(|(name, ..)| name == rule).map(|(_, verdict, _)| *verdict);
            let cell = match found {
                Some(Verdict::Passed) => "ok",
                Some(Verdict::Skipped) => "-",
                Some(Verdict::Failed) => "FAIL",
                None => "",
            };
            write!(f, " {cell:>4}")?;
        }
        writeln!(f)?;
    }
    for (subject, report) in part {
        for (rule, _, why) in report.iter().filter(|(_, verdict, _)| *verdict == Verdict::Failed) {
            writeln!(f, "FAILED  {subject}: {rule}: {why}")?;
        }
        for (rule, _, why) in report.iter().filter(|(_, _, why)| why.starts_with("declared gap")) {
            writeln!(f, "  gap   {subject}: {rule}: {why}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(reports: &[(&str, &str)]) -> Table {
        let mut table = Table::default();
        for (subject, text) in reports {
            table.add(subject, text).unwrap();
        }
        table
    }

    #[test]
    fn reports_are_shown_side_by_side_and_counted() {
        let shown = table(&[
            ("file-istio", "a\tpassed\t\nb\tskipped\tno\n"),
            ("self-signed", "a\tpassed\t\nb\tfailed\tbroken\nc\tskipped\tdeclared gap: old\n"),
            ("key-memory", "k\tpassed\t\n"),
        ]);
        assert_eq!((shown.passed(), shown.failed()), (3, 1));
        let text = shown.to_string();
        for wanted in [
            "root authorities\n    1  file-istio: 1 passed, 1 not applicable, 0 failed\n",
            "\n  a   ok   ok\n  b    - FAIL\n  c         -\n",
            "FAILED  self-signed: b: broken\n",
            "  gap   self-signed: c: declared gap: old\n",
            "key backends\n    1  key-memory: 1 passed, 0 not applicable, 0 failed\n",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is missing in\n{text}");
        }
    }

    #[test]
    fn a_report_of_a_variant_tells_of_its_plugin_and_of_no_other() {
        let reports = table(&[("file-istio", "a\tpassed\t\n"), ("self-signed", "a\tpassed\t\n")]);
        assert!(reports.tells_of("file") && reports.tells_of("self-signed"));
        assert!(!reports.tells_of("fil") && !reports.tells_of("vault"));
    }

    #[test]
    fn a_report_that_cannot_be_read_is_no_report() {
        for wrong in ["", "a\tpassed\n", "a\tperhaps\t\n"] {
            assert!(Table::default().add("x", wrong).is_err(), "{wrong:?}");
        }
    }
}
