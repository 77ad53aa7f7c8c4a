//! Nothing fails with every protection in place; something does without any one of them.

use super::walk::{Space, exhaust, shortest};
use super::{Setting, Without};

/// More worlds than a walk of the gate may have.
const MOST: usize = 2_000_000;

/// The same for a walk by hand.
const WHOLE_MOST: usize = 20_000_000;

/// Two replicas and a request of the client at the second; nothing breaks.
const PLAIN: Setting = Setting {
    without: Without::Nothing,
    ticks: 2,
    handshake: 0,
    bound: 1,
    client_leaf: 1,
    requests: [0, 1],
    proxy: false,
    lease: 1,
    staleness: 0,
    cuts: 0,
    crashes: 0,
    disk_is_lost: false,
    rolls_back: false,
};

/// A request that waits at a replica for as long as its bound, while a gate rests on that bound and the operator rolls back.
const ROLLED_BACK: Setting = Setting { proxy: true, rolls_back: true, ..PLAIN };

/// A replica that crashes and comes back without its disk.
const LOST: Setting =
    Setting { requests: [1, 0], proxy: true, crashes: 1, disk_is_lost: true, ..PLAIN };

/// Handshakes in flight, and two replicas that report on two clocks.
const OBSERVERS: Setting =
    Setting { requests: [1, 0], proxy: true, ticks: 1, handshake: 1, bound: 2, ..PLAIN };

/// A reader of bundles, and a replica that is cut off from the record.
const READERS: Setting = Setting { requests: [1, 0], ticks: 3, staleness: 1, cuts: 1, ..PLAIN };

/// The same with a lease as long as a reader's trust, so that what is counted too early is seen.
const LEASES: Setting = Setting { ticks: 4, lease: 2, staleness: 2, ..READERS };

fn safe(name: &str, setting: &Setting, most: usize) -> Space {
    let space = exhaust(setting, most);
    println!(
        "two replicas, {name}: {} states, {} transitions, depth {}, by phase {:?}",
        space.worlds, space.moves, space.depth, space.phases
    );
    if space.failure.is_some() {
        let (_, failure) = shortest(setting, most);
        let (path, failing) = failure.unwrap();
        panic!("{name}: {failing}\n{}", path.join("\n"));
    }
    // A reader's trust holds the last gate for longer than its walk goes.
    let ends = setting.staleness == 0;
    let walked = space.phases.get(..if ends { 4 } else { 3 });
    assert!(
        walked.is_some_and(|phases| phases.iter().all(|worlds| *worlds > 0)),
        "{name} goes through every phase"
    );
    space
}

fn broken(name: &str, setting: Setting, without: Without) {
    let (worlds, failure) = shortest(&Setting { without, ..setting }, MOST);
    let (path, failing) = failure
        .unwrap_or_else(|| panic!("{name} without {without:?} fails nowhere in {worlds} worlds"));
    println!("{name} without {without:?}: {worlds} worlds, {} moves: {failing}", path.len());
    println!("    {}", path.join("; "));
}

#[test]
fn two_replicas_keep_every_handshake() {
    safe("plain", &PLAIN, MOST);
}

#[test]
fn a_passed_bound_never_comes_back() {
    broken("rolled back", ROLLED_BACK, Without::PassedBound);
}

#[test]
fn rows_that_went_with_a_disk_count_until_their_bound() {
    broken("disk lost", LOST, Without::SegmentBound);
}

#[test]
fn a_settle_time_is_counted_on_one_clock() {
    broken("two observers", OBSERVERS, Without::Observer);
}

#[test]
fn a_replica_without_a_lease_tells_no_reader_of_a_former_bundle() {
    broken("readers", READERS, Without::Lease);
}

#[test]
fn a_bundle_is_in_force_once_no_replica_that_may_answer_has_a_former_one() {
    broken("leases", LEASES, Without::InForceAtAll);
}

#[test]
fn a_lease_is_renewed_by_who_serves_what_the_record_says() {
    broken("readers", READERS, Without::RecordBeforeLease);
}

/// Worlds of a setting that is too large to be walked to its end; the failures of all removals are nearer.
const NEARBY: usize = 400_000;

#[test]
#[ignore = "takes minutes: cargo xtask model"]
fn larger_settings_of_two_replicas_meet_no_failure_nearby() {
    for (name, setting) in
        [("rolled back", ROLLED_BACK), ("two observers", OBSERVERS), ("readers", READERS)]
    {
        let (worlds, failure) = shortest(&setting, NEARBY);
        if let Some((path, failing)) = failure {
            panic!("{name}: {failing}\n{}", path.join("\n"));
        }
        println!("two replicas, {name}: the {worlds} states nearest to the start");
    }
}

/// Each walked to its end: `cargo xtask model`. With a proxy beside the client most are too large for that.
const WHOLE: [(&str, Setting); 3] = [
    ("a request at each", Setting { requests: [1, 1], ..PLAIN }),
    ("readers", READERS),
    ("leases", LEASES),
];

#[test]
#[ignore = "takes minutes: cargo xtask model"]
fn two_replicas_are_safe_in_every_order_of_larger_settings() {
    let spaces = WHOLE.map(|(name, setting)| safe(name, &setting, WHOLE_MOST));
    println!(
        "FIGURE-PAIR states {} transitions {} settings {}",
        spaces.iter().map(|space| space.worlds).sum::<usize>(),
        spaces.iter().map(|space| space.moves).sum::<usize>(),
        spaces.len()
    );
}
