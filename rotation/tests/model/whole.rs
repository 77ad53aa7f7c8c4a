//! Settings with everything in them, walked to their ends: `cargo xtask model`.

use crate::mesh::Setting;
use crate::protections::PLAIN;
use crate::walk::{Space, exhaust};
use crate::words::{Row, reached};

/// Two agents with a proxy each, a client that only sends CSRs, handshakes and requests in flight, a restart of an agent
/// and one of the replica.
const BROKEN: Setting = Setting {
    ticks: 6,
    handshake: 1,
    client_leaf: 1,
    client_requests: 1,
    agent_crashes: 1,
    replica_crashes: 1,
    ..PLAIN
};

/// Two agents with a proxy each, handshakes in flight, and an operator who holds, resumes, aborts, rolls back and goes
/// forward, each once at any time.
const OPERATED: Setting = Setting { ticks: 4, handshake: 1, operator: true, holds: true, ..PLAIN };

/// Rows of the transition table that no walk takes, and why; `rotation/tests/machine` has a script for each.
const NOT_WALKED: [(Row, &str); 8] = [
    (("staging", "abort_requested", "steady"), "a walk starts when the new root is in the bundle"),
    (("staging", "hold_requested", "staging"), "likewise"),
    (("staging", "resume_requested", "distributing"), "likewise"),
    (("steady", "issuer_renewal_requested", "steady"), "no issuer ends within a walk"),
    (("steady", "issuer_signed", "steady"), "likewise"),
    (("draining", "issuer_signed", "draining"), "likewise"),
    (("steady", "segment_closed", "steady"), "one replica closes its segments by opening the next"),
    (("distributing", "segment_closed", "distributing"), "likewise"),
];

/// More worlds than a walk may have, so that one that has grown is noticed.
const MOST: usize = 100_000_000;

fn whole(name: &str, setting: &Setting) -> Space {
    println!("walking {name}: {setting:?}");
    let space = exhaust(setting, MOST);
    if let Some(failing) = &space.failure {
        panic!("{name}: {failing}");
    }
    assert!(space.phases.iter().all(|worlds| *worlds > 0), "{name}: {:?}", space.phases);
    let Space { worlds, moves, depth, phases, .. } = &space;
    println!("{name}: {worlds} states, {moves} transitions, depth {depth}, by phase {phases:?}");
    space
}

#[test]
#[ignore = "takes minutes: cargo xtask model"]
fn the_whole_of_a_small_mesh_is_safe() {
    let spaces = [whole("restarts", &BROKEN), whole("operator", &OPERATED)];
    let rows = reached();
    println!("rows of the transition table that were taken (phase, event, phase after):");
    for (phase, event, after) in &rows {
        println!("  {phase} + {event} -> {after}");
    }
    for ((phase, event, after), why) in NOT_WALKED {
        assert!(!rows.contains(&(phase, event, after)), "{phase} + {event} -> {after} is walked");
        println!("not taken: {phase} + {event} -> {after}: {why}");
    }
    println!(
        "FIGURE states {} transitions {} depth {} rows {}",
        spaces.iter().map(|space| space.worlds).sum::<usize>(),
        spaces.iter().map(|space| space.moves).sum::<usize>(),
        spaces.iter().map(|space| space.depth).max().unwrap(),
        rows.len(),
    );
}
