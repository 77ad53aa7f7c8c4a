//! What the simulation is good for: seeds in which all holds, seeds that replay exactly, and broken parts that it notices.
//!
//! All of it needs a tokio whose choices follow from a seed: `cargo xtask simulate --check` builds it so and runs these tests.
#![cfg(tokio_unstable)]

use std::collections::BTreeSet;
use std::process::Command;

use simulation::{Broken, Options, Outcome, run};

/// A broken part is found within so many seeds.
const SEEDS_MAX: u64 = 60;

fn outcome(seed: u64, broken: Option<Broken>) -> Outcome {
    run(seed, Options { broken, ..Options::default() }).unwrap()
}

/// The first seed in which a broken part is noticed, and what was said of it.
fn found(broken: Broken) -> (u64, String) {
    (0..SEEDS_MAX)
        .find_map(|seed| Some((seed, outcome(seed, Some(broken)).violation?)))
        .unwrap_or_else(|| panic!("{broken:?} was not noticed within {SEEDS_MAX} seeds"))
}

#[test]
fn every_broken_part_is_noticed() {
    for broken in Broken::ALL {
        let (seed, violation) = found(broken);
        println!("{broken:?}: seed {seed}: {violation}");
        assert_eq!(outcome(seed, None).violation, None, "seed {seed} without it");
    }
}

#[test]
fn a_seed_replays_exactly_in_another_process_whatever_ran_before_it() {
    let program = env!("CARGO_BIN_EXE_simulation");
    let trace = |range: &str| {
        let output = Command::new(program).args([range, "--trace"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for seed in [3, 4] {
        let alone = trace(&format!("{seed}..{}", seed + 1));
        let (lines, _) = alone.rsplit_once("simulate:").unwrap();
        assert!(lines.lines().count() > 500, "{lines}");
        let before = trace(&format!("{}..{}", seed - 1, seed + 1));
        assert!(before.contains(lines), "seed {seed} went otherwise after another");
        assert_eq!(alone, trace(&format!("{seed}..{}", seed + 1)), "seed {seed}");
    }
}

#[test]
fn seeds_differ() {
    let digests: BTreeSet<u64> = (0..4).map(|seed| outcome(seed, None).digest).collect();
    assert_eq!(digests.len(), 4);
}
