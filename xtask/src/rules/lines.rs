//! How long files are: lines that are neither blank nor comment.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::Context;

use super::layering::Files;

/// Kinds of file that are code, with how a comment starts in them and how it starts and ends over several lines.
const LANGUAGES: [(&str, Language); 8] = [
    ("rs", Language { line: "//", block: Some(("/*", "*/")) }),
    ("proto", Language { line: "//", block: Some(("/*", "*/")) }),
    ("js", Language { line: "//", block: Some(("/*", "*/")) }),
    ("go", Language { line: "//", block: Some(("/*", "*/")) }),
    ("css", Language { line: "/*", block: Some(("/*", "*/")) }),
    ("html", Language { line: "<!--", block: Some(("<!--", "-->")) }),
    ("py", Language { line: "#", block: None }),
    ("sh", Language { line: "#", block: None }),
];

#[derive(Debug, Clone, Copy)]
struct Language {
    line: &'static str,
    block: Option<(&'static str, &'static str)>,
}

/// Files of this repository with more lines of code than allowed.
pub(super) fn too_long(root: &Path, rules: &Files) -> anyhow::Result<Vec<String>> {
    let mut complaints = Vec::new();
    visit(root, Path::new(""), rules, &mut complaints)?;
    complaints.sort();
    Ok(complaints)
}

fn visit(
    root: &Path,
    below: &Path,
    rules: &Files,
    complaints: &mut Vec<String>,
) -> anyhow::Result<()> {
    let folder = root.join(below);
    for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if hidden || rules.exempt.contains(&path) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            visit(root, &path, rules, complaints)?;
        } else if let Some(language) = path.extension().and_then(language) {
            let text = fs::read_to_string(entry.path())
                .with_context(|| format!("read {}", path.display()))?;
            let (lines, most) = (count(&text, language), rules.lines_of_code_max);
            if lines > most {
                complaints.push(format!(
                    "{} has {lines} lines of code, more than {most}: split it",
                    path.display()
                ));
            }
        }
    }
    Ok(())
}

fn language(extension: &OsStr) -> Option<Language> {
    LANGUAGES.iter().find(|(known, _)| extension == *known).map(|(_, language)| *language)
}

/// Lines of code: a line counts if it has anything but blanks and comment. Text in quotes over several lines counts as code
/// unless it looks like a comment, which errs towards shorter.
fn count(text: &str, language: Language) -> usize {
    let mut code = 0;
    let mut ends_block: Option<&str> = None;
    for line in text.lines().map(str::trim) {
        if let Some(end) = ends_block {
            if line.contains(end) {
                ends_block = None;
            }
            continue;
        }
        if let Some((start, end)) = language.block
            && line.starts_with(start)
        {
            let closed = line.strip_prefix(start).is_some_and(|rest| rest.contains(end));
            ends_block = (!closed).then_some(end);
            continue;
        }
        if !line.is_empty() && !line.starts_with(language.line) {
            code += 1;
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_and_comments_do_not_count() {
        let rust = language(OsStr::new("rs")).unwrap();
        let text = "//! doc\n\n/* one\n two\n*/\n/* short */\nfn a() { // why\n    /// doc\n}\n";
        assert_eq!(count(text, rust), 2);
        let python = language(OsStr::new("py")).unwrap();
        assert_eq!(count("#!/usr/bin/env python3\n\nprint(1)  # why\n", python), 1);
    }

    #[test]
    fn a_file_that_is_too_long_is_a_complaint_unless_exempt() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("one/src/gen")).unwrap();
        for name in ["one/src/lib.rs", "one/src/gen/a.rs", "one/notes.md"] {
            fs::write(folder.path().join(name), "code();\n".repeat(5)).unwrap();
        }
        let rules = |lines_of_code_max| Files {
            lines_of_code_max,
            circles_left: 0,
            tuple_arguments_left: 0,
            exempt: vec!["one/src/gen".into()],
        };
        let complaints = too_long(folder.path(), &rules(4)).unwrap();
        assert_eq!(complaints, ["one/src/lib.rs has 5 lines of code, more than 4: split it"]);
        assert_eq!(too_long(folder.path(), &rules(5)).unwrap(), Vec::<String>::new());
    }
}
