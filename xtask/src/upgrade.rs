//! `cargo xtask upgrade`: two releases side by side. The former one is built from this repository's own history, into the cache;
//! then servers are replaced by the new one and taken back, over a real etcd and under traffic.
//!
//! The tests are `integration-tests/tests/replicas/upgrade.rs`; the gate runs them with one program in both roles.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::cache::Cache;
use crate::{process, replicas};

/// The former release: the last commit before the last change of what servers store. After it came records of the ledger for
/// leaves that were issued unmatched, the entry `recovery_requested` of the journal, and the marks of a restore.
///
/// Whoever changes a stored format next writes here the commit before that change.
const FORMER: &str = "2e424359e44c018c37f971900c00297cdf57e45a";
/// Characters of it that name its folder in the cache.
const SHORT: usize = 12;
/// What the tests' names have in common.
const PART: &str = "servers_are_replaced";

/// Builds the former release, runs the tests with both, and prints the sum of their figures as one line of JSON.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let former = built(root, &Cache::from_environment()?, FORMER)?;
    replicas::run_beside(root, Some(PART), Some(&former))
}

/// The program `banyan` of that commit.
fn built(root: &Path, cache: &Cache, commit: &str) -> anyhow::Result<PathBuf> {
    let folder = cache.former(commit.get(..SHORT).unwrap_or(commit));
    let source = folder.join("source");
    if !source.is_dir() {
        unpack(root, commit, &source)?;
    }
    let target = folder.join("target");
    let mut build = process::cargo(&source);
    build.env("CARGO_TARGET_DIR", &target);
    // As small as it can be: nobody looks into it.
    build.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_INCREMENTAL", "0");
    process::run(build.args(["build", "--locked", "--workspace", "--bin", "banyan"]))
        .with_context(|| format!("build the former release in {}", source.display()))?;
    let program = target.join("debug/banyan");
    ensure!(program.is_file(), "the build left no {}", program.display());
    Ok(program)
}

/// Puts the files of a commit into a new folder, whole or not at all.
fn unpack(root: &Path, commit: &str, folder: &Path) -> anyhow::Result<()> {
    must_have(root, commit)?;
    let parts = folder.with_extension("new");
    let archive = folder.with_extension("tar");
    if parts.exists() {
        fs::remove_dir_all(&parts).with_context(|| format!("remove {}", parts.display()))?;
    }
    fs::create_dir_all(&parts).with_context(|| format!("make {}", parts.display()))?;
    let mut pack = git(root);
    process::run(pack.args(["archive", "--format=tar", "--output"]).arg(&archive).arg(commit))?;
    process::run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&parts))?;
    fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))?;
    fs::rename(&parts, folder).with_context(|| format!("name {}", folder.display()))
}

fn must_have(root: &Path, commit: &str) -> anyhow::Result<()> {
    let object = format!("{commit}^{{commit}}");
    if process::succeeds(git(root).args(["cat-file", "-e", &object])) {
        return Ok(());
    }
    match process::output(git(root).args(["rev-parse", "--is-shallow-repository"])).as_deref() {
        Some("true") => bail!(
            "the former release is commit {commit}, and this clone has only the newest part of the history: run \
             `git fetch --unshallow`"
        ),
        Some(_) => bail!(
            "the former release is commit {commit}, which {} does not have: run `git fetch` from the repository's origin",
            root.display()
        ),
        None => bail!(
            "the former release is commit {commit} of the history, and {} is no clone of the repository: run this in one",
            root.display()
        ),
    }
}

fn git(root: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(root);
    git
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(root: &Path, arguments: &[&str]) {
        let as_somebody = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
        process::run(git(root).args(as_somebody).args(arguments)).unwrap();
    }

    #[test]
    fn without_the_commit_the_error_says_how_to_get_it() {
        let home = tempfile::tempdir().unwrap();
        let said = |root: &Path| must_have(root, FORMER).unwrap_err().to_string();
        let empty = home.path().join("no-clone");
        fs::create_dir(&empty).unwrap();
        // Above it may be a repository of somebody else.
        fs::write(empty.join(".git"), "gitdir: /nowhere\n").unwrap();
        assert!(said(&empty).contains("is no clone"), "{}", said(&empty));
        let whole = home.path().join("whole");
        fs::create_dir(&whole).unwrap();
        made(&whole, &["init", "--quiet"]);
        for message in ["one", "two"] {
            made(&whole, &["commit", "--quiet", "--allow-empty", "-m", message]);
        }
        assert!(said(&whole).contains("`git fetch` from"), "{}", said(&whole));
        let url = format!("file://{}", whole.display());
        made(home.path(), &["clone", "--quiet", "--depth=1", &url, "shallow"]);
        let said = said(&home.path().join("shallow"));
        assert!(said.contains("git fetch --unshallow") && said.contains(FORMER), "{said}");
    }

    #[test]
    fn the_files_of_a_commit_are_unpacked_and_not_those_of_the_checkout() {
        let home = tempfile::tempdir().unwrap();
        let clone = home.path().join("clone");
        fs::create_dir(&clone).unwrap();
        made(&clone, &["init", "--quiet"]);
        fs::write(clone.join("file"), "former").unwrap();
        made(&clone, &["add", "."]);
        made(&clone, &["commit", "--quiet", "-m", "one"]);
        let commit = process::output(git(&clone).args(["rev-parse", "HEAD"])).unwrap();
        fs::write(clone.join("file"), "new").unwrap();
        let source = home.path().join("cache/source");
        fs::create_dir_all(source.with_extension("new").join("left-behind")).unwrap();
        unpack(&clone, &commit, &source).unwrap();
        assert_eq!(fs::read_to_string(source.join("file")).unwrap(), "former");
        assert!(!source.join("left-behind").exists() && !source.with_extension("tar").exists());
    }
}
