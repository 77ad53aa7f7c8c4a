//! What every member's manifest must say.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use toml::{Table, Value};

/// Members without the workspace's lint table: in such a crate unsafe code and missing documentation pass unseen.
pub(super) fn without_lints(manifests: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let mut complaints = Vec::new();
    for path in manifests {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let manifest: Table =
            toml::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
        let inherits =
            manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(Value::as_bool);
        if inherits != Some(true) {
            complaints
                .push(format!("{} has no `[lints] workspace = true`: add it", path.display()));
        }
    }
    Ok(complaints)
}

/// Members whose code, and not their tests alone, asks for the feature `testing` of a dependency: fakes would be shipped.
/// `ends` are members that ship nothing.
pub(super) fn with_fakes(
    manifests: &[PathBuf],
    ends: &BTreeSet<String>,
) -> anyhow::Result<Vec<String>> {
    let mut complaints = Vec::new();
    for path in manifests {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let manifest: Table =
            toml::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
        let name =
            manifest.get("package").and_then(|package| package.get("name")).and_then(Value::as_str);
        if name.is_some_and(|name| ends.contains(name)) {
            continue;
        }
        let testing = |wanted: &Value| {
            let features = wanted.get("features").and_then(Value::as_array);
            features
                .is_some_and(|features| features.iter().any(|one| one.as_str() == Some("testing")))
        };
        let code = manifest.get("dependencies").and_then(Value::as_table).into_iter().flatten();
        complaints.extend(code.filter(|(_, wanted)| testing(wanted)).map(|(dependency, _)| {
            let path = path.display();
            format!("{path} asks for `{dependency}` with the feature `testing` in [dependencies]: only [dev-dependencies] may")
        }));
    }
    Ok(complaints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fake_in_code_is_a_complaint_and_in_tests_or_at_an_end_of_the_workspace_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, table: &str| {
            let path = folder.path().join(format!("{name}.toml"));
            let text = format!(
                "[package]\nname = '{name}'\n[{table}]\nhost = {{ features = ['testing'] }}\n"
            );
            fs::write(&path, text).unwrap();
            path
        };
        let all = [
            write("a", "dependencies"),
            write("b", "dev-dependencies"),
            write("end", "dependencies"),
        ];
        let complaints = with_fakes(&all, &BTreeSet::from(["end".to_owned()])).unwrap();
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains("a.toml asks for `host`"), "{complaints:?}");
    }

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
