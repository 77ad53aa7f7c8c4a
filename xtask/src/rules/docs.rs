//! Documents that point into the code: every `path.rs` and `path.rs:name` in backticks must be there.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::Context;

/// Words that declare a name in a source file.
const DECLARES: [&str; 12] = [
    "fn ",
    "struct ",
    "enum ",
    "trait ",
    "type ",
    "const ",
    "mod ",
    "rpc ",
    "message ",
    "service ",
    "macro_rules! ",
    "static ",
];

/// Pointers in `README.md`, in `CONTRIBUTING.md` and below `docs/` that lead nowhere.
pub(super) fn dangling(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut complaints = Vec::new();
    for page in ["README.md", "CONTRIBUTING.md"] {
        document(root, Path::new(page), &mut complaints)?;
    }
    visit(root, Path::new("docs"), &mut complaints)?;
    complaints.sort();
    Ok(complaints)
}

fn visit(root: &Path, below: &Path, complaints: &mut Vec<String>) -> anyhow::Result<()> {
    let folder = root.join(below);
    for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            visit(root, &path, complaints)?;
        } else if path.extension() == Some(OsStr::new("md")) {
            document(root, &path, complaints)?;
        }
    }
    Ok(())
}

fn document(root: &Path, path: &Path, complaints: &mut Vec<String>) -> anyhow::Result<()> {
    let text =
        fs::read_to_string(root.join(path)).with_context(|| format!("read {}", path.display()))?;
    for pointer in pointers(&text) {
        let fault = fault(&pointer, &|file| fs::read_to_string(root.join(file)).ok());
        if let Some(fault) = fault {
            complaints.push(format!("{}: `{}` {fault}", path.display(), pointer.text));
        }
    }
    Ok(())
}

/// A place in the code that a document names.
#[derive(Debug, PartialEq, Eq)]
struct Pointer<'t> {
    text: &'t str,
    file: &'t str,
    /// `function`, or `Type::function`.
    name: Option<&'t str>,
}

/// Spans in backticks, outside of fenced blocks, that name a source file by its path.
fn pointers(text: &str) -> Vec<Pointer<'_>> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(line.split('`').skip(1).step_by(2).filter_map(pointer));
        }
    }
    found
}

fn pointer(text: &str) -> Option<Pointer<'_>> {
    let (file, name) = match text.split_once(':') {
        Some((file, name)) => (file, Some(name)),
        None => (text, None),
    };
    let is_source = file.ends_with(".rs") || file.ends_with(".proto");
    // A path with a space in it is one that a replacement of words has broken.
    let is_path = file.contains('/') && !file.contains(|c: char| "*<>{}".contains(c));
    (is_source && is_path).then_some(Pointer { text, file, name })
}

fn fault(pointer: &Pointer<'_>, read: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let Some(source) = read(pointer.file) else {
        return Some("is no file of this repository".to_owned());
    };
    let name = pointer.name?;
    let mut parts = name.rsplit("::");
    let declared = parts.next().is_some_and(|last| declares(&source, last));
    let around = parts.all(|part| words(&source).any(|word| word == part));
    (!declared || !around).then(|| format!("names nothing in {}", pointer.file))
}

fn declares(source: &str, name: &str) -> bool {
    DECLARES.iter().any(|keyword| {
        source.match_indices(keyword).any(|(at, _)| {
            let rest = source.get(at + keyword.len()..).unwrap_or_default();
            words(rest).next() == Some(name) && rest.starts_with(name)
        })
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(document: &str) -> Vec<String> {
        let read = |file: &str| {
            let source =
                "pub struct Door;\nimpl Door {\n    pub(crate) async fn open_it(&self) {}\n}\n";
            (file == "one/src/door.rs").then(|| source.to_owned())
        };
        pointers(document).iter().filter_map(|pointer| fault(pointer, &read)).collect()
    }

    #[test]
    fn what_is_there_is_no_complaint() {
        let good = "`one/src/door.rs`, `one/src/door.rs:Door`, `one/src/door.rs:open_it` and \
                    `one/src/door.rs:Door::open_it`";
        assert_eq!(pointers(good).len(), 4);
        assert_eq!(faults(good), Vec::<String>::new());
    }

    #[test]
    fn a_missing_file_a_missing_name_and_a_part_of_a_name_are_complaints() {
        for bad in [
            "`one/src/window.rs`",
            "`one/src/the door.rs`",
            "`one/src/door.rs:close`",
            "`one/src/door.rs:open`",
            "`one/src/door.rs:Window::open_it`",
            "`one/src/door.rs:self`",
        ] {
            assert_eq!(faults(bad).len(), 1, "{bad}");
        }
    }

    #[test]
    fn blocks_patterns_and_other_words_are_no_pointers() {
        let text = "```\n`one/src/window.rs`\n```\n`*.rs` `a.rs:b` `banyan.toml` one/src/window.rs `serve --config x`\n";
        assert_eq!(pointers(text), []);
    }
}
