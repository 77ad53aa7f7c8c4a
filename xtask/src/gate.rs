//! The two commands that a change must pass: `cargo xtask test` and `cargo xtask check`. `.ci/run` is these two.

use std::path::Path;

use anyhow::bail;

use crate::cache::Cache;
use crate::debian::{self, CURL, IPROUTE, OPENSSL, PYTHON_VENV};
use crate::peers::{self, table};
use crate::plugins::SOFTHSM;
use crate::{lanes, process, rules, simulate};

/// Installs what tests talk to, then runs every test of the workspace, documentation examples included, and the simulation.
/// `arguments` go to `cargo test`; with any, the simulation is left out.
pub(crate) fn test(root: &Path, arguments: &[String]) -> anyhow::Result<()> {
    debian::ensure(&[&OPENSSL, &CURL, &PYTHON_VENV, &IPROUTE, &SOFTHSM])?;
    let cache = Cache::from_environment()?;
    let needed = [
        table::ENVOY,
        table::PYTHON,
        table::GRPCURL,
        table::OPENBAO,
        table::STEP_CA,
        table::ETCD,
        table::KUBE_APISERVER,
        table::CERT_MANAGER,
        table::KUBE_CONTROLLER_MANAGER,
        table::KUBECTL,
        table::HELM,
        table::PILOT_AGENT,
    ];
    peers::install(&cache, &needed)?;
    if !arguments.is_empty() {
        let mut tests = process::cargo(root);
        tests.args(["test", "--workspace", "--no-fail-fast"]);
        return process::run_shown(tests.args(arguments));
    }
    let mut examples = process::cargo(root);
    examples.args(["test", "--workspace", "--doc", "--no-fail-fast"]);
    let mut further = vec![examples];
    further.extend(simulate::gate(root));
    lanes::run(root, further)
}

/// Runs every check that is not a test, all of them even when one fails.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let results = [
        ("format", format(root)),
        ("lints", lints(root)),
        ("documentation", documentation(root)),
        ("dependencies", dependencies(root)),
        ("rules", rules::check(root)),
    ];
    let mut failed = Vec::new();
    for (name, result) in results {
        match result {
            Ok(()) => eprintln!("check {name}: ok"),
            Err(error) => {
                eprintln!("check {name}: FAILED: {error:#}");
                failed.push(name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("failed checks: {}", failed.join(", "));
    }
    Ok(())
}

fn format(root: &Path) -> anyhow::Result<()> {
    process::run(process::cargo(root).args(["fmt", "--all", "--check"]))
}

fn lints(root: &Path) -> anyhow::Result<()> {
    let mut clippy = process::cargo(root);
    process::run(clippy.args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--keep-going",
        "--",
        "--deny",
        "warnings",
    ]))
}

fn documentation(root: &Path) -> anyhow::Result<()> {
    let mut doc = process::cargo(root);
    process::run(doc.env("RUSTDOCFLAGS", "-Dwarnings").args([
        "doc",
        "--workspace",
        "--no-deps",
        "--keep-going",
    ]))
}

fn dependencies(root: &Path) -> anyhow::Result<()> {
    let programs = peers::install(&Cache::from_environment()?, &[table::CARGO_DENY])?;
    for program in programs {
        let mut deny = process::cargo_tool(root, &program);
        process::run(deny.args(["--workspace", "check", "bans", "licenses", "sources"]))?;
    }
    Ok(())
}
