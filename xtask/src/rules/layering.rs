//! `layering.toml` as it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;

/// Crates and the crates that they use.
pub(super) type Arrows = BTreeMap<String, BTreeSet<String>>;

/// `layering.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Layering {
    pub(super) arrows: Arrows,
    pub(super) test_arrows: Arrows,
    pub(super) crates: Crates,
    pub(super) files: Files,
    /// Phrases that nobody writes, and what is written instead.
    pub(super) words: BTreeMap<String, String>,
    pub(super) lock: LockRules,
    /// Files that may take from each other.
    #[serde(default)]
    pub(super) pair: Vec<Pair>,
    /// What folders do not name.
    #[serde(default)]
    pub(super) apart: Vec<Apart>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Crates {
    pub(super) used_by_none: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Files {
    pub(super) lines_of_code_max: usize,
    pub(super) exempt: Vec<PathBuf>,
    /// Circles of files that are still to be taken apart.
    pub(super) circles_left: usize,
    /// Functions that still group arguments in a tuple, at most.
    pub(super) tuple_arguments_left: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LockRules {
    pub(super) one_line_each: Vec<String>,
    pub(super) never: Vec<String>,
}

/// Two files that are one idea and may take from each other.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pair {
    /// The two, from the root of the repository.
    pub(super) files: BTreeSet<PathBuf>,
    /// Why they are two files and one idea.
    pub(super) why: String,
}

/// What no code in a folder names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Apart {
    /// The folder, from the root of the repository.
    pub(super) folder: PathBuf,
    pub(super) names: Vec<String>,
    /// Why, and where it belongs instead.
    pub(super) why: String,
}
