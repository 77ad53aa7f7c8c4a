//! Every built-in plugin against its real counterpart: `cargo xtask plugins`.
//!
//! Tests leave the conformance suite's reports in a directory (`BANYAN_CONFORMANCE_REPORT_DIR`); what is shown at the end
//! is read from there. A built-in without a report has not conformed, whatever its tests say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::cache::Cache;
use crate::debian::{self, OPENSSL, PYTHON_VENV, Package};
use crate::{peers, process};
use table::Table;

mod table;

/// A plugin that Banyan brings.
#[derive(Debug)]
pub(crate) struct BuiltIn {
    /// What its reports begin with: the name of an authority, or `key-` and that of a key backend.
    pub(crate) name: &'static str,
    /// Its crate.
    pub(crate) package: &'static str,
    /// A feature of the crate without which the tests with the real counterpart are left out.
    pub(crate) feature: Option<&'static str>,
    /// Parts that its tests talk to.
    pub(crate) peers: &'static [&'static str],
    /// Packages of the operating system, likewise.
    pub(crate) packages: &'static [&'static Package],
    /// The family of `integration-tests` that shows it in whole systems, if it has one of its own. A feature of the crate is
    /// one of the family too.
    pub(crate) family: Option<&'static str>,
}

/// SoftHSM, a token of PKCS#11 in files.
pub(crate) const SOFTHSM: Package =
    Package { name: "softhsm2", proof: &["softhsm2-util", "--version"] };

const fn built_in(
    name: &'static str,
    package: &'static str,
    peers: &'static [&'static str],
) -> BuiltIn {
    BuiltIn { name, package, feature: None, peers, packages: &[], family: None }
}

/// Every built-in.
pub(crate) const BUILT_INS: &[BuiltIn] = &[
    built_in("self-signed", "plugin-self-signed", &[]),
    built_in("file", "plugin-file", &[]),
    BuiltIn { family: Some("remote"), ..built_in("remote", "plugin-remote", &["python"]) },
    built_in("vault", "plugin-vault", &["openbao"]),
    BuiltIn {
        packages: &[&OPENSSL],
        family: Some("manual"),
        ..built_in("manual", "plugin-manual", &[])
    },
    BuiltIn { family: Some("external"), ..built_in("step-ca", "plugin-step-ca", &["step-ca"]) },
    BuiltIn {
        feature: Some("real-spire"),
        family: Some("external"),
        ..built_in("spire", "plugin-spire", &["spire-server", "spire-agent"])
    },
    BuiltIn { family: Some("tiers"), ..built_in("banyan", "plugin-banyan", &[]) },
    built_in("cert-manager", "plugin-cert-manager", &["etcd", "kube-apiserver", "cert-manager"]),
    // new-plugin: further root authorities come above this line
    built_in("key-memory", "plugins-conformance", &[]),
    built_in("key-file", "plugin-key-file", &[]),
    BuiltIn { packages: &[&SOFTHSM], ..built_in("key-pkcs11", "plugin-pkcs11", &[]) },
];

/// Families of whole systems about many plugins at once; run when no built-in is named.
const FAMILIES_OF_ALL: [&str; 2] = ["chain", "throughput"];

/// Installs the counterparts, runs the tests, and shows what came of each rule. `names` are built-ins; none means all.
///
/// # Errors
/// When a rule is broken, a test failed, or a built-in left no report.
pub(crate) fn run(root: &Path, names: &[String]) -> anyhow::Result<()> {
    let wanted = chosen(names)?;
    let mut failures = Vec::new();
    let mut note = |what: String, result: anyhow::Result<()>| {
        if let Err(error) = result {
            failures.push(format!("{what}: {error:#}"));
        }
    };
    for one in &wanted {
        note(format!("counterparts of {}", one.name), install(one));
    }
    let reports = fresh_directory(root)?;
    for one in &wanted {
        let mut tests = process::cargo(root);
        tests
            .args(["test", "--no-fail-fast", "--package", one.package])
            .args(one.feature.map(|_| "--features"));
        tests.args(one.feature).env("BANYAN_CONFORMANCE_REPORT_DIR", &reports);
        note(format!("tests of {}", one.package), process::run(&mut tests));
    }
    for (family, features) in families(&wanted, names.is_empty()) {
        let mut tests = process::cargo(root);
        tests.args(["test", "--no-fail-fast", "--package", "integration-tests", "--test", family]);
        tests.args(features.iter().flat_map(|feature| ["--features", feature]));
        tests.env("BANYAN_CONFORMANCE_REPORT_DIR", &reports);
        note(format!("integration-tests, family {family}"), process::run(&mut tests));
    }
    let table = Table::read(&reports)?;
    let missing = wanted.iter().map(|one| one.name).filter(|name| !table.tells_of(name));
    failures
        .extend(missing.map(|name| format!("{name} left no report: it is not known to conform")));
    print!("{table}");
    for failure in &failures {
        println!("FAILED  {failure}");
    }
    let (passed, failed) = (table.passed(), table.failed() + failures.len());
    println!("{passed} passed, {failed} failed");
    ensure!(failed == 0, "{failed} failures; reports are in {}", reports.display());
    Ok(())
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static BuiltIn>> {
    let known = || BUILT_INS.iter().map(|one| one.name).collect::<Vec<_>>().join(", ");
    for name in names {
        if !BUILT_INS.iter().any(|one| one.name == name) {
            bail!("no built-in plugin is called {name:?}; known are {}", known());
        }
    }
    let wanted = |one: &&BuiltIn| names.is_empty() || names.iter().any(|name| name == one.name);
    Ok(BUILT_INS.iter().filter(wanted).collect())
}

/// The families to run, each once, with the features that its built-ins want.
fn families(wanted: &[&BuiltIn], all: bool) -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut families = BTreeMap::<_, BTreeSet<_>>::new();
    for one in wanted {
        if let Some(family) = one.family {
            families.entry(family).or_default().extend(one.feature);
        }
    }
    if all {
        families.extend(FAMILIES_OF_ALL.map(|family| (family, BTreeSet::new())));
    }
    families
}

fn install(one: &BuiltIn) -> anyhow::Result<()> {
    let mut packages = one.packages.to_vec();
    if one.peers.contains(&"python") {
        packages.push(&PYTHON_VENV);
    }
    debian::ensure(&packages)?;
    peers::install(&Cache::from_environment()?, one.peers).map(drop)
}

/// An empty directory below the target folder.
fn fresh_directory(root: &Path) -> anyhow::Result<PathBuf> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let reports = target.join("conformance");
    if reports.exists() {
        fs::remove_dir_all(&reports).with_context(|| format!("clear {}", reports.display()))?;
    }
    fs::create_dir_all(&reports).with_context(|| format!("create {}", reports.display()))?;
    Ok(reports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_there_and_a_built_in_brings_its_own() {
        let root = crate::repository_root().unwrap();
        let all: Vec<_> = BUILT_INS.iter().collect();
        for (family, _) in families(&all, true) {
            assert!(
                root.join("integration-tests/tests").join(family).join("main.rs").is_file(),
                "{family}"
            );
        }
        let spire: Vec<_> = BUILT_INS.iter().filter(|one| one.name == "spire").collect();
        assert_eq!(
            families(&spire, false),
            BTreeMap::from([("external", BTreeSet::from(["real-spire"]))])
        );
    }

    #[test]
    fn every_plugin_that_has_a_suite_is_a_built_in() {
        let root = crate::repository_root().unwrap();
        let mut complaints = Vec::new();
        for entry in fs::read_dir(root.join("plugins")).unwrap() {
            let manifest = entry.unwrap().path().join("Cargo.toml");
            let Ok(text) = fs::read_to_string(&manifest) else { continue };
            let package: toml::Table = toml::from_str(&text).unwrap();
            let name = package["package"]["name"].as_str().unwrap().to_owned();
            let has_suite = text.contains("plugins-conformance.workspace");
            if has_suite && !BUILT_INS.iter().any(|one| one.package == name) {
                complaints.push(name);
            }
        }
        assert_eq!(complaints, Vec::<String>::new(), "add them to BUILT_INS");
    }

    #[test]
    fn every_built_in_has_a_crate_and_known_parts() {
        let root = crate::repository_root().unwrap();
        let members = fs::read_to_string(root.join("Cargo.toml")).unwrap();
        for one in BUILT_INS {
            assert!(members.contains(&format!("\n{} = {{ path", one.package)), "{one:?}");
            for peer in one.peers {
                assert!(peers::table::PEERS.iter().any(|known| known.name == *peer), "{one:?}");
            }
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = chosen(&["vaultt".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("vaultt") && error.contains("key-pkcs11"), "{error}");
        assert_eq!(chosen(&["vault".to_owned()]).unwrap().len(), 1);
        assert_eq!(chosen(&[]).unwrap().len(), BUILT_INS.len());
    }
}
