//! Settings with everything in them, walked to their ends: `cargo xtask model`.

use std::thread;

use crate::mesh::{Canaries, Distrusts, Setting};
use crate::protections::PLAIN;
use crate::walk::{Space, exhaust};
use crate::words::{Row, reached};

/// Two agents with a proxy each, a client that only sends CSRs, handshakes and requests in flight, a restart of an agent
/// and one of the replica.
const RESTARTS: Setting = Setting {
    ticks: 4,
    handshake: 1,
    client_leaf: 1,
    client_requests: 1,
    agent_crashes: 1,
    replica_crashes: 1,
    ..PLAIN
};

/// Two agents with a proxy each, handshakes in flight, and an operator who holds, resumes, aborts, rolls back and goes
/// forward, each once at any time.
const OPERATOR: Setting = Setting { ticks: 2, handshake: 1, operator: true, holds: true, ..PLAIN };

/// A proxy with two validation secrets, each on a stream of its own: lost, forgotten, refused, while handshakes are in flight
/// and its agent restarts.
const SECRETS: Setting = Setting {
    ticks: 3,
    handshake: 1,
    secrets: 2,
    losses: 1,
    forgets: true,
    refusals: 1,
    agent_crashes: 1,
    ..PLAIN
};

/// A proxy with trust of its own and short leaves, covered by a relying party, with handshakes in flight.
const COVERED: Setting =
    Setting { ticks: 4, handshake: 1, secrets: 0, covered: true, proxy_leaf: 1, ..PLAIN };

/// A wall clock that steps ahead and back while the replica restarts; a client with a short leaf and a request of its own, and
/// handshakes in flight.
const CLOCK: Setting = Setting {
    ticks: 5,
    handshake: 1,
    client_leaf: 1,
    client_requests: 1,
    replica_crashes: 1,
    step: 5,
    ..PLAIN
};

/// The same with an agent that stops in good order in place of the replica's restart, and a leaf that lives longer.
const STOPS: Setting = Setting { client_leaf: 2, agent_stops: 1, replica_crashes: 0, ..CLOCK };

/// An operator who distrusts either root at any time, with handshakes in flight and a restart of an agent.
const DISTRUST: Setting =
    Setting { ticks: 2, handshake: 1, agent_crashes: 1, distrusts: Distrusts::InRotation, ..PLAIN };

/// The same where the new root is a standby root, which may be promoted and dropped, with a client that only sends CSRs.
const STANDBY: Setting = Setting {
    ticks: 3,
    handshake: 1,
    client_leaf: 1,
    client_requests: 1,
    distrusts: Distrusts::WithStandby,
    ..PLAIN
};

/// A canary of the second proxy that somebody widens to a client that only sends CSRs, with a request of its own and handshakes
/// in flight.
const CANARY: Setting = Setting {
    ticks: 2,
    handshake: 1,
    client_leaf: 1,
    client_requests: 1,
    canary: Canaries::Widened,
    ..PLAIN
};

/// One that somebody takes back and lets go forward again, at any time.
const CANARY_BACK: Setting = Setting { ticks: 0, canary: Canaries::Forward, ..PLAIN };

/// One that ends by itself, while an agent and the replica restart.
const CANARY_RESTARTS: Setting =
    Setting { ticks: 1, agent_crashes: 1, replica_crashes: 1, canary: Canaries::ByItself, ..PLAIN };

/// The same operator takes each word back, at any time.
const TAKEN_BACK: Setting =
    Setting { ticks: 0, distrusts: Distrusts::WithStandby, takes_back: true, ..PLAIN };

/// Three roots of our own: a standby root is in every bundle from the start; any of the three is distrusted at any time, that one
/// is promoted and dropped, and handshakes take no time.
const THREE_ROOTS: Setting =
    Setting { standby: true, ticks: 0, distrusts: Distrusts::InRotation, ..PLAIN };

/// A proxy whose listener is probed, that cannot verify the new root until it is replaced, and an operator who aborts, rolls back
/// and goes forward; handshakes take no time.
const UNABLE: Setting = Setting { unable: true, ticks: 0, operator: true, ..PLAIN };

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
    let [phases @ .., canary] = &space.phases;
    assert!(phases.iter().all(|worlds| *worlds > 0), "{name}: {:?}", space.phases);
    assert_eq!(*canary > 0, setting.canary.is_some(), "{name}");
    let Space { worlds, moves, depth, phases, .. } = &space;
    println!("{name}: {worlds} states, {moves} transitions, depth {depth}, by phase {phases:?}");
    space
}

/// Two at a time; each thread keeps its own values.
fn all() -> Vec<Space> {
    let lists: [&[(&str, Setting)]; 2] = [
        &[
            ("secrets", SECRETS),
            ("covered", COVERED),
            ("distrust", DISTRUST),
            ("standby", STANDBY),
            ("taken back", TAKEN_BACK),
            ("three roots", THREE_ROOTS),
            ("canary", CANARY),
            ("canary taken back", CANARY_BACK),
            ("canary restarts", CANARY_RESTARTS),
        ],
        &[
            ("restarts", RESTARTS),
            ("operator", OPERATOR),
            ("stops", STOPS),
            ("clock", CLOCK),
            ("unable", UNABLE),
        ],
    ];
    thread::scope(|scope| {
        let walks = lists.map(|list| {
            scope.spawn(move || {
                list.iter().map(|(name, setting)| whole(name, setting)).collect::<Vec<_>>()
            })
        });
        walks.into_iter().flat_map(|walk| walk.join().unwrap()).collect()
    })
}

#[test]
#[ignore = "takes minutes: cargo xtask model"]
fn the_whole_of_a_small_mesh_is_safe() {
    let spaces = all();
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
        "FIGURE states {} transitions {} depth {} rows {} settings {}",
        spaces.iter().map(|space| space.worlds).sum::<usize>(),
        spaces.iter().map(|space| space.moves).sum::<usize>(),
        spaces.iter().map(|space| space.depth).max().unwrap(),
        rows.len(),
        spaces.len(),
    );
}
