//! What files of a folder never name, so that what is known there stays apart from what is known elsewhere.

use std::path::Path;

use super::layering::Apart;
use super::sources;

/// Lines of code that name what is to be kept out of their folder.
pub(super) fn complaints(root: &Path, rules: &[Apart]) -> anyhow::Result<Vec<String>> {
    let mut complaints = Vec::new();
    for Apart { folder, names, why } in rules {
        let files = sources::below(&root.join(folder))?;
        if files.is_empty() {
            complaints.push(format!(
                "[[apart]] {}: no Rust file lies there: name the folder as it is now",
                folder.display()
            ));
        }
        for (path, text) in files {
            let shown = path.strip_prefix(root).unwrap_or(&path).display();
            for (number, line) in sources::code(&text) {
                let named = names.iter().filter(|name| line.contains(name.as_str()));
                complaints.extend(named.map(|name| {
                    format!("{shown}:{number} names {name}, which is kept out: {why}")
                }));
            }
        }
    }
    Ok(complaints)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_name_that_is_kept_out_is_found_in_code_and_not_in_comments_and_a_folder_that_is_gone_is_told()
     {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("hub")).unwrap();
        fs::write(folder.path().join("hub/a.rs"), "// wire::A\nuse wire::B;\n").unwrap();
        let rule = |folder: &str| Apart {
            folder: folder.into(),
            names: vec!["wire::".to_owned()],
            why: "adapters translate".to_owned(),
        };
        let found = complaints(folder.path(), &[rule("hub")]).unwrap();
        assert_eq!(found, ["hub/a.rs:2 names wire::, which is kept out: adapters translate"]);
        assert_eq!(complaints(folder.path(), &[rule("gone")]).unwrap().len(), 1);
    }
}
