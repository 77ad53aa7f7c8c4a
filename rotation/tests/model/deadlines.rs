//! That a rotation ends (L1, L2, L6), as a rule for each world by itself: should everybody fall silent there for good, but for the
//! replica, then the phase is over at the time that its gate says.
//!
//! Nobody acknowledges, renews, asks or releases from then on. What has no end by design (a relying party that must confirm, a
//! holder with trust of its own, one that was seen to be unable, an operator who holds) has no latest time, and must say so.

use rotation::evidence::gate;
use rotation::{Event, Phase};

use crate::entities::{P, Q};
use crate::evidence::counted;
use crate::mesh::{Setting, World};
use crate::protections::PLAIN;
use crate::replica::{in_force, judged, limits};
use crate::walk::{Space, visit};
use crate::words::at;

/// Worlds that a walk may have.
const MOST: usize = 400_000;

/// What came of the worlds of a walk.
#[derive(Debug, Default)]
struct Ends {
    /// The phase was over at its time, and was not one moment before the settle time that comes last.
    in_time: usize,
    early: usize,
    /// There is no such time.
    endless: usize,
    aborted: usize,
}

/// Nobody says a word any more: agents are gone, and requests that have no row yet were given up.
fn silenced(world: &World) -> World {
    let mut world = world.clone();
    for proxy in [P, Q] {
        world.agents[proxy].up = false;
    }
    for request in &mut world.requests {
        *request = request.filter(|request| request.leaf.is_some());
    }
    world
}

/// The server does what it does by itself, at one moment.
fn upkeep(world: World, setting: &Setting) -> World {
    let world = in_force(&world, setting).unwrap_or(world);
    let world = judged(&world, setting).unwrap_or(world);
    // A segment that was opened for one that was closed.
    in_force(&world, setting).unwrap_or(world)
}

fn is_in(phase: &Phase, world: &World) -> bool {
    phase.name() == world.record.phase.name()
}

/// What is broken from here on, if anything.
fn late(world: &World, setting: &Setting, ends: &mut Ends) -> Option<String> {
    let phase = world.record.phase.clone();
    let held = phase.rotation().is_some_and(|rotation| rotation.held_since.is_some());
    if held || world.is_off(setting) || world.ahead != 0 {
        return None;
    }
    let world = upkeep(silenced(world), setting);
    if !is_in(&phase, &world) {
        return None;
    }
    let policy = limits(&world, setting);
    let evidence = counted(&world, setting).report(&world.record);
    let gate = gate(&world.record, &evidence, &policy)?;
    let has_end = evidence.own_trust.count == 0
        && evidence.unable == 0
        && evidence.relying_parties.unbounded == 0;
    let name = phase.name();
    let Some(latest) = gate.opens_at_latest else {
        ends.endless += 1;
        return has_end
            .then(|| format!("{name} has no end, and nobody's word is missing: {gate:?}"));
    };
    let latest = (latest.as_secs() - at(0).as_secs()).max(world.tick);
    let settle = i64::try_from(policy.settle.as_secs()).unwrap();
    let mut now = world;
    for tick in [latest - settle - 2, latest - settle, latest] {
        ends.early += usize::from(tick == latest && is_in(&phase, &now));
        now.tick = tick.max(now.tick);
        // Twice: what is met begins the settle time, and opens where there is none.
        now = upkeep(upkeep(now, setting), setting);
    }
    ends.in_time += 1;
    is_in(&phase, &now).then(|| format!("{name} is not over at {latest}, as was said: {gate:?}"))
}

/// An abort that is taken brings back the former state at once.
fn kept_on(world: &World, setting: &Setting, ends: &mut Ends) -> Option<String> {
    let (from, to) = world.record.phase.changes()?;
    let abort = Event::AbortRequested { request_id: "abort-here".parse().unwrap() };
    let after = world.take(&abort, setting)?;
    ends.aborted += 1;
    let signs = after.signing_root() == Some(from);
    let gone = !after.bundle().contains_key(&to);
    (!signs || !gone).then(|| format!("an abort leads to {:?}", after.phase))
}

fn walked(name: &str, setting: &Setting) -> Ends {
    let mut ends = Ends::default();
    let fails = |world: &World| {
        late(world, setting, &mut ends).or_else(|| kept_on(world, setting, &mut ends))
    };
    let Space { worlds, failure, .. } = visit(setting, MOST, fails);
    println!("{name}: from {worlds} worlds: {ends:?}");
    assert_eq!(failure, None, "{name}");
    assert!(ends.aborted > 0, "{name}: {ends:?}");
    ends
}

#[test]
fn every_phase_ends_by_the_time_that_its_gate_says_though_nobody_says_a_word() {
    let settings = [
        ("plain", Setting { handshake: 1, ..PLAIN }),
        ("skew", Setting { skew: 1, client_leaf: 1, client_requests: 1, ticks: 1, ..PLAIN }),
        ("agent restarts", Setting { agent_crashes: 1, ticks: 0, ..PLAIN }),
        ("replica restarts", Setting { replica_crashes: 1, ticks: 0, ..PLAIN }),
        ("lost disk", Setting { replica_crashes: 1, disk_is_lost: true, ..PLAIN }),
    ];
    for (name, setting) in settings {
        all_end(name, &setting);
    }
}

#[test]
fn they_do_whatever_an_operator_aborts_takes_back_or_lets_go_forward() {
    all_end("operator", &Setting { operator: true, ticks: 0, ..PLAIN });
}

fn all_end(name: &str, setting: &Setting) {
    let ends = walked(name, setting);
    assert!(ends.in_time > 100 && ends.early > 100 && ends.endless == 0, "{name}: {ends:?}");
}

#[test]
fn what_only_somebodys_word_ends_is_said_to_have_no_end() {
    let settings = [
        ("own trust", Setting { secrets: 0, ..PLAIN }),
        ("confirmation", Setting { secrets: 0, covered: true, ..PLAIN }),
        ("unable", Setting { unable: true, ..PLAIN }),
    ];
    for (name, setting) in settings {
        assert!(walked(name, &setting).endless > 0, "{name}");
    }
}
