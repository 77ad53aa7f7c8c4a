//! What came of a run.

use std::fmt;

/// What came of one rule.
pub type Verdict = Result<(), Broken>;

/// Why a rule did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The engine breaks it.
    Failed(String),
    /// It could not be tried.
    Skipped(String),
}

/// What came of all rules, in the order they were tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(Vec<(&'static str, Verdict)>);

impl Report {
    pub(crate) fn rule(&mut self, name: &'static str, verdict: Verdict) {
        self.0.push((name, verdict));
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

    /// Ends a test.
    ///
    /// # Panics
    /// When a rule failed; the message is the report.
    pub fn assert_conforms(&self) {
        assert!(self.failed().is_empty(), "the engine does not keep the contract\n{self}");
    }

    fn named(&self, wanted: impl Fn(&Verdict) -> bool) -> Vec<&'static str> {
        self.0.iter().filter(|(_, verdict)| wanted(verdict)).map(|(name, _)| *name).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, verdict) in &self.0 {
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
