//! Breadth first to the first failure, or depth first through everything.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};

use rotation::Phase;

use super::moves::moves;
use super::{Setting, World};
use crate::fingerprint::{Fingerprints, Folded};

/// The shortest way to a handshake that fails, if one is within so many worlds, and how many were seen by then.
pub(super) fn shortest(setting: &Setting, most: usize) -> (usize, Option<(Vec<String>, String)>) {
    let first = World::start(setting);
    let mut came: HashMap<u64, (u64, String), Fingerprints> =
        HashMap::from_iter([(fingerprint(&first), (0, String::new()))]);
    let mut queue = VecDeque::from([first]);
    let mut worlds = 0;
    while let Some(world) = queue.pop_front() {
        worlds += 1;
        if worlds > most {
            return (most, None);
        }
        let here = fingerprint(&world);
        if let Some(failing) = world.failing(setting) {
            let mut path = Vec::new();
            let mut at = here;
            while let Some((from, name)) = came.get(&at).filter(|(from, _)| *from != 0) {
                path.push(name.clone());
                at = *from;
            }
            path.reverse();
            return (worlds, Some((path, failing)));
        }
        for (name, next) in moves(&world, setting) {
            came.entry(fingerprint(&next)).or_insert_with(|| {
                queue.push_back(next);
                (here, name)
            });
        }
    }
    (worlds, None)
}

/// What a walk through everything saw.
#[derive(Debug, Default)]
pub(super) struct Space {
    pub(super) worlds: usize,
    pub(super) moves: usize,
    pub(super) depth: usize,
    pub(super) phases: [usize; 4],
    pub(super) failure: Option<String>,
}

/// Walks everything, and remembers of each world only 64 bits.
pub(super) fn exhaust(setting: &Setting, most: usize) -> Space {
    let first = World::start(setting);
    let mut seen: HashSet<u64, Fingerprints> = HashSet::from_iter([fingerprint(&first)]);
    let mut stack = vec![vec![first]];
    let mut space = Space::default();
    while let Some(level) = stack.last_mut() {
        let Some(world) = level.pop() else {
            stack.pop();
            continue;
        };
        space.worlds += 1;
        space.depth = space.depth.max(stack.len());
        space.phases[phase(&world)] += 1;
        assert!(space.worlds <= most, "more than {most} worlds: {setting:?}");
        if let Some(failing) = world.failing(setting) {
            space.failure = Some(failing);
            return space;
        }
        let next = moves(&world, setting);
        space.moves += next.len();
        let new = next.into_iter().map(|(_, world)| world);
        stack.push(new.filter(|world| seen.insert(fingerprint(world))).collect());
    }
    space
}

fn phase(world: &World) -> usize {
    match world.record.phase {
        Phase::Distributing(_) => 0,
        Phase::Draining(_) => 1,
        Phase::Withdrawing(_) => 2,
        _ => 3,
    }
}

fn fingerprint(world: &World) -> u64 {
    let mut hasher = Folded::default();
    world.hash(&mut hasher);
    hasher.finish()
}
