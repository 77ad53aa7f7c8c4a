//! The table of crates in `docs/architecture.md` against the workspace: a row for each crate, and what it may use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::Context;

use super::arrows::Found;
use super::layering::Arrows;

const PAGE: &str = "docs/architecture.md";

/// Crates without a row, rows without a crate, and rows that list other crates than the code uses.
pub(super) fn complaints(root: &Path, found: &Found) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(root.join(PAGE)).with_context(|| format!("read {PAGE}"))?;
    let mut crates = BTreeMap::new();
    for (name, manifest) in found.crates_and_manifests() {
        let folder = manifest.parent().and_then(|folder| folder.strip_prefix(root).ok());
        let folder = folder.with_context(|| format!("{} lies elsewhere", manifest.display()))?;
        crates.insert(folder.display().to_string(), name.to_owned());
    }
    Ok(differences(&text, &crates, &found.arrows))
}

/// Folder and "may use" of each row of the table whose head is as expected.
fn rows(text: &str) -> BTreeMap<&str, &str> {
    let head = "| crate | what it is | may use |";
    let table = text.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    let row = |line| {
        let mut cells = str::split(line, " | ");
        let folder = cells.next()?.strip_prefix("| `")?.strip_suffix('`')?;
        Some((folder, cells.nth(1)?))
    };
    table.map_while(row).collect()
}

fn differences(text: &str, crates: &BTreeMap<String, String>, arrows: &Arrows) -> Vec<String> {
    let rows = rows(text);
    let mut complaints = Vec::new();
    for folder in rows.keys().filter(|folder| !crates.contains_key(**folder)) {
        complaints.push(format!("{PAGE}: the table of crates has `{folder}`, where there is none"));
    }
    for (folder, name) in crates {
        let Some(said) = rows.get(folder.as_str()) else {
            complaints.push(format!("{PAGE}: the table of crates has no row for `{folder}`"));
            continue;
        };
        let uses: BTreeSet<&str> =
            arrows.get(name).into_iter().flatten().map(String::as_str).collect();
        let listed: BTreeSet<&str> = said.split(", ").filter(|one| *one != "nothing").collect();
        let is_list = listed.iter().all(|one| crates.values().any(|name| name == one));
        if is_list && listed != uses {
            let uses: Vec<_> = uses.into_iter().collect();
            complaints.push(format!("{PAGE}: `{folder}` uses {}: write that", uses.join(", ")));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints_of(rows: &str) -> Vec<String> {
        let text =
            format!("| crate | what it is | may use | start |\n|---|---|---|---|\n{rows}\nmore\n");
        let crates =
            [("a", "a"), ("a/b", "a-b")].map(|(at, name)| (at.to_owned(), name.to_owned()));
        let arrows = Arrows::from([("a-b".to_owned(), BTreeSet::from(["a".to_owned()]))]);
        differences(&text, &crates.into(), &arrows)
    }

    #[test]
    fn a_table_that_says_what_is_there_is_no_complaint() {
        assert!(complaints_of("| `a` | x | nothing | y |\n| `a/b` | x | a | y |").is_empty());
        assert!(
            complaints_of("| `a` | x | nothing | y |\n| `a/b` | x | whatever it tests | y |")
                .is_empty()
        );
    }

    #[test]
    fn a_row_that_is_missing_too_many_or_wrong_is_a_complaint() {
        for (rows, what) in [
            ("| `a` | x | nothing | y |", "no row for `a/b`"),
            (
                "| `a` | x | nothing | y |\n| `a/b` | x | a | y |\n| `c` | x | a | y |",
                "`c`, where there is none",
            ),
            ("| `a` | x | nothing | y |\n| `a/b` | x | nothing | y |", "`a/b` uses a"),
            ("| `a` | x | a-b | y |\n| `a/b` | x | a | y |", "`a` uses : write that"),
        ] {
            let found = complaints_of(rows);
            assert!(found.iter().any(|one| one.contains(what)), "{what}: {found:?}");
        }
    }
}
