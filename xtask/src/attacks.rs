//! `cargo xtask attacks`: what a good client notices of attacks on a server's sockets.
//!
//! The attacks are in `integration-tests/src/attacks/assault.rs`; one more is one more function there.

use std::path::Path;

use crate::process;

/// Builds the server and the program that attacks it, and runs that. `names` are parts of names of attacks.
pub(crate) fn run(root: &Path, names: &[String], dev: bool) -> anyhow::Result<()> {
    let profile: &[&str] = if dev { &[] } else { &["--release"] };
    let package = ["--package", "integration-tests"];
    let mut build = process::cargo(root);
    let programs = ["--bin", "ca_under_test", "--bin", "banyan_under_test"];
    process::run(build.arg("build").args(package).args(profile).args(programs))?;
    let mut attack = process::cargo(root);
    let attack =
        attack.arg("run").args(package).args(profile).args(["--bin", "attacks", "--"]).args(names);
    process::run_shown(attack)
}
