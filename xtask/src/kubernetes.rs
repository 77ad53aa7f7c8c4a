//! `cargo xtask kubernetes`: the chart at a real API server, its servers and controllers as it runs them, a rotation by `kubectl`,
//! and what was counted.
//!
//! The tests are `integration-tests/tests/chart`; the gate runs them too. With `--bench`: what bundles in many namespaces cost, by
//! `integration-tests/tests/kubernetes/bench.rs`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::cache::Cache;
use crate::debian::{self, IPROUTE};
use crate::peers::{self, table};
use crate::{process, replicas};

const CHART: &str = "deploy/helm/banyan";
const NAMESPACE: &str = "banyan-system";
/// What people apply who do not use helm.
const MANIFESTS: &str = "deploy/manifests/banyan.yaml";

/// The test that measures.
const BENCH: &str = "bench::";

/// Runs the tests whose names have this part, with what `kubectl get -w` printed, then prints the sum of their figures.
pub(crate) fn run(root: &Path, part: Option<&str>) -> anyhow::Result<()> {
    debian::ensure(&[&IPROUTE])?;
    let peers = [
        table::ETCD,
        table::KUBE_APISERVER,
        table::KUBE_CONTROLLER_MANAGER,
        table::CERT_MANAGER,
        table::KUBECTL,
        table::HELM,
        table::PILOT_AGENT,
        table::ENVOY,
    ];
    peers::install(&Cache::from_environment()?, &peers)?;
    let mut tests = process::cargo(root);
    tests.args(["test", "--workspace", "--test", "chart", "--", "--nocapture"]);
    replicas::counted(tests.args(part))
}

/// Measures what bundles in so many namespaces cost, and prints the figures as one line of JSON.
pub(crate) fn bench(root: &Path, namespaces: usize) -> anyhow::Result<()> {
    peers::install(&Cache::from_environment()?, &[table::ETCD, table::KUBE_APISERVER])?;
    let mut test = process::cargo(root);
    test.args(["test", "--workspace", "--test", "kubernetes", "--", "--nocapture", BENCH]);
    replicas::counted(test.env("BANYAN_BENCH_NAMESPACES", namespaces.to_string()))
}

/// Writes the plain manifests anew, of the chart with its own values.
pub(crate) fn write_manifests(root: &Path) -> anyhow::Result<()> {
    let helm = peers::install(&Cache::from_environment()?, &[table::HELM])?;
    let mut render = Command::new(helm.first().context("helm is not there")?);
    render.current_dir(root).args(["template", "--kube-version", "1.37.0"]);
    render.args(["--namespace", NAMESPACE, "banyan", CHART]);
    let rendered = process::output(&mut render).context("helm does not render the chart")?;
    let head = format!(
        "# Made of {CHART} with its own values by `cargo xtask kubernetes --manifests`.\n\
         apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n  labels:\n    \
         pod-security.kubernetes.io/enforce: restricted\n"
    );
    let path = root.join(MANIFESTS);
    fs::create_dir_all(path.parent().context("a folder")?)?;
    fs::write(&path, format!("{head}{rendered}\n"))
        .with_context(|| format!("write {}", path.display()))
}
