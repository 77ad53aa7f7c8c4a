//! The chart: rendered by helm, taken by a real API server, and run with exactly the rights that it gives.
#![expect(clippy::indexing_slicing, reason = "what JSON does not have reads as null")]

mod certificates;
mod istio;
mod mesh;
mod neighbors;
mod node;
mod node_faults;
mod page;
mod rendered;
mod servers;
mod sites;
mod upgrade;
mod ztunnel;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use integration_tests::cluster::Cluster;
use integration_tests::replicas::Net;
use libtest_mimic::{Arguments, Trial};
use serde_json::json;

/// Where the chart is installed.
const NAMESPACE: &str = "banyan-system";
/// Tests at a time: each has an API server of its own.
const AT_A_TIME: usize = 2;

macro_rules! trials {
    ($($module:ident :: $test:ident),* $(,)?) => {
        vec![$(trial(stringify!($test), |name| Box::pin($module::$test(name)))),*]
    };
}

fn main() -> ExitCode {
    cli::install_crypto_provider();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_A_TIME);
    let trials = trials![
        rendered::values_of_every_kind_are_linted_and_accepted_under_the_restricted_standard,
        rendered::the_plain_manifests_are_the_chart_with_its_own_values,
        rendered::values_that_are_wrong_are_refused_with_their_names,
        mesh::a_root_is_rotated_by_kubectl_under_traffic_and_every_namespace_has_both_roots_first,
        istio::real_pilot_agents_and_envoys_stay_connected_through_a_rotation_by_kubectl,
        neighbors::roots_of_two_clusters_are_replaced_in_turn_by_kubectl_and_no_handshake_between_them_fails,
        neighbors::a_neighbor_cluster_that_is_away_garbled_or_left_is_named_and_what_was_trusted_stays_until_it_is_left,
        node::pods_of_one_node_get_what_is_theirs_of_its_agent_through_a_rotation_and_nobody_else_gets_anything,
        node_faults::an_agent_of_a_node_comes_back_from_kills_a_wiped_state_and_an_api_server_that_is_away,
        ztunnel::ztunnels_with_exact_habits_talk_through_a_whole_rotation_and_get_what_is_on_their_node_alone,
        page::the_page_of_istio_installs_istio_and_the_ca_as_it_says,
        servers::three_servers_of_the_chart_rotate_with_exactly_its_rights_and_one_is_replaced_meanwhile,
        certificates::certificates_of_cert_manager_csrs_and_pods_are_signed_with_exactly_the_charts_rights,
        upgrade::helm_replaces_every_server_twice_in_the_middle_of_a_rotation_and_no_handshake_fails,
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

type Running = std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

fn trial(name: &'static str, test: fn(&'static str) -> Running) -> Trial {
    Trial::test(name, move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(test(name)).map_err(|error| format!("{error:#}").into())
    })
}

fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_banyan_under_test").into()
}

/// Whether this process is in a network of its own; if not, the test has been run there.
async fn inside(name: &'static str) -> anyhow::Result<bool> {
    if Net::is_inside() {
        return Ok(true);
    }
    let program = std::env::current_exe()?;
    let inside = move || Net::run_inside(&program, &["--exact", name, "--nocapture"]);
    tokio::task::spawn_blocking(inside).await??;
    Ok(false)
}

/// Inside a network of its own: a cluster with nothing in it. Outside: goes there, and has nothing to do afterwards.
async fn empty_cluster(name: &'static str, pods: u8) -> anyhow::Result<Option<Cluster>> {
    if !inside(name).await? {
        return Ok(None);
    }
    Cluster::start(&program(), pods).await.context("the cluster").map(Some)
}

/// The same with the namespace of the CA, where Pods must be of the restricted standard, and its passphrase.
async fn cluster(name: &'static str, pods: u8) -> anyhow::Result<Option<Cluster>> {
    let Some(cluster) = empty_cluster(name, pods).await? else { return Ok(None) };
    prepare(&cluster).await?;
    Ok(Some(cluster))
}

async fn prepare(cluster: &Cluster) -> anyhow::Result<()> {
    let restricted = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
    cluster.add_namespace(NAMESPACE, restricted).await?;
    let secret = json!({
        "metadata": { "name": "banyan-kek" },
        "stringData": { "passphrase": "correct horse battery staple" },
    });
    let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets");
    cluster.api.ask("POST", &path, Some(secret)).await.map(drop)
}
