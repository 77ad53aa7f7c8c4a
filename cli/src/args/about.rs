//! The words of verbs about this program itself.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Options of `version`.
#[derive(Debug, Args)]
pub struct VersionOptions {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Options of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsOptions {
    /// For which shell
    #[arg(value_enum)]
    pub shell: CompletedShell,
}

/// Shells that complete the words of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompletedShell {
    /// GNU Bash
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
}

/// Options of `man`.
#[derive(Debug, Args)]
pub struct ManOptions {
    /// Directory for the pages; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}
