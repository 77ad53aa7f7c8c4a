//! One setting with everything in it, walked to its end: `cargo xtask model`.

use crate::mesh::Setting;
use crate::protections::PLAIN;
use crate::walk::exhaust;
use crate::words::reached;

/// Two agents with a proxy each, a client that only sends CSRs, handshakes and requests in flight, a restart of an agent
/// and of the replica, and an operator who holds, resumes, aborts, rolls back and goes forward.
const WHOLE: Setting = Setting {
    ticks: 6,
    handshake: 1,
    client_leaf: 1,
    client_requests: 1,
    agent_crashes: 1,
    replica_crashes: 1,
    ..PLAIN
};

/// More worlds than the walk may have, so that one that has grown is noticed.
const MOST: usize = 200_000_000;

#[test]
#[ignore = "takes minutes: cargo xtask model"]
fn the_whole_of_a_small_mesh_is_safe() {
    let space = exhaust(&WHOLE, MOST);
    if let Some(failing) = &space.failure {
        panic!("{failing}");
    }
    assert!(space.phases.iter().all(|worlds| *worlds > 0), "{:?}", space.phases);
    let rows = reached();
    println!("rows of the transition table that were taken (phase, event, phase after):");
    for (phase, event, after) in &rows {
        println!("  {phase} + {event} -> {after}");
    }
    println!(
        "FIGURE {{\"states\":{},\"transitions\":{},\"depth\":{},\"rows\":{},\"by_phase\":{:?}}}",
        space.worlds,
        space.moves,
        space.depth,
        rows.len(),
        space.phases
    );
}
