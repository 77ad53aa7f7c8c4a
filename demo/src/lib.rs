//! The demo and the benchmark of `banyan`: whole systems on this machine, run through the program that holds this crate.
//!
//! Both start their CA as `PROGRAM serve --config FILE`, with the program that they are part of, so that it can be killed
//! for real and its CPU time is its own. Start at [`mesh`] for the demo, and at [`mod@bench`] for the benchmark.

#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod bench;
pub mod mesh;
pub mod options;
pub mod ports;
pub mod tokens;

pub use options::{BenchOptions, DemoOptions};
