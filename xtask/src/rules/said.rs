//! What the documentation says that the program says: every quoted part of a message must stand in the code.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::Context;

/// The page whose first columns are quotes as a whole. On other pages only what stands in backticks is.
const OPERATIONS: &str = "docs/operations.md";
/// Other pages; those of plugins come besides.
const PAGES: [&str; 4] =
    ["docs/rotation.md", "docs/migrate-from-istiod.md", "docs/istio.md", "README.md"];
const PLUGIN_PAGES: &str = "docs/plugins";
/// Tables whose first column quotes messages; `…` stands for what differs, as does a word in capital letters, and ` / `
/// between alternatives.
const TABLES: [&str; 4] = ["| it says |", "| condition |", "| told as |", "| message |"];
/// The other tables of [`OPERATIONS`]: a new one belongs to one of the two lists.
const NO_QUOTES: [&str; 7] = [
    "| path |",
    "| what happened |",
    "| forgotten |",
    "| you want |",
    "| name |",
    "| code |",
    "| default |",
];
/// Shorter parts of a quote are in every program.
const PART_MIN: usize = 8;
/// Fewer quotes than this were found on all pages only if the pages are not read as they are written.
const QUOTES_MIN: usize = 60;
/// Folders and files whose messages no operator sees.
const NOT_SHIPPED: [&str; 8] =
    ["target", "xtask", "integration-tests", "tests", "benches", "examples", "tests.rs", "gen"];

/// Parts of messages that the page quotes and no source file has.
pub(super) fn never_said(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut code = String::new();
    collect(root, &mut code)?;
    let (mut complaints, mut found) = (Vec::new(), 0);
    for page in pages(root)? {
        let text = fs::read_to_string(root.join(&page)).with_context(|| format!("read {page}"))?;
        let how = if page == OPERATIONS { Quoted::Whole } else { Quoted::InBackticks };
        if page == OPERATIONS {
            complaints.extend(unlisted(&page, &text));
        }
        let (quotes, unsaid) = missing(&page, &text, how, &code);
        found += quotes;
        complaints.extend(unsaid);
    }
    if found < QUOTES_MIN {
        complaints.push(format!(
            "only {found} quotes were found on all pages: is a heading spelled otherwise?"
        ));
    }
    Ok(complaints)
}

/// Tables that nobody said of whether they quote messages.
fn unlisted(page: &str, text: &str) -> Vec<String> {
    let lines = std::iter::once("").chain(text.lines());
    let heads = lines
        .zip(text.lines())
        .filter(|(before, line)| !before.starts_with('|') && line.starts_with('|'));
    let known = |line: &str| TABLES.iter().chain(&NO_QUOTES).any(|head| line.starts_with(head));
    let unknown = heads.map(|(_, line)| line).filter(|line| !known(line));
    unknown
        .map(|line| {
            format!("{page}: is the first column of \"{line}\" made of quotes? Say so in said.rs")
        })
        .collect()
}

fn pages(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut pages: Vec<String> = [OPERATIONS].into_iter().chain(PAGES).map(str::to_owned).collect();
    for entry in
        fs::read_dir(root.join(PLUGIN_PAGES)).with_context(|| format!("list {PLUGIN_PAGES}"))?
    {
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
        let skipped =
            NOT_SHIPPED.iter().any(|not| name == *not) || name.to_string_lossy().starts_with('.');
        if entry.file_type()?.is_dir() && !skipped {
            collect(&path, code)?;
        } else if path.extension() == Some(OsStr::new("rs")) && !skipped {
            let text =
                fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            code.push_str(&joined(shipped(&text)));
        }
    }
    Ok(())
}

/// What comes before the tests of a file, which are at its end.
fn shipped(source: &str) -> &str {
    source.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

/// Texts that go on in the next line, in one line.
fn joined(source: &str) -> String {
    let mut parts = source.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.trim_start()).replace('`', "")
}

/// How many parts of quotes the page has, and a complaint for each that no message says.
fn missing(page: &str, text: &str, how: Quoted, code: &str) -> (usize, Vec<String>) {
    let (mut in_table, mut found) = (false, 0);
    let mut complaints = Vec::new();
    for line in text.lines() {
        if TABLES.iter().any(|head| line.starts_with(head)) {
            in_table = true;
        } else if !line.starts_with('|') {
            in_table = false;
        } else if in_table && !line.starts_with("|-") {
            let cell = line.trim_start_matches('|').split('|').next().unwrap_or_default();
            for quoted in quotes(cell, how) {
                let parts = parts(&quoted);
                found += parts.len();
                let unsaid = parts.into_iter().filter(|part| !code.contains(*part));
                complaints.extend(
                    unsaid.map(|part| format!("{page} quotes \"{part}\", which no message says")),
                );
            }
        }
    }
    (found, complaints)
}

/// The quotes of a cell, without backticks.
fn quotes(cell: &str, how: Quoted) -> Vec<String> {
    match how {
        Quoted::Whole => vec![cell.replace('`', "")],
        Quoted::InBackticks => {
            // Two backticks around a quote that has single ones in it.
            let mark = if cell.contains("``") { "``" } else { "`" };
            cell.split(mark)
                .skip(1)
                .step_by(2)
                .map(|quote| without_names(&quote.replace('`', "")))
                .collect()
        }
    }
}

/// A word in capital letters stands for what differs.
fn without_names(quote: &str) -> String {
    let is_name = |word: &str| {
        let letters = word.trim_matches(|char: char| !char.is_alphanumeric());
        !letters.is_empty() && letters.chars().all(|char| char.is_ascii_uppercase() || char == '_')
    };
    quote
        .split(' ')
        .map(|word| if is_name(word) { "…" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

/// What of a quote must be said: its long parts, or all of it where every one is short.
fn parts(quoted: &str) -> Vec<&str> {
    let split = quoted.split('…').flat_map(|part| part.split(" / "));
    let all: Vec<_> = split.map(|part| part.trim_matches([' ', ',', ';', ':'])).collect();
    let long: Vec<_> = all.iter().copied().filter(|part| part.len() >= PART_MIN).collect();
    if long.is_empty() { all.into_iter().filter(|part| !part.is_empty()).collect() } else { long }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "| it says | it means | do |\n|---|---|---|\n";

    #[test]
    fn a_message_is_found_over_lines_and_around_what_differs() {
        let code = joined("error(\"{} has gone away, \\\n    restore `{}` from a backup\")");
        let page = format!("{HEAD}| … has gone away, restore … from a backup | x | y |\n");
        assert_eq!(missing("page", &page, Quoted::Whole, &code), (2, Vec::new()));
    }

    #[test]
    fn a_message_that_nobody_says_is_a_complaint() {
        let page =
            format!("{HEAD}| has gone away / was never there | x | y |\n\n| other | `table` |\n");
        let (_, complaints) = missing("page", &page, Quoted::Whole, "has gone away");
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains("was never there"), "{complaints:?}");
    }

    #[test]
    fn on_other_pages_backticks_make_a_quote_and_capital_letters_a_name() {
        let code = joined(
            "error(\"downstream CA {} waits for {}\") error(\"setting `mount` is wrong: {}\")",
        );
        let missing = |cell: &str| {
            missing("page", &format!("{HEAD}| {cell} | x | y |\n"), Quoted::InBackticks, &code).1
        };
        assert_eq!(missing("the same, and `downstream CA NAME waits for …`"), Vec::<String>::new());
        assert_eq!(missing("``setting `mount` is wrong: …``"), Vec::<String>::new());
        assert_eq!(missing("`downstream CA NAME never waits for anybody`").len(), 1);
    }

    #[test]
    fn a_table_that_nobody_said_of_whether_it_quotes_is_a_complaint() {
        let page = format!(
            "{HEAD}| x | y | z |\n\n| fault | do |\n|---|---|\n| a | b |\n\n| path | what |\n|---|---|\n"
        );
        let complaints = unlisted("page", &page);
        assert!(
            complaints.len() == 1 && complaints[0].contains("| fault | do |"),
            "{complaints:?}"
        );
    }

    #[test]
    fn what_only_a_test_says_is_said_by_nobody_and_a_short_quote_counts_as_a_whole() {
        let code =
            joined(shipped("error(\"gone\")\n#[cfg(test)]\nmod tests {\n    \"never there\" \n}"));
        let missing = |cell: &str| {
            missing("page", &format!("{HEAD}| {cell} | x | y |\n"), Quoted::Whole, &code).1
        };
        assert_eq!(missing("never there").len(), 1);
        assert_eq!(missing("gone"), Vec::<String>::new());
        assert_eq!(missing("lost").len(), 1);
    }
}
