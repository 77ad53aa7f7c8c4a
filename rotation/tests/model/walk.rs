//! Breadth first, so that the first failure is a shortest one.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use rotation::Phase;

use crate::mesh::{Setting, World};
use crate::moves::moves;

/// What a walk saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) worlds: usize,
    pub(crate) phases: [usize; 4],
    /// The moves to the first failing handshake, and what failed.
    pub(crate) failure: Option<(Vec<String>, String)>,
}

/// Walks until a handshake fails, everything is seen, or `most` worlds were.
pub(crate) fn walk(setting: &Setting, most: usize) -> Seen {
    let first = World::start(setting);
    let mut came: HashMap<u64, (u64, String)> = HashMap::from([(fingerprint(&first), (0, String::new()))]);
    let mut queue = VecDeque::from([first]);
    let mut seen = Seen::default();
    while let Some(world) = queue.pop_front() {
        seen.worlds += 1;
        assert!(seen.worlds <= most, "more than {most} worlds: {setting:?}");
        seen.phases[phase(&world)] += 1;
        let here = fingerprint(&world);
        if let Some(failing) = world.failing(setting) {
            seen.failure = Some((path(&came, here), failing));
            return seen;
        }
        for (name, next) in moves(&world, setting) {
            let there = fingerprint(&next);
            came.entry(there).or_insert_with(|| {
                queue.push_back(next);
                (here, name)
            });
        }
    }
    seen
}

fn phase(world: &World) -> usize {
    match world.record.phase {
        Phase::Distributing(_) => 0,
        Phase::Draining(_) => 1,
        Phase::Withdrawing(_) => 2,
        _ => 3,
    }
}

fn path(came: &HashMap<u64, (u64, String)>, mut at: u64) -> Vec<String> {
    let mut path = Vec::new();
    while let Some((from, name)) = came.get(&at).filter(|(from, _)| *from != 0) {
        path.push(name.clone());
        at = *from;
    }
    path.reverse();
    path
}

fn fingerprint(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}
