//! The rules of the workspace as checks: `layering.toml` against the workspace as it is.
//!
//! Each check is a function from data to a list of complaints, so that a test can show it failing.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

mod apart;
mod arrows;
mod circles;
mod docs;
mod exhaustive;
mod layering;
mod lines;
mod lock;
mod manifests;
mod page;
mod said;
mod sources;
mod tuples;
mod unused;
mod words;

use layering::{Layering, LockRules};

/// Checks every rule.
///
/// # Errors
/// If a rule is broken: the text lists every complaint, one a line.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let layering = read(root)?;
    let found = arrows::Found::in_workspace(root)?;
    let mut complaints = arrow_complaints(&layering, &found);
    complaints.extend(manifests::without_lints(&found.manifests)?);
    complaints.extend(manifests::with_fakes(&found.manifests, &layering.crates.used_by_none)?);
    complaints.extend(lines::too_long(root, &layering.files)?);
    complaints.extend(circles::complaints(root, &found.manifests, &layering)?);
    complaints.extend(unused::complaints(root, &found.manifests)?);
    complaints.extend(exhaustive::complaints(root, &found.manifests)?);
    complaints.extend(tuples::complaints(
        root,
        &found.manifests,
        layering.files.tuple_arguments_left,
    )?);
    complaints.extend(apart::complaints(root, &layering.apart)?);
    complaints.extend(page::complaints(root, &found)?);
    complaints.extend(docs::dangling(root)?);
    complaints.extend(said::never_said(root)?);
    complaints.extend(words::unwanted(root, &layering.words)?);
    complaints.extend(lock_complaints(root, &layering.lock)?);
    if !complaints.is_empty() {
        bail!("the workspace is not in order:\n  {}", complaints.join("\n  "));
    }
    Ok(())
}

fn read(root: &Path) -> anyhow::Result<Layering> {
    let path = root.join("layering.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("parse {}", path.display()))
}

fn arrow_complaints(layering: &Layering, found: &arrows::Found) -> Vec<String> {
    let mut complaints = arrows::differences("arrows", &layering.arrows, &found.arrows);
    complaints.extend(arrows::differences(
        "test-arrows",
        &layering.test_arrows,
        &found.test_arrows,
    ));
    complaints.extend(arrows::uses_of(&layering.crates.used_by_none, found));
    complaints.extend(arrows::circle(found));
    complaints.extend(arrows::unknown_crates(layering, found));
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

    fn root_and_layering() -> (PathBuf, Layering) {
        let root = crate::repository_root().unwrap();
        let layering = read(&root).unwrap();
        (root, layering)
    }

    #[test]
    fn crates_use_each_other_exactly_as_layering_toml_says() {
        let (root, layering) = root_and_layering();
        let found = arrows::Found::in_workspace(&root).unwrap();
        assert_eq!(arrow_complaints(&layering, &found), Vec::<String>::new());
    }

    #[test]
    fn the_page_about_the_architecture_lists_every_crate_and_what_it_uses() {
        let (root, _) = root_and_layering();
        let found = arrows::Found::in_workspace(&root).unwrap();
        assert_eq!(page::complaints(&root, &found).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn every_crate_has_the_lint_table_of_the_workspace() {
        let (root, _) = root_and_layering();
        let found = arrows::Found::in_workspace(&root).unwrap();
        assert!(found.manifests.len() > 10, "{found:?}");
        assert_eq!(manifests::without_lints(&found.manifests).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn no_fake_is_shipped() {
        let (root, layering) = root_and_layering();
        let found = arrows::Found::in_workspace(&root).unwrap();
        let complaints =
            manifests::with_fakes(&found.manifests, &layering.crates.used_by_none).unwrap();
        assert_eq!(complaints, Vec::<String>::new());
    }

    #[test]
    fn no_file_is_too_long() {
        let (root, layering) = root_and_layering();
        assert_eq!(lines::too_long(&root, &layering.files).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn no_files_take_from_each_other_in_a_circle() {
        let (root, layering) = root_and_layering();
        let found = arrows::Found::in_workspace(&root).unwrap();
        let complaints = circles::complaints(&root, &found.manifests, &layering).unwrap();
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }

    #[test]
    fn no_dependency_is_unused() {
        let (root, _) = root_and_layering();
        let found = arrows::Found::in_workspace(&root).unwrap();
        let complaints = unused::complaints(&root, &found.manifests).unwrap();
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }

    #[test]
    fn no_function_groups_arguments_in_a_tuple() {
        let (root, layering) = root_and_layering();
        let found = arrows::Found::in_workspace(&root).unwrap();
        let left = layering.files.tuple_arguments_left;
        let complaints = tuples::complaints(&root, &found.manifests, left).unwrap();
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }

    #[test]
    fn what_is_to_stay_apart_is_apart() {
        let (root, layering) = root_and_layering();
        assert_eq!(apart::complaints(&root, &layering.apart).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn documents_name_only_code_that_is_there() {
        let (root, _) = root_and_layering();
        assert_eq!(docs::dangling(&root).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn nothing_is_written_in_a_phrase_that_readers_stumble_over() {
        let (root, layering) = root_and_layering();
        assert_eq!(words::unwanted(&root, &layering.words).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn messages_that_the_operations_page_quotes_are_said_somewhere() {
        let (root, _) = root_and_layering();
        assert_eq!(said::never_said(&root).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn the_lock_file_has_one_tonic_one_rustls_and_one_provider_of_cryptography() {
        let (root, layering) = root_and_layering();
        assert_eq!(lock_complaints(&root, &layering.lock).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn an_unknown_key_in_layering_toml_is_refused() {
        let root = crate::repository_root().unwrap();
        let text = fs::read_to_string(root.join("layering.toml")).unwrap();
        let misspelt = text.replace("lines_of_code_max", "lines_of_code_maximum");
        assert!(toml::from_str::<Layering>(&misspelt).is_err());
    }
}
