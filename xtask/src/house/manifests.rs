//! What every member's manifest must say.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use toml::{Table, Value};

/// Members without the workspace's lint table: in such a crate unsafe code and missing documentation pass unseen.
pub(super) fn without_lints(manifests: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let mut complaints = Vec::new();
    for path in manifests {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let manifest: Table = toml::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
        let inherits =
            manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(Value::as_bool);
        if inherits != Some(true) {
            complaints.push(format!("{} has no `[lints] workspace = true`: add it", path.display()));
        }
    }
    Ok(complaints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_without_the_lint_table_is_a_complaint() {
        let folder = tempfile::tempdir().unwrap();
        let with = folder.path().join("with.toml");
        let without = folder.path().join("without.toml");
        fs::write(&with, "[package]\nname = \"a\"\n[lints]\nworkspace = true\n").unwrap();
        fs::write(&without, "[package]\nname = \"b\"\n").unwrap();
        let complaints = without_lints(&[with, without]).unwrap();
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains("without.toml"), "{complaints:?}");
    }
}
