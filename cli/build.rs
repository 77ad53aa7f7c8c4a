//! Notes the commit that is built, for `banyan version`: `BANYAN_COMMIT` of the environment, else what git says of this
//! checkout, else nothing. The same commit always gives the same program.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=BANYAN_COMMIT");
    let given = std::env::var("BANYAN_COMMIT").ok().filter(|commit| !commit.trim().is_empty());
    let commit = given.or_else(|| {
        // The last line of this file changes with each commit, whatever the branch.
        let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
        if Path::new(&log).exists() {
            println!("cargo::rerun-if-changed={log}");
        }
        git(&["rev-parse", "--verify", "HEAD"])
    });
    if let Some(commit) = commit {
        println!("cargo::rustc-env=BANYAN_BUILT_FROM={}", commit.trim());
    }
}

/// What git answers in one line; nothing without git, or outside of a checkout.
fn git(words: &[&str]) -> Option<String> {
    let answer =
        Command::new("git").args(words).output().ok().filter(|answer| answer.status.success())?;
    let line = String::from_utf8(answer.stdout).ok()?.trim().to_owned();
    Some(line).filter(|line| !line.is_empty())
}
