//! `cargo xtask new-plugin NAME`: a root authority that compiles and passes the suite, to be filled in.
//!
//! Inside the repository the crate is also listed wherever a plugin must be; with `--out` it stands on its own and depends
//! on this checkout by path. Every edit is prepared before the first file is written.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

const FILES: [(&str, &str); 4] = [
    ("src/lib.rs", include_str!("../template/lib.rs")),
    ("src/config.rs", include_str!("../template/config.rs")),
    ("src/upstream.rs", include_str!("../template/upstream.rs")),
    ("tests/conformance.rs", include_str!("../template/conformance.rs")),
];
const MANIFEST: &str = include_str!("../template/manifest.toml");
const MANIFEST_OUTSIDE: &str = include_str!("../template/manifest-outside.toml");
const PAGE: &str = include_str!("../template/page.md");
const NAME_MAX: usize = 32;

/// Makes the crate.
///
/// # Errors
/// If the name will not do, something is there already, or a line that others follow is gone.
pub(crate) fn run(root: &Path, name: &str, outside: Option<&Path>) -> anyhow::Result<()> {
    let name = Name::parse(name)?;
    match outside {
        Some(folder) => write_outside(root, &name, folder),
        None => write_inside(root, &name),
    }
}

fn write_inside(root: &Path, name: &Name) -> anyhow::Result<()> {
    let folder = root.join("plugins").join(&name.text);
    ensure!(!folder.exists(), "{} is there already: take another name", folder.display());
    let page = root.join("docs/plugins").join(format!("{}.md", name.text));
    ensure!(!page.exists(), "{} is there already: take another name", page.display());
    let edited = listed(root, name)?;
    write_crate(&folder, name, &name.put_into(MANIFEST))?;
    write(&page, &name.put_into(PAGE))?;
    for (path, text) in edited {
        write(&root.join(path), &text)?;
    }
    let Name { text, package, .. } = name;
    println!("plugins/{text}/ is there, and passes: cargo test -p {package}");
    println!(
        "next: fill in plugins/{text}/src/upstream.rs and src/config.rs, then docs/plugins/{text}.md"
    );
    println!("`grep -rn 'FILL IN' plugins/{text} docs/plugins/{text}.md` shows every place");
    Ok(())
}

fn write_outside(root: &Path, name: &Name, folder: &Path) -> anyhow::Result<()> {
    ensure!(!folder.exists(), "{} is there already: take another folder", folder.display());
    let manifest = name.put_into(MANIFEST_OUTSIDE).replace("BANYAN", &root.display().to_string());
    write_crate(folder, name, &manifest)?;
    write(&folder.join("README.md"), &name.put_into(PAGE))?;
    // The same versions of everything as in the checkout; cargo drops what is not used.
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).context("copy Cargo.lock")?;
    println!("{0} is there, and passes: cd {0} && cargo test", folder.display());
    println!(
        "a program that uses it adds `{}Plugin` to its registry: docs/plugins/writing-a-plugin.md",
        name.kind
    );
    Ok(())
}

fn write_crate(folder: &Path, name: &Name, manifest: &str) -> anyhow::Result<()> {
    write(&folder.join("Cargo.toml"), manifest)?;
    for (path, text) in FILES {
        write(&folder.join(path), &name.put_into(text))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// The name of a plugin, in every form in which it occurs.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    /// `big-ca`.
    text: String,
    /// `plugin-big-ca`.
    package: String,
    /// `BigCa`.
    kind: String,
}

impl Name {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let starts_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        let whole = !text.ends_with('-') && !text.contains("--");
        ensure!(
            starts_well && whole && text.len() <= NAME_MAX && text.bytes().all(allowed),
            "{text:?} will not do as a name: write a-z, 0-9 and single '-', a letter first, at most {NAME_MAX}"
        );
        let capital = |word: &str| {
            let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
            format!("{}{rest}", first.to_ascii_uppercase())
        };
        let kind = text.split('-').map(capital).collect();
        Ok(Self { text: text.to_owned(), package: format!("plugin-{text}"), kind })
    }

    fn put_into(&self, template: &str) -> String {
        let snake = self.text.replace('-', "_");
        template
            .replace("acme_conforms", &format!("{snake}_conforms"))
            .replace("plugin_acme", &format!("plugin_{snake}"))
            .replace("acme", &self.text)
            .replace("Acme", &self.kind)
    }
}

/// The files that list plugins, with one more.
fn listed(root: &Path, name: &Name) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let Name { text, package, kind } = name;
    let snake = text.replace('-', "_");
    let mut edits = Edits { root, files: Vec::new() };
    edits.after(
        "Cargo.toml",
        "  \"plugins/remote\",",
        &format!("  \"plugins/{text}\", # root authority: FILL IN in three words"),
    )?;
    edits.after(
        "Cargo.toml",
        "plugin-remote = {",
        &format!("{package} = {{ path = \"plugins/{text}\" }}"),
    )?;
    edits.after(
        "layering.toml",
        "plugin-remote = [\"plugins\"",
        &format!("{package} = [\"plugins\", \"trust\"]"),
    )?;
    edits.after(
        "layering.toml",
        "plugin-remote = [\"plugin-self",
        &format!("{package} = [\"plugins-conformance\"]"),
    )?;
    edits.within("layering.toml", "ca-server = [", package)?;
    edits.after(
        "ca-server/Cargo.toml",
        "plugin-remote.workspace",
        &format!("{package}.workspace = true"),
    )?;
    let instances = "ca-server/src/boot/instances.rs";
    edits.after(instances, "use plugin_remote::", &format!("use plugin_{snake}::{kind}Plugin;"))?;
    edits.after(
        instances,
        "    registry.add_authority(RemotePlugin)",
        &format!("    registry.add_authority({kind}Plugin);"),
    )?;
    let row = format!("    built_in(\"{text}\", \"{package}\", &[]),");
    edits.before("xtask/src/plugins.rs", "    // new-plugin: further", &row)?;
    edits.after(
        "docs/plugins/README.md",
        "| [`remote`](remote.md) |",
        &format!("| [`{text}`]({text}.md) | FILL IN | FILL IN |"),
    )?;
    edits.after(
        "docs/architecture.md",
        "| `plugins/remote` |",
        &format!(
            "| `plugins/{text}` | a root authority: FILL IN | plugins, trust | `plugins/{text}/src/lib.rs` |"
        ),
    )?;
    Ok(edits.files)
}

/// Texts of files, changed line by line and not yet written.
struct Edits<'a> {
    root: &'a Path,
    files: Vec<(PathBuf, String)>,
}

impl Edits<'_> {
    /// Adds a line after the first one that starts so.
    fn after(&mut self, path: &str, start: &str, new: &str) -> anyhow::Result<()> {
        self.at(path, start, |line| format!("{line}\n{new}"))
    }

    fn before(&mut self, path: &str, start: &str, new: &str) -> anyhow::Result<()> {
        self.at(path, start, |line| format!("{new}\n{line}"))
    }

    /// Adds a name to the list in the line that starts so.
    fn within(&mut self, path: &str, start: &str, name: &str) -> anyhow::Result<()> {
        self.at(path, start, |line| {
            let (head, list) = line.split_once('[').unwrap_or((line, ""));
            let mut names: Vec<&str> = list
                .trim_end_matches(']')
                .split(',')
                .map(|one| one.trim().trim_matches('"'))
                .collect();
            names.push(name);
            names.sort_unstable();
            let names: Vec<_> = names
                .into_iter()
                .filter(|one| !one.is_empty())
                .map(|one| format!("\"{one}\""))
                .collect();
            format!("{head}[{}]", names.join(", "))
        })
    }

    fn at(
        &mut self,
        path: &str,
        start: &str,
        edit: impl FnOnce(&str) -> String,
    ) -> anyhow::Result<()> {
        let known = self.files.iter().position(|(known, _)| known == Path::new(path));
        let place = match known {
            Some(place) => place,
            None => {
                let text = fs::read_to_string(self.root.join(path))
                    .with_context(|| format!("read {path}"))?;
                self.files.push((PathBuf::from(path), text));
                self.files.len() - 1
            }
        };
        let (_, text) = self.files.get_mut(place).context("a file was lost")?;
        let found = text.lines().find(|line| line.starts_with(start)).map(str::to_owned);
        let line = found.with_context(|| {
            format!("{path} has no line that starts with {start:?}: add it by hand")
        })?;
        *text = text.replacen(&line, &edit(&line), 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{process, rules};

    #[test]
    fn a_name_is_put_in_every_form() {
        let name = Name::parse("big-ca").unwrap();
        assert_eq!((name.package.as_str(), name.kind.as_str()), ("plugin-big-ca", "BigCa"));
        let text = name.put_into("plugin_acme acme_conforms plugin = \"acme\" AcmePlugin");
        assert_eq!(text, "plugin_big_ca big_ca_conforms plugin = \"big-ca\" BigCaPlugin");
        for wrong in ["", "-a", "a-", "a--b", "A", "a_b", "9a", &"x".repeat(33)] {
            assert!(Name::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn nothing_is_written_when_something_is_in_the_way() {
        let root = crate::repository_root().unwrap();
        let error = run(&root, "remote", None).unwrap_err().to_string();
        assert!(error.contains("take another name"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        assert!(run(&root, "acme", Some(folder.path())).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    /// Copies what git knows of this checkout, changes and new files included.
    /// A copy of the repository, always in the same place, so that what was built of other projects is of use the next time.
    fn scratch_copy() -> PathBuf {
        let root = crate::repository_root().unwrap();
        let scratch = process::target(&root).join("new-plugin");
        // The build folder in it stays.
        for entry in fs::read_dir(&scratch).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.ends_with("target") => {}
                true => fs::remove_dir_all(path).unwrap(),
                false => fs::remove_file(path).unwrap(),
            }
        }
        let mut list = std::process::Command::new("git");
        list.current_dir(&root).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
        for path in process::output(&mut list).expect("git lists the files").lines() {
            let (from, to) = (root.join(path), scratch.join(path));
            if from.is_file() {
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::copy(from, to).unwrap();
            }
        }
        scratch
    }

    #[test]
    fn a_new_plugin_is_in_order_compiles_and_passes_the_suite() {
        let scratch = scratch_copy();
        let complaints = || rules::check(&scratch).map_err(|error| error.to_string());
        let before = complaints();
        run(&scratch, "big-ca", None).unwrap();
        assert_eq!(complaints(), before, "a new plugin brings no disorder");
        let mut tests = process::cargo(&scratch);
        tests.env("CARGO_TARGET_DIR", scratch.join("target"));
        process::run(tests.args(["test", "--offline", "--quiet", "--package", "plugin-big-ca"]))
            .unwrap();
    }

    #[test]
    fn a_new_plugin_outside_of_the_repository_finds_the_crates_that_it_needs() {
        let (root, folder) = (crate::repository_root().unwrap(), tempfile::tempdir().unwrap());
        let place = folder.path().join("big-ca");
        run(&root, "big-ca", Some(&place)).unwrap();
        let mut tree = process::cargo(&place);
        let tree = process::output(tree.args([
            "tree",
            "--offline",
            "--edges",
            "normal,dev",
            "--depth",
            "1",
        ]));
        let tree = tree.expect("cargo reads the manifest and the lock file");
        for package in ["plugins v", "plugins-conformance v", "trust v"] {
            assert!(tree.contains(package), "{package} is missing in\n{tree}");
        }
    }
}
