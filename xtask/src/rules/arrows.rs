//! Who uses whom, as cargo sees it, compared with what is allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context;
use cargo_metadata::{DependencyKind, MetadataCommand};

use super::layering::{Arrows, Layering};

/// The arrows of the workspace as it is.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) crates: BTreeSet<String>,
    /// Path of each crate's Cargo.toml.
    pub(super) manifests: Vec<PathBuf>,
    /// The same, by the crate's name.
    named: BTreeMap<String, PathBuf>,
    pub(super) arrows: Arrows,
    /// Those of development dependencies that are not among the others.
    pub(super) test_arrows: Arrows,
}

impl Found {
    /// Asks cargo.
    pub(super) fn in_workspace(root: &Path) -> anyhow::Result<Self> {
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .no_deps()
            .exec()
            .context("ask cargo for the workspace's packages")?;
        let crates = metadata.packages.iter().map(|package| package.name.to_string()).collect();
        let manifests =
            metadata.packages.iter().map(|package| package.manifest_path.clone().into()).collect();
        let named = metadata.packages.iter();
        let named =
            named.map(|one| (one.name.to_string(), one.manifest_path.clone().into())).collect();
        let mut found = Self { crates, manifests, named, ..Self::default() };
        for package in &metadata.packages {
            let uses = |tests: bool| -> BTreeSet<String> {
                let wanted = |kind| matches!(kind, DependencyKind::Development) == tests;
                let names =
                    package.dependencies.iter().filter(|one| wanted(one.kind)).map(|one| &one.name);
                // A crate whose own tests want its feature `testing` uses itself.
                let others = names.filter(|name| **name != package.name.as_str());
                others.filter(|name| found.crates.contains(*name)).cloned().collect()
            };
            let (by_code, by_tests) = (uses(false), uses(true));
            let only_tests: BTreeSet<_> = by_tests.difference(&by_code).cloned().collect();
            for (all, some) in [(&mut found.arrows, by_code), (&mut found.test_arrows, only_tests)]
            {
                if !some.is_empty() {
                    all.insert(package.name.to_string(), some);
                }
            }
        }
        Ok(found)
    }

    /// Each crate, with the path of its Cargo.toml.
    pub(super) fn crates_and_manifests(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.named.iter().map(|(name, path)| (name.as_str(), path.as_path()))
    }

    /// Crate -> crates, whatever for.
    fn all(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut all: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (from, to) in self.arrows.iter().chain(&self.test_arrows) {
            all.entry(from).or_default().extend(to.iter().map(String::as_str));
        }
        all
    }
}

/// Arrows that are there and not allowed, and arrows that are allowed and not there.
pub(super) fn differences(table: &str, allowed: &Arrows, found: &Arrows) -> Vec<String> {
    let beyond = |these: &Arrows, those: &Arrows| -> Vec<(String, String)> {
        let known =
            |from: &String, to: &String| those.get(from).is_some_and(|all| all.contains(to));
        let pairs = these.iter().flat_map(|(from, all)| all.iter().map(move |to| (from, to)));
        pairs
            .filter(|(from, to)| !known(from, to))
            .map(|(from, to)| (from.clone(), to.clone()))
            .collect()
    };
    let forbidden = beyond(found, allowed).into_iter().map(|(from, to)| {
        format!("{from} uses {to}, which [{table}] does not allow: drop the dependency, or add the arrow with a reason")
    });
    let unused = beyond(allowed, found).into_iter().map(|(from, to)| {
        format!("[{table}] allows {from} to use {to}, which it does not: remove the arrow")
    });
    forbidden.chain(unused).collect()
}

/// Uses of crates that nobody may use.
pub(super) fn uses_of(ends: &BTreeSet<String>, found: &Found) -> Vec<String> {
    let pairs =
        found.all().into_iter().flat_map(|(from, all)| all.into_iter().map(move |to| (from, to)));
    pairs
        .filter(|(_, to)| ends.contains(*to))
        .map(|(from, to)| format!("{from} uses {to}, which no crate may use"))
        .collect()
}

/// A circle, if there is one; cargo itself refuses only those without development dependencies.
pub(super) fn circle(found: &Found) -> Option<String> {
    let mut left = found.all();
    // Take away crates that use nothing that is left, until nothing changes: what stays is in a circle or leads to one.
    loop {
        let before = left.len();
        let names: BTreeSet<&str> = left.keys().copied().collect();
        left.retain(|_, uses| uses.iter().any(|name| names.contains(name)));
        if left.is_empty() {
            return None;
        }
        if left.len() == before {
            let names: Vec<_> = left.keys().copied().collect();
            return Some(format!("a circle of uses among {}", names.join(", ")));
        }
    }
}

/// Names in `layering.toml` that are no crates.
pub(super) fn unknown_crates(layering: &Layering, found: &Found) -> Vec<String> {
    let arrows = layering.arrows.iter().chain(&layering.test_arrows);
    let named = arrows
        .flat_map(|(from, to)| std::iter::once(from).chain(to))
        .chain(&layering.crates.used_by_none);
    let unknown: BTreeSet<_> = named.filter(|name| !found.crates.contains(*name)).collect();
    unknown
        .into_iter()
        .map(|name| format!("layering.toml names {name}, which is no member of the workspace"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrows(all: &[(&str, &[&str])]) -> Arrows {
        let names = |to: &[&str]| to.iter().map(|name| (*name).to_owned()).collect();
        all.iter().map(|(from, to)| ((*from).to_owned(), names(to))).collect()
    }

    #[test]
    fn an_arrow_that_is_not_listed_is_a_complaint() {
        let allowed = arrows(&[("agent", &["trust"])]);
        let found = arrows(&[("agent", &["plugins", "trust"])]);
        let complaints = differences("arrows", &allowed, &found);
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].starts_with("agent uses plugins"), "{complaints:?}");
    }

    #[test]
    fn a_listed_arrow_that_nobody_uses_is_a_complaint() {
        let complaints = differences("arrows", &arrows(&[("agent", &["trust"])]), &arrows(&[]));
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains("remove the arrow"), "{complaints:?}");
    }

    #[test]
    fn the_ends_of_the_workspace_may_not_be_used_even_by_tests() {
        let ends = BTreeSet::from(["xtask".to_owned()]);
        let found = Found { test_arrows: arrows(&[("cli", &["xtask"])]), ..Found::default() };
        assert_eq!(uses_of(&ends, &found), ["cli uses xtask, which no crate may use"]);
    }

    #[test]
    fn a_circle_through_a_test_is_found() {
        let code = [("a", ["b"].as_slice()), ("b", &["c"]), ("d", &["a", "c"])];
        let straight = Found { arrows: arrows(&code), ..Found::default() };
        assert_eq!(circle(&straight), None);
        let bent = Found { test_arrows: arrows(&[("c", &["a"])]), ..straight };
        assert!(circle(&bent).is_some_and(|text| text.contains("a, b, c")));
    }

    #[test]
    fn a_crate_that_is_gone_is_a_complaint() {
        let root = crate::repository_root().unwrap();
        let layering = super::super::read(&root).unwrap();
        let mut found = Found::in_workspace(&root).unwrap();
        assert!(found.crates.remove("host"));
        assert_eq!(
            unknown_crates(&layering, &found),
            ["layering.toml names host, which is no member of the workspace"]
        );
    }
}
