//! The Rust files below a folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Rust files below a folder, with their text; without hidden folders, `target`, and crates that lie inside.
pub(super) fn below(folder: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    if folder.is_dir() {
        visit(folder, &mut found)?;
    }
    found.sort();
    Ok(found)
}

/// Lines of a text that are code, numbered from 1.
pub(super) fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn visit(folder: &Path, found: &mut Vec<(PathBuf, String)>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        if entry.file_type()?.is_dir() {
            let passed_over = name == "target" || name.as_encoded_bytes().starts_with(b".");
            if !passed_over && !path.join("Cargo.toml").exists() {
                visit(&path, found)?;
            }
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            found.push((path, text));
        }
    }
    Ok(())
}
