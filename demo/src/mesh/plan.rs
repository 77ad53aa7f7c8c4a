//! Which fault comes when: spread over the rotations as they were asked for, or drawn from a seed.

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};

use crate::options::{DemoOptions, Fault, StoreEngine};

/// Faults in one rotation are at most so many.
const AT_ONCE_MAX: u64 = 2;

/// A phase of a rotation in which something is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The new root goes to everybody.
    Distributing,
    /// The new root signs.
    Draining,
    /// The old root leaves.
    Withdrawing,
}

/// One fault, and when it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// In which rotation, from 1 on.
    pub rotation: u32,
    /// In which of its phases.
    pub phase: Phase,
    /// What it is.
    pub fault: Fault,
    /// Which agent or proxy it hits, if it is about one: its place.
    pub member: usize,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Distributing, Self::Draining, Self::Withdrawing];

    /// As the CA has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Distributing => "distributing",
            Self::Draining => "draining",
            Self::Withdrawing => "withdrawing",
        }
    }
}

/// Where a fault comes that was asked for by name.
const fn usual_phase(fault: Fault) -> Phase {
    match fault {
        Fault::KillCa | Fault::PauseCa | Fault::KillStoreLeader | Fault::RestartProxy => {
            Phase::Draining
        }
        Fault::PartitionAgent
        | Fault::FreezeProxy
        | Fault::RestartAgent
        | Fault::KillReplica
        | Fault::PauseReplica
        | Fault::PartitionStore
        | Fault::UnableProxy
        | Fault::Random => Phase::Distributing,
    }
}

/// Whether a fault hits a server or the store, of which one at a time is enough.
const fn hits_servers(fault: Fault) -> bool {
    match fault {
        Fault::KillCa
        | Fault::PauseCa
        | Fault::KillReplica
        | Fault::PauseReplica
        | Fault::PartitionStore
        | Fault::KillStoreLeader => true,
        Fault::PartitionAgent
        | Fault::FreezeProxy
        | Fault::RestartAgent
        | Fault::RestartProxy
        | Fault::UnableProxy
        | Fault::Random => false,
    }
}

/// Whether two faults are not at the same time: of one kind, or both of servers.
pub fn is_too_much(one: Planned, other: Planned) -> bool {
    one.fault == other.fault || hits_servers(one.fault) && hits_servers(other.fault)
}

/// Spreads faults over rotations; without rotations all belong to the first.
pub fn spread(faults: &[Fault], rotations: u32, members: usize) -> Vec<Planned> {
    let last = members.saturating_sub(1);
    // That one is there from the start: `unable`.
    let faults = faults.iter().filter(|fault| **fault != Fault::UnableProxy);
    let planned = faults.zip(0..).map(|(fault, place): (&Fault, u32)| Planned {
        rotation: place.checked_rem(rotations).map_or(1, |turn| turn + 1),
        phase: usual_phase(*fault),
        fault: *fault,
        member: if matches!(fault, Fault::PartitionAgent | Fault::FreezeProxy) { last } else { 0 },
    });
    planned.collect()
}

/// The kinds that a mesh like this can have.
pub fn kinds(options: &DemoOptions) -> Vec<Fault> {
    let mut kinds = vec![Fault::PartitionAgent, Fault::FreezeProxy, Fault::RestartAgent];
    if options.envoy.is_none() {
        kinds.push(Fault::RestartProxy);
    }
    match options.replicas {
        1 => kinds.extend([Fault::KillCa, Fault::PauseCa]),
        _ => kinds.extend([Fault::KillReplica, Fault::PauseReplica, Fault::PartitionStore]),
    }
    if options.engine() == StoreEngine::Etcd {
        kinds.push(Fault::KillStoreLeader);
    }
    kinds
}

/// Draws one or two faults for each rotation, the same for the same seed. Each kind comes as often as any other, and in each phase
/// as often as in any other, up to one.
pub fn drawn(seed: u64, rotations: u32, kinds: &[Fault], members: usize) -> Vec<Planned> {
    let mut draws = Draws { seed, turn: 0 };
    let mut to_come: Vec<Fault> = Vec::new();
    let mut phases: BTreeMap<&str, Vec<Phase>> = BTreeMap::new();
    let mut planned = Vec::new();
    for rotation in 1..=rotations {
        let wanted = draws.below(AT_ONCE_MAX) + 1;
        let mut now: Vec<Planned> = Vec::new();
        for _ in 0..wanted {
            let fits = |fault: &Fault| {
                !now.iter().any(|other| {
                    other.fault == *fault || hits_servers(other.fault) && hits_servers(*fault)
                })
            };
            if !to_come.iter().any(fits) {
                let more = draws.shuffled(kinds);
                to_come.extend(more);
            }
            let Some(place) = to_come.iter().position(fits) else { break };
            let fault = to_come.remove(place);
            let left = phases.entry(fault.name()).or_default();
            if left.is_empty() {
                *left = draws.shuffled(&Phase::ALL);
            }
            let Some(phase) = left.pop() else { break };
            let mut member = draws.place(members);
            if now.iter().any(|other| other.member == member) {
                member = (member + 1) % members.max(1);
            }
            now.push(Planned { rotation, phase, fault, member });
        }
        planned.extend(now);
    }
    planned
}

/// Numbers that depend on the seed alone, on every machine.
struct Draws {
    seed: u64,
    turn: u64,
}

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        let input = [self.seed.to_be_bytes(), self.turn.to_be_bytes()].concat();
        self.turn += 1;
        let hash = digest(&SHA256, &input);
        let number = hash.as_ref().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        number.checked_rem(bound).unwrap_or_default()
    }

    fn place(&mut self, of: usize) -> usize {
        usize::try_from(self.below(of as u64)).unwrap_or_default()
    }

    fn shuffled<T: Copy>(&mut self, all: &[T]) -> Vec<T> {
        let (mut left, mut shuffled) = (all.to_vec(), Vec::new());
        while !left.is_empty() {
            shuffled.push(left.remove(self.place(left.len())));
        }
        shuffled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Fault; 6] = [
        Fault::PartitionAgent,
        Fault::FreezeProxy,
        Fault::RestartAgent,
        Fault::RestartProxy,
        Fault::KillCa,
        Fault::PauseCa,
    ];

    #[test]
    fn a_seed_draws_the_same_plan_every_time_and_another_one_another() {
        let plan = |seed| drawn(seed, 50, &KINDS, 12);
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
        let first = Planned {
            rotation: 1,
            phase: Phase::Draining,
            fault: Fault::PartitionAgent,
            member: 3,
        };
        assert_eq!(plan(7)[0], first, "the plan of a seed never changes");
    }

    #[test]
    fn in_fifty_rotations_every_kind_comes_five_times_and_in_every_phase() {
        for seed in 0..500 {
            let plan = drawn(seed, 50, &KINDS, 12);
            for kind in KINDS {
                let of =
                    |phase| plan.iter().filter(move |one| one.fault == kind && one.phase == phase);
                let each = Phase::ALL.map(|phase| of(phase).count());
                let (least, most) = (each.iter().min().unwrap(), each.iter().max().unwrap());
                assert!(each.iter().sum::<usize>() >= 5, "seed {seed}: {kind:?} {each:?}");
                assert!(*least >= 1 && most - least <= 1, "seed {seed}: {kind:?} {each:?}");
            }
        }
    }

    #[test]
    fn what_comes_together_is_of_two_kinds_and_two_members_and_of_one_server_at_most() {
        for seed in 0..200 {
            let plan = drawn(seed, 20, &KINDS, 4);
            for rotation in 1..=20 {
                let now: Vec<_> = plan.iter().filter(|one| one.rotation == rotation).collect();
                assert!((1..=2).contains(&now.len()), "{now:?}");
                if let [one, other] = now[..] {
                    assert!(one.fault != other.fault && one.member != other.member, "{now:?}");
                    assert!(!(hits_servers(one.fault) && hits_servers(other.fault)), "{now:?}");
                }
            }
        }
    }

    #[test]
    fn faults_by_name_are_spread_over_the_rotations() {
        let plan = spread(&[Fault::KillCa, Fault::FreezeProxy, Fault::RestartAgent], 2, 12);
        let seen: Vec<_> = plan.iter().map(|one| (one.rotation, one.phase, one.member)).collect();
        let expected =
            [(1, Phase::Draining, 0), (2, Phase::Distributing, 11), (1, Phase::Distributing, 0)];
        assert_eq!(seen, expected);
    }
}
