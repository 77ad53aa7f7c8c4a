//! `cargo xtask model --mutants`: the machine with one protection taken out of its source, walked until something fails.
//!
//! The walks take protections out of what the mesh and the driver do; these are in the machine itself, and in the agent's order.
//! Each is a text of the source in the place of another, in a copy of the repository.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use super::table::{Edit, MUTANTS, Mutant};
use crate::process;

/// What became of a mutant.
enum Fate {
    /// The test failed, and said this.
    Killed(String),
    /// The test did not notice.
    Survived,
}

/// The page with the stories.
const PAGE: &str = "docs/proof.md";

/// What is below this line of the page is written by this verb.
const MARKER: &str = "<!-- `cargo xtask model --mutants --write` wrote what follows. -->";

/// Columns of a story; what values look like beyond that is of no use to a reader.
const WIDTH: usize = 150;

/// Runs every mutant, and prints last how many were killed; has the page tell how, if it is to be written.
pub(super) fn run(root: &Path, write: bool) -> anyhow::Result<()> {
    let copy = copied(root)?;
    // What fails anyway proves nothing of a mutant.
    let walks: BTreeSet<_> = MUTANTS.iter().map(|mutant| mutant.walk).collect();
    for walk in walks {
        if let Fate::Killed(story) = judged(&copy, walk)? {
            bail!("{walk} fails with every protection in place:\n{story}");
        }
    }
    let (mut survivors, mut told) = (Vec::new(), String::new());
    for mutant in MUTANTS {
        println!("without \"{}\" ({})", mutant.protection, mutant.file);
        match tried(&copy, mutant)? {
            Fate::Killed(story) => {
                println!("    {}:\n{story}", mutant.walk);
                told.push_str(&mutant.section(&story));
            }
            Fate::Survived => {
                println!("    SURVIVED: {} does not fail", mutant.walk);
                survivors.push(mutant.protection);
            }
        }
    }
    let killed = MUTANTS.len() - survivors.len();
    println!("{{\"mutants\":{},\"killed\":{killed},\"survived\":{survivors:?}}}", MUTANTS.len());
    if write {
        let path = root.join(PAGE);
        let page = fs::read_to_string(&path).with_context(|| format!("read {PAGE}"))?;
        let head = page.split(MARKER).next().unwrap_or_default();
        fs::write(&path, format!("{head}{MARKER}\n{told}"))?;
    }
    ensure!(
        survivors.is_empty(),
        "a mutant survived: a test is missing, or the protection is none"
    );
    Ok(())
}

/// Puts a mutant into the copy, runs its test, and takes it out again.
fn tried(copy: &Path, mutant: &Mutant) -> anyhow::Result<Fate> {
    let path = copy.join(mutant.file);
    let whole = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    fs::write(&path, mutant.put_into(&whole)?)?;
    let built = built(copy);
    let fate = built.and_then(|()| judged(copy, mutant.walk));
    fs::write(&path, whole)?;
    fate.with_context(|| format!("without \"{}\"", mutant.protection))
}

impl Mutant {
    /// What the page says of it.
    fn section(&self, story: &str) -> String {
        let story: Vec<_> = story.lines().map(str::trim_start).collect();
        format!(
            "\n### Without: {}\n\nTaken out of `{}`; then `{}` fails:\n\n```text\n{}\n```\n",
            self.protection,
            self.file,
            self.walk,
            story.join("\n")
        )
    }

    fn put_into(&self, whole: &str) -> anyhow::Result<String> {
        let mut text = whole.to_owned();
        for Edit { from, to } in self.edits {
            let times = text.matches(from).count();
            ensure!(
                times == 1,
                "{} has {times} times what \"{}\" rests on, and should have it once:\n{from}",
                self.file,
                self.protection
            );
            text = text.replacen(from, to, 1);
        }
        Ok(text)
    }
}

/// A mutant that does not compile tells nothing.
fn built(copy: &Path) -> anyhow::Result<()> {
    process::run(cargo(copy, &["--no-run"]).env("RUSTFLAGS", "--allow warnings"))
}

/// Runs the tests of that name; it must be there.
fn judged(copy: &Path, walk: &str) -> anyhow::Result<Fate> {
    let mut tests = cargo(copy, &["--no-fail-fast", "--", "--include-ignored", walk]);
    let output = tests.env("RUSTFLAGS", "--allow warnings").output().context("start cargo")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let ran = said.lines().any(|line| line.starts_with("test ") && line.contains(walk));
    ensure!(ran, "no test is called {walk}:\n{said}");
    if output.status.success() {
        return Ok(Fate::Survived);
    }
    Ok(Fate::Killed(story(&said)))
}

fn cargo(copy: &Path, further: &[&str]) -> std::process::Command {
    let mut cargo = process::cargo(copy);
    cargo.env("CARGO_TARGET_DIR", copy.join("target")).env("RUST_BACKTRACE", "0");
    cargo.args(["test", "--offline", "--profile", "simulation", "--package", "rotation"]);
    cargo.args(["--test", "model", "--test", "machine"]).args(further);
    cargo
}

/// What a failing test said, but for where it stands in the source.
fn story(said: &str) -> String {
    let from = said
        .lines()
        .skip_while(|line| !(line.starts_with("thread '") && line.contains("panicked")));
    let lines = from.skip(1).take_while(|line| {
        !line.starts_with("stack backtrace") && !line.starts_with("note: ") && !line.is_empty()
    });
    let told: Vec<_> =
        lines.map(|line| format!("    {}", line.chars().take(WIDTH).collect::<String>())).collect();
    told.join("\n")
}

/// A copy of what git knows of this checkout, changes and new files included, always in the same place, so that what was built
/// of other projects is of use the next time.
fn copied(root: &Path) -> anyhow::Result<PathBuf> {
    let copy = process::target(root).join("mutants");
    let mut list = std::process::Command::new("git");
    list.current_dir(root).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let list = process::output(&mut list).context("git lists no files")?;
    for path in list.lines() {
        let (from, to) = (root.join(path), copy.join(path));
        let Ok(new) = fs::read(&from) else { continue };
        // What is as it was keeps its time, and what was built of it.
        if fs::read(&to).is_ok_and(|old| old == new) {
            continue;
        }
        fs::create_dir_all(to.parent().context("a file without a folder")?)?;
        fs::write(&to, new).with_context(|| format!("write {}", to.display()))?;
    }
    if list.is_empty() {
        bail!("git lists no files in {}", root.display());
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise nobody would notice before the next run by hand.
    #[test]
    fn what_each_mutant_rests_on_is_in_the_source_once() {
        let root = crate::repository_root().unwrap();
        for mutant in MUTANTS {
            let whole = fs::read_to_string(root.join(mutant.file)).unwrap();
            assert_ne!(mutant.put_into(&whole).unwrap(), whole, "{}", mutant.protection);
        }
    }

    #[test]
    fn the_page_tells_of_each_mutant() {
        let page = fs::read_to_string(crate::repository_root().unwrap().join(PAGE)).unwrap();
        for mutant in MUTANTS {
            let heading = format!("\n### Without: {}\n", mutant.protection);
            assert!(
                page.contains(&heading),
                "{PAGE} has no {heading:?}: cargo xtask model --mutants --write"
            );
        }
        assert_eq!(page.matches("\n### Without: ").count(), MUTANTS.len());
    }

    #[test]
    fn a_text_that_is_there_twice_or_not_at_all_is_no_mutant() {
        let mutant = Mutant {
            protection: "it",
            file: "f",
            edits: &[Edit { from: "a", to: "b" }],
            walk: "w",
        };
        assert_eq!(mutant.put_into("cad").unwrap(), "cbd");
        assert!(mutant.put_into("aa").is_err() && mutant.put_into("c").is_err());
    }

    #[test]
    fn the_story_is_what_the_walk_said() {
        let said = "running 1 test\nthread 'x' (7) panicked at a/b.rs:1:2:\nplain: p meets q\nswitch\nstack backtrace:\n 0: f";
        assert_eq!(story(said), "    plain: p meets q\n    switch");
    }
}
