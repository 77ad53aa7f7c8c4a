//! `cargo xtask simulate`: whole CAs under one scheduler, hit by whatever a seed says.
//!
//! A seed replays exactly only if tokio's own choices follow from it, which the product's tokio does not offer. So the simulation is
//! built with a setting of its own, in a target directory of its own.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::bail;

use crate::process;

/// Lets the choices of tokio follow from a seed.
const SEEDED_TOKIO: &str = "--cfg tokio_unstable";
/// How long seeds are run as part of all tests.
const GATE_SECONDS: u64 = 90;
/// The seeds of that, as many as fit: always the same ones, so that a new machine meets no new seed.
const GATE_SEEDS: &str = "0..600";

/// Of so many durable operations one is failed as part of all tests.
const GATE_EVERY: u32 = 80;

/// Runs seeds, and prints what came of them last.
pub(crate) fn run(
    root: &Path,
    seeds: &str,
    seconds: Option<u64>,
    trace: bool,
) -> anyhow::Result<()> {
    if env::var_os("CARGO_ENCODED_RUSTFLAGS").is_some() {
        bail!("CARGO_ENCODED_RUSTFLAGS is set, which the simulation would pass over: unset it");
    }
    let mut run = seeds_of(root, seeds, seconds);
    if trace {
        run.arg("--trace");
    }
    process::run_shown(&mut run)
}

/// Fails durable operations of a rotation, each in each way, and prints what came of them last.
pub(crate) fn crashpoints(
    root: &Path,
    servers: Option<u32>,
    every: u32,
    trace: &[String],
) -> anyhow::Result<()> {
    let settings = servers.map_or_else(|| vec![1, 2], |servers| vec![servers]);
    for servers in settings {
        let mut run = points_of(root, servers, every);
        if !trace.is_empty() {
            run.arg("--trace").args(trace);
        }
        process::run_shown(&mut run)?;
    }
    Ok(())
}

/// What shows that the simulation notices what is broken, then runs seeds for a while, then fails some durable operations.
pub(crate) fn gate(root: &Path) -> Vec<Command> {
    vec![
        cargo(root, "test"),
        seeds_of(root, GATE_SEEDS, Some(GATE_SECONDS)),
        points_of(root, 1, GATE_EVERY),
        points_of(root, 2, GATE_EVERY),
    ]
}

fn seeds_of(root: &Path, seeds: &str, seconds: Option<u64>) -> Command {
    let mut run = cargo(root, "run");
    run.args(["--quiet", "--bin", "simulation", "--", seeds]);
    if let Some(seconds) = seconds {
        run.args(["--for", &seconds.to_string()]);
    }
    run
}

fn points_of(root: &Path, servers: u32, every: u32) -> Command {
    let mut run = cargo(root, "run");
    run.args(["--quiet", "--bin", "crashpoints", "--", "--servers", &servers.to_string()]);
    run.args(["--every", &every.to_string()]);
    run
}

/// `cargo` at work on the simulation.
fn cargo(root: &Path, verb: &str) -> Command {
    let mut cargo = process::cargo(root);
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    cargo.env("RUSTFLAGS", format!("{flags} {SEEDED_TOKIO}").trim());
    cargo.args([verb, "--profile", "simulation", "--package", "simulation", "--target-dir"]);
    cargo.arg(process::target(root).join("simulation"));
    cargo
}
