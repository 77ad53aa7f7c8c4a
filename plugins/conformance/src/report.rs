//! What came of a run.

use std::fmt;

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
    verdicts: Vec<(&'static str, Verdict)>,
}

impl Report {
    pub(crate) fn rule(&mut self, name: &'static str, verdict: Verdict) {
        self.verdicts.push((name, verdict));
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

    /// Ends a test.
    ///
    /// # Panics
    /// When a rule failed; the message is the report.
    pub fn assert_conforms(&self) {
        assert!(self.failed().is_empty(), "the plugin does not conform\n{self}");
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
