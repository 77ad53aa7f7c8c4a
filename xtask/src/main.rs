//! Chores of this repository: `cargo xtask help`.
//!
//! Nothing in the product depends on this crate. Each verb is one module; the checks of the workspace also run as tests.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

mod attacks;
mod cache;
mod codegen;
mod debian;
mod gate;
mod kubernetes;
mod lanes;
mod model;
mod new_plugin;
mod peers;
mod plugins;
mod process;
mod protocol_page;
mod replicas;
mod rules;
mod simulate;
mod upgrade;

/// Chores of the Banyan repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Compile proto/protos/**/*.proto into proto/src/gen/, and write the reference of the plugin protocol.
    Codegen,
    /// Install third-party parts by name and print the paths of their programs.
    Peers {
        /// Names of parts, such as `envoy`.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Try every built-in plugin against its real counterpart, and show each rule of the suite for each.
    Plugins {
        /// Names of built-ins, such as `vault`; all without any.
        names: Vec<String>,
    },
    /// Make a root authority that compiles and passes the suite, to be filled in.
    NewPlugin {
        /// Its name in `plugin = "..."`, such as `acme`.
        name: String,
        /// Make it in this new folder, outside of the repository.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Install what tests need and run every test of the workspace.
    Test {
        /// Arguments for `cargo test`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Walk the model of a rotation to its end: states, rows of the transition table, and what each protection prevents.
    Model {
        /// Walk the small settings only, as the tests do.
        #[arg(long)]
        small: bool,
        /// Take each protection out of the source of the machine instead, and see the walk fail that it is there for.
        #[arg(long, conflicts_with = "small")]
        mutants: bool,
        /// Have `docs/proof.md` tell how each was met.
        #[arg(long, requires = "mutants")]
        write: bool,
    },
    /// Run whole CAs under one scheduler, each hit by whatever its seed says; a failing seed replays exactly.
    Simulate {
        /// Which seeds, such as 0..1000.
        #[arg(long, value_name = "A..B")]
        seeds: String,
        /// Begin no seed after so many seconds.
        #[arg(long = "for", value_name = "SECONDS")]
        seconds: Option<u64>,
        /// Print what happens, step by step.
        #[arg(long)]
        trace: bool,
    },
    /// Fail each durable operation of a rotation once, in each way: how many of those runs ended as they must, of how many.
    Crashpoints {
        /// Servers of the CA; without it one, then two.
        #[arg(long)]
        servers: Option<u32>,
        /// Fail only the first of each so many operations.
        #[arg(long, value_name = "K", default_value_t = 1)]
        every: u32,
        /// Print one run step by step: the number of the operation, and how it fails.
        #[arg(long, num_args = 2, value_names = ["AT", "FAILURE"], requires = "servers")]
        trace: Vec<String>,
    },
    /// Attack a server of this machine and measure what a good client notices: a table, and one line of JSON.
    Attacks {
        /// Parts of names of attacks, such as `flood`; all without any.
        names: Vec<String>,
        /// Build without optimisation: quick to build, and slow figures.
        #[arg(long)]
        dev: bool,
    },
    /// Break three servers and their store in every way that has a test, and add up what was counted from outside: one line of
    /// JSON at the end.
    Replicas {
        /// Part of the names of tests; all without it.
        part: Option<String>,
    },
    /// Replace servers of the former release by this one under traffic, and go back: builds the former release from the history,
    /// and adds up what was counted from outside: one line of JSON at the end.
    Upgrade,
    /// Install the chart at a real API server, run its servers and controllers as it says, and rotate the root by kubectl: the
    /// transcript, and one line of JSON at the end.
    Kubernetes {
        /// Part of the names of tests; all without it.
        part: Option<String>,
        /// Write deploy/manifests anew in place of that.
        #[arg(long, conflicts_with = "part")]
        manifests: bool,
        /// Measure what bundles in many namespaces cost, in place of that.
        #[arg(long, conflicts_with_all = ["part", "manifests"])]
        bench: bool,
        /// How many namespaces.
        #[arg(long, requires = "bench", default_value_t = 5_000)]
        namespaces: usize,
    },
    /// Check format, lints, documentation, dependencies and the rules of the workspace.
    Check,
}

fn main() -> ExitCode {
    match run(Arguments::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> anyhow::Result<()> {
    let root = repository_root()?;
    match chore {
        Chore::Codegen => codegen::write(&root),
        Chore::Peers { names } => {
            for program in peers::install(&cache::Cache::from_environment()?, &names)? {
                println!("{}", program.display());
            }
            Ok(())
        }
        Chore::Plugins { names } => plugins::run(&root, &names),
        Chore::NewPlugin { name, out } => new_plugin::run(&root, &name, out.as_deref()),
        Chore::Test { arguments } => gate::test(&root, &arguments),
        Chore::Model { mutants: true, write, .. } => model::mutants(&root, write),
        Chore::Model { small, .. } => model::run(&root, small),
        Chore::Simulate { seeds, seconds, trace } => simulate::run(&root, &seeds, seconds, trace),
        Chore::Crashpoints { servers, every, trace } => {
            simulate::crashpoints(&root, servers, every, &trace)
        }
        Chore::Attacks { names, dev } => attacks::run(&root, &names, dev),
        Chore::Replicas { part } => replicas::run(&root, part.as_deref()),
        Chore::Upgrade => upgrade::run(&root),
        Chore::Kubernetes { manifests: true, .. } => kubernetes::write_manifests(&root),
        Chore::Kubernetes { bench: true, namespaces, .. } => kubernetes::bench(&root, namespaces),
        Chore::Kubernetes { part, .. } => kubernetes::run(&root, part.as_deref()),
        Chore::Check => gate::check(&root),
    }
}

/// The top folder of this checkout.
fn repository_root() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(Path::to_path_buf).context("the folder xtask has no parent")
}
