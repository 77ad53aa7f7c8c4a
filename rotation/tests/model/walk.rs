//! Breadth first, so that the first failure is a shortest one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};

use rotation::Phase;

use crate::fingerprint::{Fingerprints, Folded};
use crate::mesh::{Setting, World};
use crate::moves::{Move, moves};

/// What a walk saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) worlds: usize,
    pub(crate) phases: [usize; 5],
    /// The moves to the first failing handshake, and what failed.
    pub(crate) failure: Option<(Vec<String>, String)>,
}

/// Walks until a handshake fails, everything is seen, or `most` worlds were.
pub(crate) fn walk(setting: &Setting, most: usize) -> Seen {
    let first = World::start(setting);
    let mut came: HashMap<u64, (u64, Move), Fingerprints> =
        HashMap::from_iter([(fingerprint(&first), (0, Move::default()))]);
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

/// What a walk that keeps no way back saw.
#[derive(Debug, Default)]
pub(crate) struct Space {
    pub(crate) worlds: usize,
    pub(crate) moves: usize,
    /// Most moves from the start that the walk was away.
    pub(crate) depth: usize,
    pub(crate) phases: [usize; 5],
    /// What failed first.
    pub(crate) failure: Option<String>,
}

/// Walks everything, depth first, and remembers of each world only 64 bits: with 100 million worlds two of them share
/// these by chance once in 3,700 such walks.
pub(crate) fn exhaust(setting: &Setting, most: usize) -> Space {
    visit(setting, most, |world| world.failing(setting))
}

/// The same, for whatever may fail in a world.
pub(crate) fn visit(
    setting: &Setting,
    most: usize,
    mut fails: impl FnMut(&World) -> Option<String>,
) -> Space {
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
        if let Some(failing) = fails(&world) {
            space.failure = Some(failing);
            return space;
        }
        let next = moves(&world, setting);
        space.moves += next.len();
        stack.push(
            next.into_iter()
                .map(|(_, world)| world)
                .filter(|w| seen.insert(fingerprint(w)))
                .collect(),
        );
    }
    space
}

fn phase(world: &World) -> usize {
    match world.record.phase {
        Phase::Distributing(_) => 0,
        Phase::Draining(_) => 1,
        Phase::Withdrawing(_) => 2,
        Phase::Canary(_) => 4,
        _ => 3,
    }
}

fn path(came: &HashMap<u64, (u64, Move), Fingerprints>, mut at: u64) -> Vec<String> {
    let mut path = Vec::new();
    while let Some((from, name)) = came.get(&at).filter(|(from, _)| *from != 0) {
        path.push(name.to_string());
        at = *from;
    }
    path.reverse();
    path
}

fn fingerprint(world: &World) -> u64 {
    let mut hasher = Folded::default();
    world.hash(&mut hasher);
    hasher.finish()
}
