//! Chores of this repository: `cargo xtask help`.
//!
//! Nothing in the product depends on this crate. Each verb is one module; the checks of the house also run as tests.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Parser, Subcommand};

mod codegen;

/// Chores of the Banyan repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Compile proto/protos/**/*.proto into proto/src/gen/.
    Codegen,
}

fn main() -> anyhow::Result<()> {
    let root = repository_root()?;
    match Arguments::parse().chore {
        Chore::Codegen => codegen::write(&root),
    }
}

/// The top folder of this checkout.
fn repository_root() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(Path::to_path_buf).context("the folder xtask has no parent")
}
