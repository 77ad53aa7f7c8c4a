//! Dependencies that nothing uses: each costs every build, and is one more thing to keep up to date.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use toml::{Table, Value};

use super::sources;

/// Dependencies that no file of their crate names, and those of the workspace that no crate has.
pub(super) fn complaints(root: &Path, manifests: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let (mut complaints, mut wanted) = (Vec::new(), BTreeSet::new());
    for path in manifests {
        let manifest = read(path)?;
        let folder = path.parent().context("a manifest lies in a folder")?;
        let shown = path.strip_prefix(root).unwrap_or(path).display();
        for (table, by_tests) in
            [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)]
        {
            let names: Vec<&String> = manifest
                .get(table)
                .and_then(Value::as_table)
                .into_iter()
                .flat_map(Table::keys)
                .collect();
            wanted.extend(names.iter().map(|name| (*name).clone()));
            let files = files(folder, by_tests)?;
            let unnamed =
                names.iter().filter(|name| !files.iter().any(|(_, text)| is_named(text, name)));
            complaints.extend(unnamed.map(|name| match by_tests {
                false => format!("{shown}: no code takes `{name}` of [{table}]: remove it, or move it to [dev-dependencies]"),
                true => format!("{shown}: no test takes `{name}` of [{table}]: remove it"),
            }));
        }
    }
    let workspace = read(&root.join("Cargo.toml"))?;
    let all = workspace
        .get("workspace")
        .and_then(|table| table.get("dependencies"))
        .and_then(Value::as_table);
    let unwanted = all.into_iter().flat_map(Table::keys).filter(|name| !wanted.contains(*name));
    complaints.extend(unwanted.map(|name| {
        format!("Cargo.toml: no crate wants `{name}` of [workspace.dependencies]: remove it")
    }));
    Ok(complaints)
}

fn read(path: &Path) -> anyhow::Result<Table> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("parse {}", path.display()))
}

/// The files that may name a dependency: those of the code, or those of the tests too.
fn files(folder: &Path, by_tests: bool) -> anyhow::Result<Vec<(PathBuf, String)>> {
    if by_tests {
        return sources::below(folder);
    }
    let mut files = sources::below(&folder.join("src"))?;
    let build = folder.join("build.rs");
    if let Ok(text) = fs::read_to_string(&build) {
        files.push((build, text));
    }
    Ok(files)
}

/// Crates whose library is named otherwise than their package.
const LIBRARIES: [(&str, &str); 1] = [("rustls-webpki", "webpki")];

/// Whether a line of code has the name that the dependency has in Rust, as a word.
fn is_named(text: &str, dependency: &str) -> bool {
    let library =
        LIBRARIES.iter().find(|(package, _)| *package == dependency).map(|(_, library)| *library);
    let name = library.unwrap_or(dependency).replace('-', "_");
    let in_word = |char: char| char.is_alphanumeric() || char == '_';
    sources::code(text).any(|(_, line)| {
        line.match_indices(&name).any(|(at, found)| {
            let before = line.get(..at).and_then(|text| text.chars().next_back());
            let after = line.get(at + found.len()..).and_then(|text| text.chars().next());
            !before.is_some_and(in_word) && !after.is_some_and(in_word)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_is_named_by_its_rust_name_as_a_word_of_code() {
        assert!(is_named("use rustls_pki_types::UnixTime;", "rustls-pki-types"));
        assert!(is_named("use webpki::Error;", "rustls-webpki"));
        assert!(is_named("fn a() -> toml::Table {}", "toml"));
        assert!(!is_named("use rustls_pki_types::UnixTime;", "rustls"));
        assert!(!is_named("// toml is not taken\nlet tomlish = 1;", "toml"));
    }

    #[test]
    fn a_dependency_that_only_tests_take_or_nobody_does_is_a_complaint() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("one/src")).unwrap();
        fs::create_dir_all(root.join("one/tests")).unwrap();
        fs::write(
            root.join("Cargo.toml"),
            "[workspace.dependencies]\na = '1'\nb = '1'\nc = '1'\nd = '1'\n",
        )
        .unwrap();
        fs::write(
            root.join("one/Cargo.toml"),
            "[dependencies]\na = '1'\nb = '1'\n[dev-dependencies]\nc = '1'\n",
        )
        .unwrap();
        fs::write(root.join("one/src/lib.rs"), "pub use a::A;").unwrap();
        fs::write(root.join("one/tests/test.rs"), "use b::B;").unwrap();
        let found = complaints(root, &[root.join("one/Cargo.toml")]).unwrap();
        let about: Vec<_> = found.iter().map(|text| text.split('`').nth(1).unwrap()).collect();
        assert_eq!(about, ["b", "c", "d"], "{found:?}");
    }
}
