//! Nothing fails with every protection in place; something does without any one of them.

use crate::mesh::{Setting, Without};
use crate::walk::walk;

/// Worlds that a walk may see, so that one that has grown is noticed.
const MOST: usize = 150_000;

/// Two proxies, no client, nothing breaks, handshakes take no time.
pub(crate) const PLAIN: Setting = Setting {
    without: Without::Nothing,
    ticks: 2,
    handshake: 0,
    skew: 0,
    bound: 90,
    client_leaf: 0,
    client_requests: 0,
    joiner: false,
    agent_crashes: 0,
    replica_crashes: 0,
    disk_is_lost: false,
    operator: false,
    holds: false,
};

fn checked(name: &str, setting: Setting, without: &[Without]) {
    let safe = walk(&setting, MOST);
    println!("{name}: {} worlds, by phase {:?}", safe.worlds, safe.phases);
    if let Some((path, failing)) = safe.failure {
        panic!("{name}: {failing}\n{}", path.join("\n"));
    }
    assert!(safe.phases.iter().all(|worlds| *worlds > 0), "{name} does not go through every phase");
    for without in without {
        let broken = walk(&Setting { without: *without, ..setting }, MOST);
        let (path, failing) =
            broken.failure.unwrap_or_else(|| panic!("{name} without {without:?} fails nowhere"));
        println!("{name} without {without:?}: {} worlds, {} moves: {failing}", broken.worlds, path.len());
        println!("    {}", path.join("; "));
    }
}

#[test]
fn gates_keep_every_handshake() {
    checked("plain", PLAIN, &[Without::GateT, Without::AckOnApply, Without::GateL]);
}

#[test]
fn settle_keeps_handshakes_in_flight() {
    let setting = Setting { handshake: 2, ticks: 5, ..PLAIN };
    checked("handshakes", setting, &[Without::Settle]);
}

#[test]
fn an_operator_may_abort_roll_back_and_go_forward_again() {
    let setting = Setting { operator: true, ticks: 0, ..PLAIN };
    checked("operator", setting, &[Without::GateT, Without::AckOnApply, Without::GateL]);
}

#[test]
fn a_joiner_has_the_bundle_before_its_leaf() {
    checked("joiner", Setting { joiner: true, ..PLAIN }, &[Without::BundleBeforeLeaf]);
}

#[test]
fn bundles_and_holders_are_durable_before_they_are_used() {
    let setting = Setting { agent_crashes: 1, ..PLAIN };
    checked("agents restart", setting, &[Without::DurableBeforePush, Without::HolderBeforeLeaf]);
}

#[test]
fn a_request_has_its_row_before_the_gate_opens() {
    let client = Setting { client_leaf: 1, client_requests: 1, ticks: 4, ..PLAIN };
    checked("client", client, &[Without::RowBeforeSignature]);
}

#[test]
fn a_lost_segment_counts_as_full_until_a_bound_that_holds() {
    let lost = Setting {
        client_leaf: 3,
        client_requests: 1,
        bound: 1,
        ticks: 2,
        replica_crashes: 1,
        disk_is_lost: true,
        ..PLAIN
    };
    checked("lost segment", lost, &[Without::SegmentBound, Without::Horizon]);
}

#[test]
fn clocks_may_differ() {
    let setting = Setting { client_leaf: 1, client_requests: 1, skew: 1, ticks: 6, ..PLAIN };
    checked("skew", setting, &[Without::TwiceTheSkew]);
}
