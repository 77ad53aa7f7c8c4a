//! `cargo xtask replicas`: three servers over a real etcd under each fault, and what was counted of them from outside.
//!
//! The tests are `integration-tests/tests/replicas`; the gate runs them too.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

use crate::cache::Cache;
use crate::debian::{self, IPROUTE};
use crate::peers::{self, table};
use crate::process;

/// How a line of figures begins; the test's name and a colon follow.
const FIGURES: &str = "figures of ";

/// Names the program of the former release to the tests.
const FORMER: &str = "BANYAN_FORMER_SERVER";

/// Runs the tests whose names have this part, then prints the sum of their figures as one line of JSON.
pub(crate) fn run(root: &Path, part: Option<&str>) -> anyhow::Result<()> {
    run_beside(root, part, None)
}

/// The same; those of two releases with this program as the former one.
pub(crate) fn run_beside(
    root: &Path,
    part: Option<&str>,
    former: Option<&Path>,
) -> anyhow::Result<()> {
    debian::ensure(&[&IPROUTE])?;
    peers::install(&Cache::from_environment()?, &[table::ETCD])?;
    let mut tests = process::cargo(root);
    tests.args(["test", "--workspace", "--test", "replicas", "--", "--nocapture"]);
    tests.envs(former.map(|program| (FORMER, program)));
    counted(tests.args(part))
}

/// Runs tests, shows what they print, and adds up their figures in one line of JSON.
pub(crate) fn counted(tests: &mut Command) -> anyhow::Result<()> {
    let mut running = tests.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let output = running.stdout.take().context("no output")?;
    let mut sums = Sums::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        sums.take(&line);
    }
    let status = running.wait()?;
    println!("{}", sums.as_json());
    ensure!(sums.tests > 0, "no test ran: none has this in its name, or they did not start");
    if !status.success() {
        bail!("not all passed ({status})");
    }
    Ok(())
}

/// What all tests counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    tests: u64,
    counts: Vec<(String, u64)>,
}

impl Sums {
    /// Takes `figures of NAME: WORDS NUMBER, WORDS NUMBER, ...`; what is no whole number is no count.
    fn take(&mut self, line: &str) {
        let Some((_, figures)) =
            line.strip_prefix(FIGURES).and_then(|figures| figures.split_once(": "))
        else {
            return;
        };
        self.tests += 1;
        for figure in figures.split(", ") {
            let Some((what, count)) = figure.rsplit_once(' ') else { continue };
            let Ok(count) = count.parse::<u64>() else { continue };
            match self.counts.iter_mut().find(|(known, _)| known == what) {
                Some((_, sum)) => *sum += count,
                None => self.counts.push((what.to_owned(), count)),
            }
        }
    }

    /// Names are of letters and spaces: nothing in them is to be escaped.
    fn as_json(&self) -> String {
        let counts = self.counts.iter();
        let counts = counts.map(|(what, count)| format!(",\"{}\":{count}", what.replace(' ', "_")));
        format!("{{\"tests\":{}{}}}", self.tests, counts.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_tests_are_added_and_other_lines_are_none() {
        let mut sums = Sums::default();
        sums.take("running 2 tests");
        sums.take(
            "figures of a: handshakes 3, failed 0, of a retired root 1, longest rotation 1.5 s",
        );
        sums.take(
            "figures of b: handshakes 4, failed 2, of a retired root 0, longest rotation 2 s",
        );
        let wanted = r#"{"tests":2,"handshakes":7,"failed":2,"of_a_retired_root":1}"#;
        assert_eq!(sums.as_json(), wanted);
    }
}
