//! Circles among the files of a crate: which file takes a name from which, and who depends on whom in both directions.
//!
//! A re-export is followed to the file that defines the name, so that a facade (`lib.rs`, `mod.rs`) is a dependency
//! only of those who take what it defines itself. Code for tests is left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use self::components::Uses;
use self::modules::Modules;
use super::layering::{Layering, Pair};

mod components;
mod modules;
mod names;

/// Most pairs that may be listed.
const PAIRS_MAX: usize = 3;

/// What is wrong with the dependencies between files of these crates.
pub(super) fn complaints(
    root: &Path,
    manifests: &[PathBuf],
    layering: &Layering,
) -> anyhow::Result<Vec<String>> {
    let (pairs, left) = (&layering.pair, layering.files.circles_left);
    let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
    for manifest in manifests {
        let folder = manifest.parent().context("a manifest lies in a folder")?;
        let Some(start) = start_of(folder) else { continue };
        let uses = uses(root, &start)?;
        for circle in components::circles(&uses) {
            match pairs.iter().find(|pair| pair.files == circle) {
                Some(_) => {
                    seen.insert(circle);
                }
                None => all.push(told(&circle, &uses)),
            }
        }
    }
    match all.len() {
        found if found == left => all.clear(),
        found => all.push(format!(
            "{found} circles of files, and layering.toml says circles_left = {left}"
        )),
    }
    all.extend(pair_complaints(pairs, &seen));
    Ok(all)
}

fn pair_complaints(pairs: &[Pair], seen: &BTreeSet<BTreeSet<PathBuf>>) -> Vec<String> {
    let mut all = Vec::new();
    if pairs.len() > PAIRS_MAX {
        all.push(format!(
            "{} pairs of files are listed, more than {PAIRS_MAX}: take one apart",
            pairs.len()
        ));
    }
    for pair in pairs {
        let files = listed(&pair.files);
        if pair.files.len() != 2 || pair.why.trim().is_empty() {
            all.push(format!("[[pair]] {files}: two files and a reason are wanted"));
        } else if !seen.contains(&pair.files) {
            all.push(format!("[[pair]] {files}: they are no circle (any more): remove the entry"));
        }
    }
    all
}

fn start_of(folder: &Path) -> Option<PathBuf> {
    ["src/lib.rs", "src/main.rs"]
        .map(|name| folder.join(name))
        .into_iter()
        .find(|path| path.exists())
}

/// Who takes what from whom among the files below a crate's first.
fn uses(root: &Path, start: &Path) -> anyhow::Result<Uses> {
    let modules = Modules::read(start, &|path| {
        fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
    })?;
    let relative = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_path_buf();
    let mut uses = Uses::new();
    for (from, to, name) in names::taken(&modules) {
        let files = uses.entry(relative(&from)).or_default();
        files.entry(relative(&to)).or_default().insert(name);
    }
    Ok(uses)
}

fn listed(files: &BTreeSet<PathBuf>) -> String {
    files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn told(circle: &BTreeSet<PathBuf>, uses: &Uses) -> String {
    let mut text = format!("a circle of {} files: {}", circle.len(), listed(circle));
    for from in circle {
        for (to, names) in
            uses.get(from).into_iter().flatten().filter(|(to, _)| circle.contains(*to))
        {
            let names = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            text.push_str(&format!("\n    {} -> {}: {names}", from.display(), to.display()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses_of(files: &[(&str, &str)]) -> Uses {
        let text = |path: &Path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found
                .map(|(_, text)| (*text).to_owned())
                .with_context(|| format!("no {}", path.display()))
        };
        let there = |path: &Path| files.iter().any(|(name, _)| Path::new(name) == path);
        let modules = Modules::read_with(Path::new("lib.rs"), &text, &there).unwrap();
        let mut uses = Uses::new();
        for (from, to, name) in names::taken(&modules) {
            uses.entry(from).or_default().entry(to).or_default().insert(name);
        }
        uses
    }

    fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let all = components::circles(&uses_of(files));
        all.into_iter()
            .map(|one| one.iter().map(|path| path.display().to_string()).collect())
            .collect()
    }

    #[test]
    fn two_files_that_take_from_each_other_are_a_circle() {
        let found = circles(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B; pub struct A(B);"),
            ("b.rs", "pub struct B; fn f() { super::a::A::new(); }"),
        ]);
        assert_eq!(found, [["a.rs", "b.rs"]]);
    }

    #[test]
    fn a_re_export_is_followed_to_the_file_that_defines_the_name() {
        let found = circles(&[
            ("lib.rs", "mod m; pub use m::Thing;"),
            ("m/mod.rs", "mod one; mod two; pub use self::one::Thing; pub fn f() { two::g(); }"),
            ("m/one.rs", "pub struct Thing;"),
            (
                "m/two.rs",
                "use super::Thing; use crate::Thing as Same; pub fn g() -> Thing { Thing }",
            ),
        ]);
        assert_eq!(found, Vec::<Vec<String>>::new());
    }

    #[test]
    fn what_a_facade_defines_itself_ties_its_parts_to_it() {
        let found = circles(&[
            ("lib.rs", "mod m;"),
            ("m/mod.rs", "mod one; pub struct Own; pub fn f() { one::g(); }"),
            ("m/one.rs", "use super::*; pub fn g() -> Own { Own }"),
        ]);
        assert_eq!(found, [["m/mod.rs", "m/one.rs"]]);
    }

    #[test]
    fn names_inside_macros_count_and_those_of_tests_do_not() {
        let files = |last: &'static str| {
            circles(&[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", "pub fn f() { println!(\"{}\", crate::b::g()); }"),
                ("b.rs", last),
            ])
        };
        assert_eq!(files("pub fn g() { crate::a::f(); }").len(), 1);
        assert_eq!(files("pub fn g() {} #[cfg(test)] mod tests { use crate::a::f; }").len(), 0);
    }

    #[test]
    fn a_pair_needs_a_reason_and_to_be_one_still() {
        let pair = |why: &str| Pair {
            files: ["a.rs", "b.rs"].map(PathBuf::from).into(),
            why: why.to_owned(),
        };
        let there = BTreeSet::from([pair("").files]);
        assert!(pair_complaints(&[pair("")], &there)[0].contains("a reason"));
        assert!(pair_complaints(&[pair("one idea")], &BTreeSet::new())[0].contains("no circle"));
        assert_eq!(pair_complaints(&[pair("one idea")], &there), Vec::<String>::new());
        let four = [pair("x"), pair("x"), pair("x"), pair("x")];
        assert!(pair_complaints(&four, &there)[0].contains("more than 3"));
    }
}
