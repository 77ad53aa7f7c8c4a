//! Strongly connected components.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// File -> files, with the names that the first takes.
pub(super) type Uses = BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<String>>>;

/// Sets of two and more files of which each reaches each.
pub(super) fn circles(uses: &Uses) -> Vec<BTreeSet<PathBuf>> {
    let mut found: Vec<BTreeSet<PathBuf>> = Vec::new();
    for file in uses.keys() {
        if found.iter().any(|circle| circle.contains(file)) {
            continue;
        }
        let there = reached(file, uses);
        let circle: BTreeSet<PathBuf> =
            there.iter().filter(|other| reached(other, uses).contains(file)).cloned().collect();
        if circle.len() > 1 {
            found.push(circle);
        }
    }
    found
}

/// What a file uses, directly or through others.
fn reached(from: &Path, uses: &Uses) -> BTreeSet<PathBuf> {
    let mut seen = BTreeSet::new();
    let mut next = vec![from];
    while let Some(file) = next.pop() {
        for to in uses.get(file).into_iter().flatten().map(|(to, _)| to) {
            if seen.insert(to.clone()) {
                next.push(to);
            }
        }
    }
    seen
}
