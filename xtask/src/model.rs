//! `cargo xtask model`: the machine in every order of events of a small mesh, and what each protection is there for.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail};

use crate::process;

mod mutants;
mod table;

/// Properties that every state of a walk is held against; their numbers are those of docs/rotation-model.md.
const PROPERTIES: [&str; 6] = ["S1", "S2", "S3", "S4", "S6", "S8"];

/// Takes each protection out of the machine's source, and shows that a walk then fails.
pub(crate) fn mutants(root: &Path, write: bool) -> anyhow::Result<()> {
    mutants::run(root, write)
}

/// Walks the model, optimised, and prints what was walked; the last line is the figure, as JSON.
pub(crate) fn run(root: &Path, small: bool) -> anyhow::Result<()> {
    let mut cargo = process::cargo(root);
    cargo.args([
        "test",
        "--release",
        "--package",
        "rotation",
        "--test",
        "model",
        "--",
        "--nocapture",
    ]);
    if !small {
        cargo.arg("--include-ignored");
    }
    let mut walks =
        cargo.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start cargo")?;
    let output = walks.stdout.take().context("the walks have no output")?;
    let mut figure = Figure::default();
    for line in BufReader::new(output).lines() {
        let line = line.context("read what the walks print")?;
        println!("{line}");
        figure.hear(&line);
    }
    let status = walks.wait().context("wait for the walks")?;
    if !status.success() {
        bail!(
            "the model failed ({status}): what it says above is a way to a failed handshake or a broken rule"
        );
    }
    println!("{}", figure.json(small)?);
    Ok(())
}

/// What the walks print that counts.
#[derive(Debug, Default, PartialEq, Eq)]
struct Figure {
    /// Words of the line of the complete space: a name, then its number.
    space: Vec<(String, u64)>,
    counterexamples: u32,
}

impl Figure {
    fn hear(&mut self, line: &str) {
        for (prefix, of) in [("FIGURE ", ""), ("FIGURE-PAIR ", "pair_")] {
            let Some(numbers) = line.strip_prefix(prefix) else { continue };
            let words: Vec<&str> = numbers.split(' ').collect();
            self.space.extend(words.chunks_exact(2).filter_map(|pair| match pair {
                [name, number] => Some((format!("{of}{name}"), number.parse().ok()?)),
                _ => None,
            }));
        }
        self.counterexamples += u32::from(line.contains(" without ") && line.contains(" moves: "));
    }

    fn json(&self, small: bool) -> anyhow::Result<String> {
        if self.counterexamples == 0 || (self.space.is_empty() && !small) {
            bail!("the walks printed no figure: {self:?}");
        }
        let mut members: Vec<String> =
            self.space.iter().map(|(name, number)| format!("\"{name}\":{number}")).collect();
        members.push(format!("\"counterexamples\":{}", self.counterexamples));
        members.push(format!("\"properties\":{PROPERTIES:?}"));
        members.push("\"failed\":0".to_owned());
        Ok(format!("{{{}}}", members.join(",")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figure_is_what_the_walks_printed() {
        let mut figure = Figure::default();
        for line in [
            "plain: 7 worlds",
            "plain without TrustGate: 9 worlds, 8 moves: p meets q",
            "FIGURE states 7 rows 2",
            "FIGURE-PAIR states 5",
        ] {
            figure.hear(line);
        }
        let json = figure.json(false).unwrap();
        assert!(
            json.starts_with("{\"states\":7,\"rows\":2,\"pair_states\":5,\"counterexamples\":1,"),
            "{json}"
        );
    }

    #[test]
    fn walks_that_print_nothing_are_no_figure() {
        assert!(Figure::default().json(true).is_err());
        let only_small = Figure { counterexamples: 3, ..Figure::default() };
        assert!(only_small.json(true).is_ok() && only_small.json(false).is_err());
    }
}
