//! What the documentation says that the program says: every quoted part of a message must stand in the code.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::Context;

/// The page whose first columns are quotes as a whole. On other pages only what stands in backticks is.
const OPERATIONS: &str = "docs/operations.md";
/// Other pages; those of plugins come besides.
const PAGES: [&str; 3] = ["docs/rotation.md", "docs/migrate-from-istiod.md", "README.md"];
const PLUGIN_PAGES: &str = "docs/plugins";
/// Tables whose first column quotes messages; `…` stands for what differs, as does a word in capital letters, and ` / `
/// between alternatives.
const TABLES: [&str; 4] = ["| it says |", "| condition | means |", "| told as |", "| message |"];
/// Shorter parts are in every program.
const PART_MIN: usize = 8;

/// Parts of messages that the page quotes and no source file has.
pub(super) fn never_said(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut code = String::new();
    collect(root, &mut code)?;
    let mut complaints = Vec::new();
    for page in pages(root)? {
        let text = fs::read_to_string(root.join(&page)).with_context(|| format!("read {page}"))?;
        let how = if page == OPERATIONS { Quoted::Whole } else { Quoted::InBackticks };
        complaints.extend(missing(&page, &text, how, &code));
    }
    Ok(complaints)
}

fn pages(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut pages: Vec<String> = [OPERATIONS].into_iter().chain(PAGES).map(str::to_owned).collect();
    for entry in fs::read_dir(root.join(PLUGIN_PAGES)).with_context(|| format!("list {PLUGIN_PAGES}"))? {
        let name = entry?.file_name();
        if Path::new(&name).extension() == Some(OsStr::new("md")) {
            pages.push(format!("{PLUGIN_PAGES}/{}", name.to_string_lossy()));
        }
    }
    Ok(pages)
}

/// What of a first column is a quote.
#[derive(Clone, Copy)]
enum Quoted {
    Whole,
    InBackticks,
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

fn missing(page: &str, text: &str, how: Quoted, code: &str) -> Vec<String> {
    let mut in_table = false;
    let mut complaints = Vec::new();
    for line in text.lines() {
        if TABLES.iter().any(|head| line.starts_with(head)) {
            in_table = true;
        } else if !line.starts_with('|') {
            in_table = false;
        } else if in_table && !line.starts_with("|-") {
            let cell = line.trim_start_matches('|').split('|').next().unwrap_or_default();
            for quoted in quotes(cell, how) {
                complaints.extend(
                    parts(&quoted)
                        .filter(|part| !code.contains(*part))
                        .map(|part| format!("{page} quotes \"{part}\", which no message says")),
                );
            }
        }
    }
    complaints
}

/// The quotes of a cell, without backticks.
fn quotes(cell: &str, how: Quoted) -> Vec<String> {
    match how {
        Quoted::Whole => vec![cell.replace('`', "")],
        Quoted::InBackticks => {
            // Two backticks around a quote that has single ones in it.
            let mark = if cell.contains("``") { "``" } else { "`" };
            cell.split(mark).skip(1).step_by(2).map(|quote| without_names(&quote.replace('`', ""))).collect()
        }
    }
}

/// A word in capital letters stands for what differs.
fn without_names(quote: &str) -> String {
    let is_name = |word: &str| {
        let letters = word.trim_matches(|char: char| !char.is_alphanumeric());
        !letters.is_empty() && letters.chars().all(|char| char.is_ascii_uppercase() || char == '_')
    };
    quote.split(' ').map(|word| if is_name(word) { "…" } else { word }).collect::<Vec<_>>().join(" ")
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
        assert_eq!(missing("page", &page, Quoted::Whole, &code), Vec::<String>::new());
    }

    #[test]
    fn a_message_that_nobody_says_is_a_complaint() {
        let page = format!("{HEAD}| has gone away / was never there | x | y |\n\n| other | `table` |\n");
        let complaints = missing("page", &page, Quoted::Whole, "has gone away");
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains("was never there"), "{complaints:?}");
    }

    #[test]
    fn on_other_pages_backticks_make_a_quote_and_capital_letters_a_name() {
        let code = joined("error(\"tier {} waits for {}\") error(\"setting `mount` is wrong: {}\")");
        let missing =
            |cell: &str| missing("page", &format!("{HEAD}| {cell} | x | y |\n"), Quoted::InBackticks, &code);
        assert_eq!(missing("the same, and `tier NAME waits for …`"), Vec::<String>::new());
        assert_eq!(missing("``setting `mount` is wrong: …``"), Vec::<String>::new());
        assert_eq!(missing("`tier NAME never waits for anybody`").len(), 1);
    }
}
