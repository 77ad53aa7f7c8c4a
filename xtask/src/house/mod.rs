//! The house rules as checks: `house.toml` against the workspace as it is.
//!
//! Each check is a function from data to a list of complaints, so that a test can show it failing.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

mod arrows;
mod circles;
mod docs;
mod lines;
mod lock;
mod manifests;
mod rules;
mod said;
mod words;

use rules::{House, LockRules};

/// Checks every rule.
///
/// # Errors
/// If a rule is broken: the text lists every complaint, one a line.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let house = read(root)?;
    let found = arrows::Found::in_workspace(root)?;
    let mut complaints = arrow_complaints(&house, &found);
    complaints.extend(manifests::without_lints(&found.manifests)?);
    complaints.extend(lines::too_long(root, &house.files)?);
    complaints.extend(circles::complaints(root, &found.manifests, &house)?);
    complaints.extend(docs::dangling(root)?);
    complaints.extend(said::never_said(root)?);
    complaints.extend(words::unwanted(root, &house.words)?);
    complaints.extend(lock_complaints(root, &house.lock)?);
    if !complaints.is_empty() {
        bail!("the house is not in order:\n  {}", complaints.join("\n  "));
    }
    Ok(())
}

fn read(root: &Path) -> anyhow::Result<House> {
    let path = root.join("house.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("parse {}", path.display()))
}

fn arrow_complaints(house: &House, found: &arrows::Found) -> Vec<String> {
    let mut complaints = arrows::differences("arrows", &house.arrows, &found.arrows);
    complaints.extend(arrows::differences("test-arrows", &house.test_arrows, &found.test_arrows));
    complaints.extend(arrows::uses_of(&house.rooms.used_by_none, found));
    complaints.extend(arrows::circle(found));
    complaints.extend(arrows::unknown_rooms(house, found));
    complaints
}

fn lock_complaints(root: &Path, rules: &LockRules) -> anyhow::Result<Vec<String>> {
    let path = root.join("Cargo.lock");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    lock::complaints(&text, rules).with_context(|| format!("parse {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn root_and_house() -> (PathBuf, House) {
        let root = crate::repository_root().unwrap();
        let house = read(&root).unwrap();
        (root, house)
    }

    #[test]
    fn rooms_use_each_other_exactly_as_house_toml_says() {
        let (root, house) = root_and_house();
        let found = arrows::Found::in_workspace(&root).unwrap();
        assert_eq!(arrow_complaints(&house, &found), Vec::<String>::new());
    }

    #[test]
    fn every_room_has_the_lint_table_of_the_workspace() {
        let (root, _) = root_and_house();
        let found = arrows::Found::in_workspace(&root).unwrap();
        assert!(found.manifests.len() > 10, "{found:?}");
        assert_eq!(manifests::without_lints(&found.manifests).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn no_file_is_too_long() {
        let (root, house) = root_and_house();
        assert_eq!(lines::too_long(&root, &house.files).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn no_files_take_from_each_other_in_a_circle() {
        let (root, house) = root_and_house();
        let found = arrows::Found::in_workspace(&root).unwrap();
        let complaints = circles::complaints(&root, &found.manifests, &house).unwrap();
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }

    #[test]
    fn documents_name_only_code_that_is_there() {
        let (root, _) = root_and_house();
        assert_eq!(docs::dangling(&root).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn nothing_is_written_in_a_phrase_that_readers_stumble_over() {
        let (root, house) = root_and_house();
        assert_eq!(words::unwanted(&root, &house.words).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn messages_that_the_operations_page_quotes_are_said_somewhere() {
        let (root, _) = root_and_house();
        assert_eq!(said::never_said(&root).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn the_lock_file_has_one_tonic_one_rustls_and_one_provider_of_cryptography() {
        let (root, house) = root_and_house();
        assert_eq!(lock_complaints(&root, &house.lock).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn an_unknown_key_in_house_toml_is_refused() {
        let root = crate::repository_root().unwrap();
        let text = fs::read_to_string(root.join("house.toml")).unwrap();
        let misspelt = text.replace("lines_of_code_max", "lines_of_code_maximum");
        assert!(toml::from_str::<House>(&misspelt).is_err());
    }
}
