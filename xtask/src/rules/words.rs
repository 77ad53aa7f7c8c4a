//! Phrases of `layering.toml` that no source file and no page has, since a reader stumbles over them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::Context;

/// Ends of the names of files that are read by people.
const KINDS: [&str; 3] = ["md", "proto", "rs"];

/// Places where one of the phrases stands.
pub(super) fn unwanted(
    root: &Path,
    phrases: &BTreeMap<String, String>,
) -> anyhow::Result<Vec<String>> {
    let mut complaints = Vec::new();
    visit(root, Path::new(""), phrases, &mut complaints)?;
    complaints.sort();
    Ok(complaints)
}

fn visit(
    root: &Path,
    below: &Path,
    phrases: &BTreeMap<String, String>,
    complaints: &mut Vec<String>,
) -> anyhow::Result<()> {
    let folder = root.join(below);
    for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), below.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                visit(root, &path, phrases, complaints)?;
            }
        } else if path.extension().and_then(OsStr::to_str).is_some_and(|kind| KINDS.contains(&kind))
        {
            let text = fs::read_to_string(root.join(&path))
                .with_context(|| format!("read {}", path.display()))?;
            complaints.extend(
                found(&text, phrases).map(|complaint| format!("{}:{complaint}", path.display())),
            );
        }
    }
    Ok(())
}

fn found<'t>(
    text: &'t str,
    phrases: &'t BTreeMap<String, String>,
) -> impl Iterator<Item = String> + 't {
    text.lines().zip(1..).flat_map(move |(line, number)| {
        let unwanted = phrases.iter().filter(|(phrase, _)| line.contains(phrase.as_str()));
        unwanted.map(move |(phrase, better)| format!("{number}: \"{phrase}\": write \"{better}\""))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phrase_is_found_with_its_line_and_what_to_write() {
        let phrases = BTreeMap::from([("thou shalt".to_owned(), "set".to_owned())]);
        let complaints: Vec<_> = found("first\nthou shalt set it", &phrases).collect();
        assert_eq!(complaints, ["2: \"thou shalt\": write \"set\""]);
        assert_eq!(found("set it", &phrases).count(), 0);
    }
}
