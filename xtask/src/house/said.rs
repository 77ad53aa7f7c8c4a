//! What `docs/operations.md` says that the program says: every quoted part of a message must stand in the code.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::Context;

const PAGE: &str = "docs/operations.md";
/// Tables whose first column quotes messages; `…` stands for what differs, ` / ` between alternatives.
const TABLES: [&str; 2] = ["| it says |", "| condition | means |"];
/// Shorter parts are in every program.
const PART_MIN: usize = 8;

/// Parts of messages that the page quotes and no source file has.
pub(super) fn never_said(root: &Path) -> anyhow::Result<Vec<String>> {
    let page = fs::read_to_string(root.join(PAGE)).with_context(|| format!("read {PAGE}"))?;
    let mut code = String::new();
    collect(root, &mut code)?;
    Ok(missing(&page, &code))
}

fn collect(folder: &Path, code: &mut String) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let skipped = name == "target" || name == "xtask" || name.to_string_lossy().starts_with('.');
        if entry.file_type()?.is_dir() && !skipped {
            collect(&path, code)?;
        } else if path.extension() == Some(OsStr::new("rs")) {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            code.push_str(&joined(&text));
        }
    }
    Ok(())
}

/// Texts that go on in the next line, in one line.
fn joined(source: &str) -> String {
    let mut parts = source.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.trim_start()).replace('`', "")
}

fn missing(page: &str, code: &str) -> Vec<String> {
    let mut in_table = false;
    let mut complaints = Vec::new();
    for line in page.lines() {
        if TABLES.iter().any(|head| line.starts_with(head)) {
            in_table = true;
        } else if !line.starts_with('|') {
            in_table = false;
        } else if in_table && !line.starts_with("|-") {
            let quoted = line.trim_start_matches('|').split('|').next().unwrap_or_default().replace('`', "");
            complaints.extend(
                parts(&quoted)
                    .filter(|part| !code.contains(*part))
                    .map(|part| format!("{PAGE} quotes \"{part}\", which no message says")),
            );
        }
    }
    complaints
}

fn parts(quoted: &str) -> impl Iterator<Item = &str> {
    let split = quoted.split('…').flat_map(|part| part.split(" / "));
    split.map(|part| part.trim_matches([' ', ',', ';', ':'])).filter(|part| part.len() >= PART_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "| it says | it means | do |\n|---|---|---|\n";

    #[test]
    fn a_message_is_found_over_lines_and_around_what_differs() {
        let code = joined("error(\"{} has gone away, \\\n    restore `{}` from a backup\")");
        let page = format!("{HEAD}| … has gone away, restore … from a backup | x | y |\n");
        assert_eq!(missing(&page, &code), Vec::<String>::new());
    }

    #[test]
    fn a_message_that_nobody_says_is_a_complaint() {
        let page = format!("{HEAD}| has gone away / was never there | x | y |\n\n| other | `table` |\n");
        let complaints = missing(&page, "has gone away");
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains("was never there"), "{complaints:?}");
    }
}
